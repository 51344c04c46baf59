"""`fetch_model`: out of a package, checked, whole or not at all; and nothing else fetches."""

import hashlib
import shutil
import subprocess
import zipfile
from dataclasses import replace

import pytest
from click.testing import CliRunner

import cli
from finetune.student import Student
from programs.ui import doctor
from r2p_dspy.engines import TransformersEngine, connect, fetch, fetch_model
from r2p_dspy.errors import ConfigError
from tests.ggufs import write_gguf

SMOLLM2 = fetch.PACKAGED["smollm2"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("R2P_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


@pytest.fixture
def wheels(tmp_path, monkeypatch):
    """A folder that is all of pip's index: it holds a wheel with a tiny model, which is `PACKAGED` as `tiny`."""
    pytest.importorskip("gguf")
    write_gguf(tmp_path / "tiny.gguf")
    content = (tmp_path / "tiny.gguf").read_bytes()
    folder = tmp_path / "wheels"
    folder.mkdir()
    write_wheel(folder, {"tiny_model/tiny.gguf": content})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setitem(
        fetch.PACKAGED,
        "tiny",
        replace(
            SMOLLM2,
            name="tiny",
            requirement="tiny-model==1.0",
            file="tiny_model/tiny.gguf",
            size=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
        ),
    )
    return folder


def write_wheel(folder, files):
    """A wheel that needs a package which is nowhere: pip must not look for it."""
    about = {
        "METADATA": "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\nRequires-Dist: no-such-package-anywhere\n",
        "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "RECORD": "",
    }
    files = files | {f"tiny_model-1.0.dist-info/{name}": text for name, text in about.items()}
    with zipfile.ZipFile(folder / "tiny_model-1.0-py3-none-any.whl", "w") as wheel:
        for name, content in files.items():
            wheel.writestr(name, content)


def run(*arguments):
    return CliRunner().invoke(cli.cli, arguments)


def left_in(cache):
    return [path.name for path in cache.glob("*") if path.suffix != ".lock"]


class TestFetched:
    def test_is_a_model_for_every_command(self, wheels, cache):
        result = run("models", "get", "tiny")
        assert result.exit_code == 0, result.output
        assert "next: python cli.py evaluate --model tiny" in result.stdout and "tiny-model==1.0" in result.stderr
        directory = fetch.PACKAGED["tiny"].directory
        assert left_in(cache) == [directory.name] and not (directory / "download").exists()
        assert f"{directory.name} in the cache" in run("models").stdout
        assert connect("tiny", max_tokens=4, cache=False)("Hello")[0]
        assert TransformersEngine.shared("tiny").model_name.startswith("local/tiny-")
        assert Student.load("tiny").context == 512

    def test_second_time_downloads_nothing(self, wheels):
        first = fetch_model("tiny")
        shutil.rmtree(wheels)
        assert fetch_model("tiny") == first

    def test_is_the_same_as_its_gguf_file(self, wheels, tmp_path, cache):
        connect(f"gguf:{tmp_path / 'tiny.gguf'}")
        shutil.rmtree(wheels)
        assert fetch_model("tiny").name in left_in(cache)


class TestRefused:
    def test_package_that_is_nowhere(self, wheels, cache):
        shutil.rmtree(wheels)
        self.check("tiny", "tiny-model==1.0 cannot be downloaded (ERROR: No matching distribution", cache)

    def test_package_with_another_file(self, wheels, cache):
        write_wheel(wheels, {"tiny_model/tiny.gguf": b"GGUF, but forged"})
        self.check("tiny", "is not the expected one", cache)

    def test_package_without_the_file(self, wheels, cache):
        write_wheel(wheels, {"tiny_model/other.gguf": b""})
        self.check("tiny", "does not hold tiny_model/tiny.gguf", cache)

    def test_package_with_a_larger_file(self, wheels, cache):
        write_wheel(wheels, {"tiny_model/tiny.gguf": bytes(10**6)})
        self.check("tiny", "is not the expected one", cache)

    def test_unknown_name(self, cache):
        self.check("gpt-5", "there is smollm2", cache)

    @staticmethod
    def check(name, said, cache):
        result = run("models", "get", name)
        assert result.exit_code == 2 and left_in(cache) == []
        line = result.stderr.splitlines()[-1]
        assert line.startswith("Error: ") and said in line, result.stderr


class TestNothingElseFetches:
    @pytest.fixture(autouse=True)
    def no_pip(self, monkeypatch):
        def started(*arguments, **options):
            raise AssertionError("a process was started")

        monkeypatch.setattr(subprocess, "run", started)

    def test_name_says_how_to_fetch(self):
        result = run("evaluate", "--model", "smollm2", "--limit", "2")
        assert result.exit_code == 2 and result.stderr.count("\n") == 1
        assert "python cli.py models get smollm2" in result.stderr

    @pytest.mark.parametrize("use", [connect, TransformersEngine, TransformersEngine.shared])
    def test_in_python_too(self, use):
        with pytest.raises(ConfigError, match=r"r2p_dspy\.engines\.fetch_model\('smollm2'\)"):
            use("smollm2")

    def test_program_of_a_stranger(self, cache):
        with pytest.raises(ConfigError, match="not here"):
            TransformersEngine.load_state({"source": "smollm2", "fingerprint": "0" * 16})
        assert not cache.exists()

    def test_models_and_doctor_show_it(self):
        said = run("models").stdout
        assert all(name in said for name in ("pocket", "smollm2", "gguf:FILE", "hf:DIR_OR_NAME", "Apache-2.0", "93 MB"))
        finding = next(finding for finding in doctor.findings() if finding.what == "smollm2")
        assert finding.ok is None and "models get smollm2" in finding.detail


@pytest.mark.slow
def test_smollm2_answers(tmp_path):
    pytest.importorskip("gguf")
    try:
        fetch_model("smollm2")
    except ConfigError as refusal:
        if "cannot be downloaded" not in str(refusal):
            raise
        pytest.skip(str(refusal))
    assert "Paris" in connect("smollm2", max_tokens=12, cache=False)("What is the capital of France?")[0]
