"""`doctor` looks at what commands need, and says what to do where it is not here."""

import pytest

from programs.ui import doctor
from tests.test_cli import run


def test_doctor_passes_here():
    result = run("doctor")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("ok") and "Python" in lines[0]
    assert any(line.startswith("ok") and "pocket model: local/pocket-" in line for line in lines)


@pytest.mark.parametrize(
    ("package", "mark", "code"), [("torch", "missing", 2), ("vllm", "-", 0)], ids=["needed", "optional"]
)
def test_missing_package_names_its_extra(monkeypatch, package, mark, code):
    version = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == package else version(name) or "1")
    monkeypatch.setattr(doctor, "_pocket", lambda: (True, "answers"))
    result = run("doctor")
    said = next(line for line in result.stdout.splitlines() if f"{package} not installed" in line)
    assert said.startswith(mark) and "pip install '.[" in said and result.exit_code == code


def test_failing_model_is_one_line(monkeypatch):
    def fails():
        raise OSError("no weights here")

    monkeypatch.setattr(doctor, "_pocket", fails)
    result = run("doctor")
    assert result.exit_code == 2 and "pocket model: OSError: no weights here" in result.stdout


def test_missing_runs_directory(tmp_path):
    finding = next(finding for finding in doctor.findings(tmp_path / "not" / "there") if finding.what == "runs")
    assert finding.ok is True and "GB free" in finding.detail
