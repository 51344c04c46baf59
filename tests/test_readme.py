"""What the README and the docs show is true: the code runs, the commands exist, the links lead somewhere."""

import contextvars
import re
from pathlib import Path

import dspy
import pytest
from click.testing import CliRunner

import cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()


@pytest.fixture
def unconfigured():
    """The README configures DSPy for its reader; here that ends with the test."""
    before = dspy.settings.lm
    yield
    dspy.configure(lm=before)


def run_blocks(text, name):
    """The names that the Python blocks of a page leave behind."""
    names = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        # In a context of its own, as in a fresh interpreter: no other test's settings lie over the configured ones.
        contextvars.Context().run(exec, compile(block, name, "exec"), names)
    return names


def test_readme_code_prints_what_it_shows(unconfigured, capsys):
    names = run_blocks(README, "README.md")
    shown = re.search(r"```text\n(.*?)\n```", README, re.DOTALL)[1]
    assert capsys.readouterr().out.strip() == shown
    answer = names["answer"]
    assert {item.id for item in answer.reasoning.cited} == {"m1", "m3"}
    assert answer.interventions and answer.violations == []


def test_readme_is_short():
    lines = README.splitlines()
    assert len(lines) <= 130 and max(map(len, lines)) <= 120


PAGES = [page for page in sorted((ROOT / "docs").glob("*.md")) if "```python" in page.read_text()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_of_docs_runs(unconfigured, page, tmp_path, monkeypatch):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)  # for what a page writes
    assert run_blocks(page.read_text(), page.name)


@pytest.mark.parametrize("line", re.findall(r"^python cli\.py (.*)$", README, re.MULTILINE))
def test_commands_take_these_options(line):
    command, *arguments = line.split()
    known = {name for option in cli.cli.commands[command].params for name in option.opts}
    assert {argument for argument in arguments if argument.startswith("--")} <= known
    assert CliRunner().invoke(cli.cli, [command, "--help"]).exit_code == 0


@pytest.mark.parametrize("target", re.findall(r"^make (\w+)", README, re.MULTILINE))
def test_make_targets_exist(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def links():
    pages = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    for page in (*pages, *sorted((ROOT / "docs").glob("*.md"))):
        for link in re.findall(r"\]\(([^)]+)\)", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)):
            if "://" not in link:
                yield page, link.partition("#")[0]


@pytest.mark.parametrize(("page", "link"), links(), ids=lambda part: getattr(part, "name", part))
def test_links_lead_somewhere(page, link):
    assert not link or (page.parent / link).exists()


@pytest.mark.parametrize("path", re.findall(r"`((?:r2p_dspy|programs|metrics|finetune)/[\w/]+\.py)`", ARCHITECTURE))
def test_architecture_names_real_files(path):
    assert (ROOT / path).exists()
