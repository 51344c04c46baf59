"""Runs in MLflow: what it is given, what it never gets, and what happens when it is missing or fails."""

import json
import sys
from pathlib import Path

import dspy
import pytest

from programs.runs import tracking
from programs.runs.reporter import Reporter
from tests.test_cli import report_of, run


class RecordingReporter(Reporter):
    def __init__(self):
        self.lines = []

    def say(self, line):
        self.lines.append(line)


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("/srv/runs", "sqlite:////srv/runs/mlflow.db"),
        ("file:///srv/runs%20of/us", "sqlite:////srv/runs of/us/mlflow.db"),
        ("runs", f"sqlite:///{Path.cwd() / 'runs' / 'mlflow.db'}"),
        ("sqlite:///own.db", "sqlite:///own.db"),
        ("http://localhost:5000", "http://localhost:5000"),
        ("databricks", "databricks"),
    ],
)
def test_directory_becomes_sqlite_store(uri, address):
    assert tracking.store(uri) == address


def test_metric_names_fit_mlflow():
    entry = {"baselines": {"always “one”": 0.1}, "tokens": {"prompt": 3}, "compliance": None, "lm": "x"}
    assert tracking.metrics({"programs": {"r2p:template": entry}}) == {
        "r2p-template/baselines.always -one-": 0.1,
        "r2p-template/tokens.prompt": 3.0,
    }


def test_missing_mlflow_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    result = run("evaluate", "--limit", 2, "--mlflow", tmp_path / "store", "--output", tmp_path / "run")
    assert result.exit_code == 2
    assert result.stderr == "Error: --mlflow needs mlflow: pip install '.[mlflow]'\n"
    assert not (tmp_path / "run").exists() and not (tmp_path / "store").exists()


def test_empty_address_is_refused():
    with pytest.raises(ValueError, match="--mlflow needs a directory"):
        tracking.connected(" ")


def test_mlflow_is_optional(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    assert tracking.connected(None) is None
    with tracking.tracked(None, tmp_path, "evaluate", {}, Reporter()):
        pass
    assert list(tmp_path.iterdir()) == []


class TestWithMLflow:
    """On a store in a directory."""

    @pytest.fixture(autouse=True)
    def client(self, tmp_path, monkeypatch):
        self.mlflow = pytest.importorskip("mlflow", reason="the extra is not installed")
        pytest.importorskip("sqlalchemy")
        monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
        self.store = tmp_path / "store"

    def runs(self):
        client = self.mlflow.MlflowClient(tracking.store(str(self.store)))
        experiment = client.get_experiment_by_name("r2p-dspy")
        return client, client.search_runs([experiment.experiment_id])

    def traces(self, client, run):
        return client.search_traces(locations=[run.info.experiment_id], max_results=100)

    @pytest.mark.slow
    def test_evaluation_is_logged_with_traces(self, tmp_path):
        directory = tmp_path / "run"
        result = run("evaluate", "--limit", 2, "--mlflow", self.store, "--output", directory)
        assert result.exit_code == 0, result.output + result.stderr
        client, [kept] = self.runs()
        assert (kept.info.status, kept.info.run_name, kept.data.tags["r2p.command"]) == ("FINISHED", "run", "evaluate")
        assert {"task": "lamp2", "limit": "2", "model": "pocket"}.items() <= kept.data.params.items()
        report = report_of(directory)
        for name in ("predict", "cot", "r2p"):
            accuracy = report["programs"][name]["metrics"]["accuracy"]["value"]
            assert kept.data.metrics[f"{name}/metrics.accuracy.value"] == accuracy
        assert [file.path for file in client.list_artifacts(kept.info.run_id)] == ["report.html", "report.json"]
        traces = self.traces(client, kept)
        assert len(traces) == 2 * 3, "two examples, three programs"
        assert {trace.info.trace_metadata["mlflow.sourceRun"] for trace in traces} == {kept.info.run_id}
        spans = [[span.name for span in trace.data.spans] for trace in traces]
        assert sum("R2P.forward" in names and "Reason.forward" in names for names in spans) == 2
        assert dspy.settings.callbacks == [] and not dspy.settings.track_usage, "it ends with the run"

    def test_compiled_program_is_logged(self, tmp_path, monkeypatch):
        monkeypatch.setattr("programs.data.dataset._DEV", 4)
        directory = tmp_path / "run"
        options = ("--limit", 1, "--optimizer", "bootstrap", "--mlflow", self.store, "--output", directory)
        result = run("compile", *options)
        assert result.exit_code == 0, result.output + result.stderr
        client, [kept] = self.runs()
        assert "program.json" in {file.path for file in client.list_artifacts(kept.info.run_id)}
        assert "compiled/calls" in kept.data.metrics

    @pytest.mark.slow
    def test_resumed_run_continues_its_mlflow_run(self, tmp_path):
        mlflow, reporter = tracking.connected(str(self.store)), RecordingReporter()
        report = {"programs": {"r2p": {"calls": 3}}}
        with pytest.raises(RuntimeError, match="killed"):
            with tracking.tracked(mlflow, tmp_path, "evaluate", {"task": "lamp2"}, reporter):
                raise RuntimeError("killed")
        _, [stopped] = self.runs()
        assert stopped.info.status == "FAILED"
        (tmp_path / "report.json").write_text(json.dumps(report))
        with tracking.tracked(tracking.connected(str(self.store)), tmp_path, "evaluate", {"task": "lamp2"}, reporter):
            pass
        _, [finished] = self.runs()
        assert finished.info.run_id == stopped.info.run_id
        assert (finished.info.status, finished.data.metrics) == ("FINISHED", {"r2p/calls": 3.0})

        self.store = tmp_path / "another"
        with tracking.tracked(tracking.connected(str(self.store)), tmp_path, "evaluate", {"task": "lamp2"}, reporter):
            pass
        assert len(self.runs()[1]) == 1
        assert reporter.lines == []

    def test_addresses_are_not_logged(self, tmp_path):
        address = "http://me:hunter2@host/v1"
        options = {"task": "lamp2", "api_base": address, "judge_api_base": address, "k": None}
        (tmp_path / "report.json").write_text('{"programs": {}}')
        (tmp_path / "config.json").write_text(json.dumps(options))
        with tracking.tracked(tracking.connected(str(self.store)), tmp_path, "evaluate", options, RecordingReporter()):
            pass
        client, [kept] = self.runs()
        assert kept.data.params == {"task": "lamp2"}
        assert [file.path for file in client.list_artifacts(kept.info.run_id)] == ["report.json"]
        assert b"hunter2" not in b"".join(path.read_bytes() for path in self.store.rglob("*") if path.is_file())

    def test_late_failure_is_reported_only(self, tmp_path, monkeypatch):
        (tmp_path / "report.json").write_text('{"programs": {}}')
        mlflow, reporter = tracking.connected(str(self.store)), RecordingReporter()

        def full(path):
            raise OSError("No space left on device")

        monkeypatch.setattr(mlflow, "log_artifact", full)
        with tracking.tracked(mlflow, tmp_path, "evaluate", {}, reporter):
            pass
        [line] = reporter.lines
        assert "No space left" in line and str(tmp_path) in line

    @pytest.mark.parametrize("uri", ["nowhere://x", "http://127.0.0.1:9", "sqlite:///{file}/x.db", "{file}/store"])
    def test_unusable_store_is_one_line(self, uri, tmp_path, monkeypatch):
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        result = run(
            "evaluate", "--limit", 2, "--mlflow", uri.format(file=tmp_path / "file"), "--output", tmp_path / "run"
        )
        assert result.exit_code == 2
        assert result.stderr.startswith("Error: --mlflow: the store cannot be used") and result.stderr.count("\n") == 1
        assert not (tmp_path / "run").exists()
