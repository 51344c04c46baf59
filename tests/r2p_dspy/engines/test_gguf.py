"""`gguf:FILE`: converted once into the cache, whole or not at all, and one line for a file that cannot be used."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from r2p_dspy.engines import connect, gguf_files
from r2p_dspy.engines.model_cache import building, check_room, converted_models, models_folder
from r2p_dspy.errors import ConfigError
from tests.ggufs import write_gguf

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("R2P_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    pytest.importorskip("gguf")
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_gguf(path)
    return path


def python(code, *arguments):
    """Start a Python process that runs this code on the library."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def left_in(cache):
    return sorted(path.name for path in cache.glob("*") if path.suffix != ".lock")


class TestConverted:
    def test_answers_and_is_converted_once(self, tiny, tmp_path, cache):
        lm = connect(f"gguf:{tiny}", max_tokens=4, cache=False)
        assert lm.model.startswith("local/tiny.gguf-") and lm("Hello")[0]
        [(directory, name)] = converted_models()
        assert directory.parent == cache and name == "tiny.gguf" and left_in(cache) == [directory.name]
        weights = directory / "model.safetensors"
        written = weights.stat().st_mtime_ns
        shutil.copy(tiny, tmp_path / "renamed.gguf")
        assert connect(f"gguf:{tmp_path / 'renamed.gguf'}", max_tokens=4, cache=False)("Hello") == lm("Hello")
        assert weights.stat().st_mtime_ns == written and left_in(cache) == [directory.name]

    def test_holds_the_weights_of_the_file(self, tmp_path):
        torch, _ = pytest.importorskip("torch"), pytest.importorskip("gguf")
        tensors = write_gguf(tmp_path / "tiny.gguf")
        engine = connect(f"gguf:{tmp_path / 'tiny.gguf'}").engine
        [(directory, _)] = converted_models()
        from safetensors.torch import load_file

        weights = load_file(directory / "model.safetensors")
        for name, theirs in [("model.embed_tokens", "token_embd"), ("model.layers.1.mlp.up_proj", "blk.1.ffn_up")]:
            expected = torch.from_numpy(tensors[f"{theirs}.weight"]).to(torch.bfloat16)
            assert torch.equal(weights[f"{name}.weight"], expected)
        assert engine.context_window == 512

    def test_another_file_under_the_same_name_is_another_model(self, tiny, tmp_path):
        file = tmp_path / "model.gguf"
        shutil.copy(tiny, file)
        first = connect(f"gguf:{file}").model
        write_gguf(file, layers=1)
        assert connect(f"gguf:{file}").model != first and len(converted_models()) == 2


def bad(name, tiny, folder):
    """A file that cannot be used."""
    file = folder / f"{name}.gguf"
    if name == "unknown":
        write_gguf(file, architecture="nonsense")
    elif name == "part":
        write_gguf(file, without="blk.1.ffn_up.weight")
    elif name == "text":
        file.write_text("# Read me")
    elif name == "folder":
        file.mkdir()
    elif name.isdigit():
        content = tiny.read_bytes()
        file.write_bytes(content[: len(content) * int(name) // 100])
    return file


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("unknown", "cannot be converted (GGUF model with architecture nonsense is not supported"),
        ("part", "cannot be converted (the file lacks model.layers.1.mlp.up_proj.weight"),
        ("1", "truncated or damaged"),
        ("5", "truncated or damaged"),
        ("50", "truncated or damaged"),
        ("99", "truncated or damaged"),
        ("text", "no GGUF file"),
        ("folder", "no such file"),
        ("missing", "no such file"),
    ],
)
def test_bad_file_is_one_line_and_leaves_nothing(name, said, tiny, tmp_path, cache):
    file = bad(name, tiny, tmp_path)
    with pytest.raises(ConfigError) as refusal:
        connect(f"gguf:{file}")
    assert said in str(refusal.value) and str(file) in str(refusal.value) and "\n" not in str(refusal.value)
    assert left_in(cache) == []


def test_missing_package_names_the_extra(tiny, monkeypatch):
    monkeypatch.setattr(gguf_files, "_NEEDED", ("no_such_package",))
    with pytest.raises(ConfigError, match=r"needs no_such_package: pip install '\.\[local\]'"):
        connect(f"gguf:{tiny}")


class TestCache:
    @pytest.mark.parametrize(
        ("r2p", "xdg", "expected"),
        [("/a", "/b", "/a/models"), ("", "/b", "/b/r2p-dspy/models"), ("", "b", "~/.cache/r2p-dspy/models")],
    )
    def test_is_where_the_environment_says(self, r2p, xdg, expected, monkeypatch):
        monkeypatch.setenv("R2P_CACHE", r2p)
        monkeypatch.setenv("XDG_CACHE_HOME", xdg)
        assert models_folder() == Path(expected).expanduser()

    def test_folder_that_cannot_be_written_is_one_line(self, tmp_path, monkeypatch):
        (tmp_path / "file").touch()
        monkeypatch.setenv("R2P_CACHE", str(tmp_path / "file"))
        with pytest.raises(ConfigError, match="cannot be written .*R2P_CACHE"), building(models_folder() / "x"):
            pass

    def test_small_disk_is_one_line(self, cache):
        cache.mkdir(parents=True)
        with pytest.raises(ConfigError, match=r"free and needs 1000000000 MB"):
            check_room(cache / "x", 10**15)

    def test_full_disk_leaves_nothing(self, tiny, cache):
        code = (
            "import sys, resource; from r2p_dspy import connect; from r2p_dspy.errors import ConfigError\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
            "try: connect('gguf:' + sys.argv[1])\n"
            "except ConfigError as error: print(error)"
        )
        process = python(code, tiny)
        said, _ = process.communicate(timeout=280)
        assert process.returncode == 0 and said.count("\n") == 1 and "cannot be converted" in said, said
        assert left_in(cache) == []

    def test_of_two_processes_one_builds_and_both_have_it(self, cache, tmp_path):
        code = (
            "import sys, time; from pathlib import Path; from r2p_dspy.engines.model_cache import building\n"
            "with building(Path(sys.argv[1])) as part:\n"
            "    if part is not None:\n"
            "        with open(sys.argv[2], 'a') as log: log.write('built ')\n"
            "        time.sleep(0.5)\n"
            "        (part / 'weights').write_text('whole')\n"
            "print((Path(sys.argv[1]) / 'weights').read_text())"
        )
        processes = [python(code, cache / "x", tmp_path / "log") for _ in range(2)]
        assert [process.communicate(timeout=120)[0] for process in processes] == ["whole\n", "whole\n"]
        assert (tmp_path / "log").read_text() == "built " and left_in(cache) == ["x"]

    def test_killed_process_leaves_no_model(self, cache):
        code = (
            "import os, signal, sys; from pathlib import Path; from r2p_dspy.engines.model_cache import building\n"
            "with building(Path(sys.argv[1])) as part:\n"
            "    (part / 'half').touch()\n"
            "    os.kill(os.getpid(), signal.SIGKILL)"
        )
        process = python(code, cache / "x")
        process.communicate(timeout=120)
        assert process.returncode == -9 and not (cache / "x").exists() and converted_models() == []
        with building(cache / "x") as part:
            (part / "whole").touch()
        assert [path.name for path in (cache / "x").iterdir()] == ["whole"] and left_in(cache) == ["x"]
