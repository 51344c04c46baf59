"""`doctor` looks at what commands need, and says what to do where it is not here."""

import pytest

from programs.ui import doctor
from tests.test_cli import run


def test_here_everything_that_is_needed_is_found():
    result = run("doctor")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("ok") and "Python" in lines[0]
    assert any(line.startswith("ok") and "pocket model: local/pocket-" in line for line in lines)


@pytest.mark.parametrize(
    ("package", "mark", "code"), [("torch", "missing", 2), ("vllm", "-", 0)], ids=["needed", "optional"]
)
def test_what_is_not_installed_is_named_with_what_installs_it(monkeypatch, package, mark, code):
    version = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == package else version(name) or "1")
    monkeypatch.setattr(doctor, "_pocket", lambda: (True, "answers"))
    result = run("doctor")
    said = next(line for line in result.stdout.splitlines() if f"{package} not installed" in line)
    assert said.startswith(mark) and "pip install '.[" in said and result.exit_code == code


def test_a_model_that_does_not_answer_is_said_and_no_traceback(monkeypatch):
    def fails():
        raise OSError("no weights here")

    monkeypatch.setattr(doctor, "_pocket", fails)
    result = run("doctor")
    assert result.exit_code == 2 and "pocket model: OSError: no weights here" in result.stdout


def test_where_runs_cannot_go_is_seen(tmp_path):
    found = next(one for one in doctor.findings(tmp_path / "not" / "there") if one.what == "runs")
    assert found.ok is True and "GB free" in found.detail
