"""The layers and rooms hold: imports go only down, folders and modules stay small, importing the library is light."""

import ast
import graphlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import dspy
import pytest

ROOT = Path(__file__).parents[1]
LAYERS = ("cli", "finetune", "programs", "metrics", "r2p_dspy")  # from the top
FILES = [ROOT / "cli.py", *sorted(path for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))]
FOLDERS = sorted({path.parent for path in FILES if path.name == "__init__.py"})
PRIVATE_NAMES_ALLOWED = {"r2p_dspy/dspy_internals.py", "r2p_dspy/prompting/adapter.py"}
TEXTS = {".py", ".md", ".toml", ".txt", ".json", ".yml", ".yaml", ".cfg", ".ini", ".sh", ".jinja", ""}


def name_of(path):
    return str(path.relative_to(ROOT))


def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"), name_of(path))


def imported(nodes):
    """Yield the full names that these nodes import, such as `r2p_dspy.checks.Check` or `click`."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"a relative import, line {node.lineno}"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_go_only_down(path):
    layer = path.relative_to(ROOT).with_suffix("").parts[0]
    above = {*LAYERS[: LAYERS.index(layer)], "tests", "benchmarks", "examples"}
    wrong = {name for name in imported(ast.walk(tree_of(path))) if name.split(".")[0] in above}
    assert not wrong, f"{layer} may not import {', '.join(sorted(wrong))}"


def test_no_module_imports_itself_through_others():
    """Imports inside functions count, and imports for types alone too."""
    modules = {name_of(path).removesuffix(".py").removesuffix("/__init__").replace("/", "."): path for path in FILES}
    graph = {}
    for module, path in modules.items():
        names = imported(ast.walk(tree_of(path)))
        graph[module] = {name if name in modules else name.rpartition(".")[0] for name in names} & modules.keys()
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


@pytest.mark.parametrize("folder", FOLDERS, ids=name_of)
def test_a_folder_holds_at_most_14_modules_and_says_what_lives_there(folder):
    modules = [path.name for path in folder.glob("*.py") if path.name != "__init__.py"]
    assert len(modules) <= 14, f"{len(modules)} modules: {', '.join(sorted(modules))}"
    docstring = ast.get_docstring(tree_of(folder / "__init__.py"))
    assert docstring and "\n" not in docstring and docstring.endswith(".")


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_module_has_at_most_300_lines(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300


def private(name):
    return name.startswith("_") and not name.startswith("__")


OBJECTS = (dspy.LM("a/b"), dspy.Prediction(), dspy.ChatAdapter(), dspy.Predict("a -> b"), dspy.Signature, dspy.Module())
PRIVATE_NAMES = set(filter(private, (name for part in OBJECTS for name in dir(part))))


def private_names(path):
    """Yield what a file uses of DSPy's private names: of its modules, of its objects, by `getattr` too."""
    nodes = list(ast.walk(tree_of(path)))
    for name in (*imported(nodes), *(ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute))):
        first, *parts = name.split(".")
        if first == "dspy" and any(map(private, parts)):
            yield name
    methods = [part for node in nodes if isinstance(node, ast.ClassDef) for part in node.body]
    named = (getattr(node, "attr", None) or getattr(node, "value", None) for node in nodes)
    yield from PRIVATE_NAMES.intersection(name for name in named if isinstance(name, str))
    yield from PRIVATE_NAMES.intersection(part.name for part in methods if hasattr(part, "name"))


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_private_names_of_dspy_stand_in_one_place(path):
    used = sorted(set(private_names(path)))
    assert not used or name_of(path) in PRIVATE_NAMES_ALLOWED, ", ".join(used)


def test_importing_the_library_is_light():
    heavy = ["torch", "transformers", "litellm", "sklearn", "datasets", "trl", "click", "rich", "programs", "metrics"]
    code = f"import sys, r2p_dspy; print(*[name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_help_needs_click_alone():
    """A plain `pip install .` brings click; every other package of the command line is an extra."""
    code = (
        "import sys; there = set(sys.modules); import cli;"
        "print(*{name.split('.')[0] for name in set(sys.modules) - there"
        " if 'site-packages' in (getattr(sys.modules[name], '__file__', None) or '')})"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["click"]
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert any(name.startswith("click") for name in dependencies)


def test_the_wheel_carries_the_library_alone():
    find = re.search(r"packages = \{ find = \{ include = \[(.*?)\] \} \}", (ROOT / "pyproject.toml").read_text())
    assert find[1] == '"r2p_dspy*"'
    # What the pattern would take of the checkout, and that nothing else is put in by another way.
    assert [path.name for path in ROOT.glob("r2p_dspy*") if path.is_dir() and not path.suffix] == ["r2p_dspy"]
    assert "py-modules" not in (ROOT / "pyproject.toml").read_text()


def test_every_folder_of_the_library_is_a_package():
    folders = {path.parent for path in (ROOT / "r2p_dspy").rglob("*.py")}
    assert not [folder for folder in folders if not (folder / "__init__.py").exists()]


def kept():
    """The files that the repository holds or is about to, as git lists them."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a checkout")
    return [ROOT / name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


def test_no_file_names_a_path_of_somebodys_machine():
    machine = re.compile(r"(?<![\w.~*])/(?:work|tmp|home|root|Users|opt|mnt)/\w")
    named = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}"
        for path in kept()
        if path.suffix in TEXTS
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if machine.search(line)
    ]
    assert not named


def test_version_is_the_same_everywhere():
    """`cli.py` cannot import it: the library imports DSPy."""
    lines = {
        "pyproject.toml": r'^version = "(.*)"',
        "r2p_dspy/version.py": r'__version__ = "(.*)"',
        "cli.py": r'version_option\("(.*?)"',
        "CITATION.cff": r"^version: (.*)",
    }
    found = {re.search(line, (ROOT / name).read_text(), re.MULTILINE)[1] for name, line in lines.items()}
    assert len(found) == 1
