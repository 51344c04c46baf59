"""Keep a run in MLflow: options, metrics, files, and a trace of every call. MLflow is an extra, imported on demand."""

import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import dspy

from programs.runs.directory import read_json, write_json
from programs.runs.reporter import Reporter
from r2p_dspy.errors import ConfigError, RunError

_EXPERIMENT = "r2p-dspy"
_MARK = "mlflow.json"  # in a run's directory: the id of its MLflow run, which a resumed run continues
# Options that may hold host names and passwords.
_ADDRESSES = ("api_base", "judge_api_base", "reflection_api_base")
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # runs go to the store and nowhere else
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # a wrong address shows within seconds
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


def store(uri: str) -> str:
    """The address of a store as MLflow takes it. A directory gets a database: MLflow keeps no new runs in plain files.

    Examples:
        >>> store("http://localhost:5000"), store("file:///srv/runs")
        ('http://localhost:5000', 'sqlite:////srv/runs/mlflow.db')
    """
    directory = _directory(uri)
    return uri if directory is None else f"sqlite:///{directory / 'mlflow.db'}"


def connected(uri: str | None) -> Any:
    """The MLflow module with its store set, None without a store; raises `ConfigError` if it cannot be used."""
    if uri is None:
        return None
    if not uri.strip():
        raise ConfigError("--mlflow needs a directory or the address of a store")
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import mlflow
        import mlflow.dspy
    except ImportError as missing:
        raise ConfigError(f"--mlflow needs {missing.name}: pip install '.[mlflow]'") from missing
    for name in ("mlflow", "alembic"):  # they log every table of a new database
        logging.getLogger(name).setLevel(logging.ERROR)
    directory, name = _directory(uri), os.environ.get("MLFLOW_EXPERIMENT_NAME", _EXPERIMENT)
    try:
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
        mlflow.set_tracking_uri(store(uri))
        if directory is not None and mlflow.get_experiment_by_name(name) is None:
            mlflow.create_experiment(name, artifact_location=(directory / "artifacts").as_uri())
        mlflow.set_experiment(name)
    except Exception as error:  # from MLflow, the file system, or a database driver
        raise _unusable(error) from error
    return mlflow


@contextmanager
def tracked(
    mlflow: Any, directory: Path, command: str, options: Mapping[str, Any], reporter: Reporter
) -> Iterator[None]:
    """Keep a run in MLflow: traces while it works, the report and the other files at its end.

    MLflow gets prompts, answers and demos, so it gets texts of users' histories. If MLflow fails at the end, the
    reporter says so: the run's directory is complete anyway. Without `mlflow`, from `connected`, nothing is kept.
    """
    if mlflow is None:
        yield
        return
    try:
        run = _run(mlflow, directory, command, options)
    except Exception as error:
        raise _unusable(error) from error
    usage = dspy.settings.track_usage
    with run:
        mlflow.dspy.autolog(silent=True)
        try:
            yield
        finally:
            mlflow.dspy.autolog(disable=True, silent=True)
            dspy.configure(track_usage=usage)  # tracing turns it on and leaves it on
        try:
            mlflow.flush_trace_async_logging()
            mlflow.log_metrics(metrics(read_json(directory / "report.json")))
            for path in sorted(directory.iterdir()):
                if path.suffix in (".json", ".png", ".html") and path.name not in (
                    "config.json",
                    _MARK,
                ):  # they hold addresses
                    mlflow.log_artifact(str(path))
        except Exception as error:
            reporter.say(f"MLflow failed ({_line(error)}); {directory} holds the whole run")


def metrics(report: Mapping[str, Any]) -> dict[str, float]:
    """Every number of a report's programs, by program and place in the report, in characters that MLflow takes.

    Examples:
        >>> metrics({"programs": {"r2p": {"metrics": {"accuracy": {"value": 0.9}}, "calls": 4, "cost_usd": None}}})
        {'r2p/metrics.accuracy.value': 0.9, 'r2p/calls': 4.0}
    """
    numbers = {
        f"{name}/{place}": number for name, entry in report["programs"].items() for place, number in _numbers(entry)
    }
    return {re.sub(r"[^\w.\- /]", "-", name): number for name, number in numbers.items()}


def _numbers(entry: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, float]]:
    for name, value in entry.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{before}{name}.")
        elif isinstance(value, int | float):
            yield f"{before}{name}", float(value)


def _run(mlflow: Any, directory: Path, command: str, options: Mapping[str, Any]) -> Any:
    """The MLflow run of the run that is resumed, or a new one."""
    mark = directory / _MARK
    if mark.exists():
        try:
            return mlflow.start_run(run_id=read_json(mark).get("run_id"))
        except (RunError, mlflow.MlflowException):  # the id cannot be read, or is of another store
            pass
    run = mlflow.start_run(run_name=directory.name, tags={"r2p.command": command})
    mlflow.log_params({name: given for name, given in options.items() if given is not None and name not in _ADDRESSES})
    write_json(mark, {"run_id": run.info.run_id})
    return run


def _directory(uri: str) -> Path | None:
    parts = urlsplit(uri)
    if parts.scheme == "file":
        return Path(url2pathname(parts.path)).absolute()
    return None if "://" in uri or uri.startswith("databricks") else Path(uri).absolute()


def _unusable(error: Exception) -> ConfigError:
    return ConfigError(f"--mlflow: the store cannot be used ({_line(error)}); check its address")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
