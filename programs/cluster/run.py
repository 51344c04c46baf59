"""Answer the rows of an input on a Ray cluster: partitions in, partitions out, and what was spent in one report."""

import json
import pickle
import time
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from programs.calls.prices import priced
from programs.cluster.connecting import absolute, check_installed, check_nodes, connected, node_names
from programs.cluster.mapping import capacity, mapped, pool
from programs.cluster.part import ANSWERS, Done, Part
from programs.cluster.partitions import Input, partitioned
from programs.cluster.worker import PartitionAnswerer, look_at_files, read_ids, repeated_ids
from programs.data.makers.sources import rows_of
from programs.predict.answerer import Predicted, deciding
from programs.predict.input_rows import is_official
from programs.runs.cautions import foreign_text
from programs.runs.configs import PredictConfig
from programs.runs.directory import Run, read_json
from programs.runs.reporter import Reporter
from programs.tasks.task_file import SUFFIXES, task_of
from r2p_dspy.engines.keys import without_credentials
from r2p_dspy.errors import ConfigError, R2PError, RunError
from r2p_dspy.version import __version__

_SQLITE = "sqlite:///"
_WEIGHTS = "model"  # the file of what the nodes say of the model
_REPEATED = "repeated_ids"  # the file of ids that stand in several partitions


def run_on_ray(config: PredictConfig, resume: bool, reporter: Reporter) -> Predicted:
    """Answer every row of an input on a Ray cluster, as `predict` does on one machine.

    The files of all partitions one after another are what `predict` writes. A worker that is lost is replaced, and its
    partition goes on where it stopped. Output and input must be where all nodes find them under the same path.

    Args:
        config: its target becomes the run's directory.
        resume: go on with the run that is there; its partitions that are done are left alone.
        reporter: shows progress.

    Raises:
        R2PError: (ConfigError, DataError, ArtifactError, RunError) one line on what is wrong with options, files, the
            cluster or its nodes.
        LMError: see `answer_rows`.
    """
    check_installed()
    if config.calls is not None:
        raise ConfigError("--calls is a file on one machine, which workers cannot share; leave it out with --ray")
    task = task_of(config.program.task)
    source = rows_of(task, str(config.source), reporter.say)
    if is_official(task, source):
        raise ConfigError(
            f"{source} is a JSON list, which cannot be read in parts; leave out --ray, or write JSONL rows"
        )
    rows = partitioned(task, source, config.partition_rows, stored=config.store is not None)
    store = None if config.store is None else without_credentials(config.store)
    record = {"command": "predict", "input": rows.fingerprint, **deciding(config, store)}
    record["partition_rows"] = config.partition_rows
    with connected(str(config.ray)), Run(config.target, record, resume) as run:
        away = _for_workers(config)
        try:
            _check_store(away)
            _check_weights(run, check_nodes(away.model, partial(look_at_files, away, source.absolute())))
        except R2PError:
            run.withdraw()
            raise
        for caution in foreign_text(config.model.name, str(source)):
            reporter.say(caution)
        return _answer(away, rows, run, reporter)


def _answer(config: PredictConfig, rows: Input, run: Run, reporter: Reporter) -> Predicted:
    """Answer the partitions that are not done, and write the report."""
    started, folder = time.monotonic(), run.path / ANSWERS
    folder.mkdir(0o700, exist_ok=True)
    parts = [Part(run.path, partition, config.cache) for partition in rows.partitions]
    known = [part.done() for part in parts]
    total = sum((done for done in known if done), Done())
    waiting = [part.partition for part, done in zip(parts, known, strict=True) if done is None]
    progress = reporter.start("predict", rows.rows, total.rows, "rows")
    workers = 0
    if waiting:
        room, needs = capacity(gpus=config.model.in_process)
        workers = min(config.ray_workers or room, len(waiting))
        repeated = _repeated(config, rows, run)
        given = [
            {"partition": partition.to_json(), "repeated": json.dumps(repeated.get(str(partition.number), {}))}
            for partition in waiting
        ]
        outcomes = mapped(given, PartitionAnswerer, needs, compute=pool(workers), fn_constructor_args=(config, run.id))
        with closing(outcomes):
            for outcome in outcomes:
                if outcome["error"]:
                    raise pickle.loads(outcome["error"])  # nosec B301  # of our own workers
                done = Done.from_json(outcome["done"])
                total += done
                for _ in range(done.rows):
                    progress()
    for part in parts:
        part.calls.finish()  # of a worker that was lost between its last row and this
    run.finish(_report(config, total, len(parts), workers, time.monotonic() - started))
    return Predicted(total.answered, total.failed, folder)


def _check_store(config: PredictConfig) -> None:
    if config.store is not None and config.store.startswith("sqlite") and len({*node_names().values()}) > 1:
        raise ConfigError("--store is an SQLite file, which is for one machine; with several give a PostgreSQL address")


def _check_weights(run: Run, weights: str | None) -> None:
    """Refuse to go on with other weights of a model than the run was begun with; only the nodes know them."""
    before = run.path / f"{_WEIGHTS}.json"
    if before.exists() and read_json(before)["weights"] != weights:
        raise RunError(f"{run.path} was started with other weights of the model; give another --output")
    run.save(_WEIGHTS, {"weights": weights})


def _repeated(config: PredictConfig, rows: Input, run: Run) -> dict[str, dict[str, str]]:
    """Of each partition with such ids, by its number, the hashes of those that stand in an earlier one, and where."""
    if len(rows.partitions) == 1:
        return {}
    if (run.path / f"{_REPEATED}.json").exists():
        return read_json(run.path / f"{_REPEATED}.json")
    given = [{"partition": partition.to_json()} for partition in rows.partitions]
    with closing(mapped(given, read_ids, {"num_cpus": 1}, fn_kwargs={"task": config.program.task})) as read:
        found = [
            (
                rows.partitions[part["number"]],
                np.frombuffer(part["hashes"], np.uint64),
                np.frombuffer(part["lines"], np.uint64),
            )
            for part in read
        ]
    repeated = json.loads(json.dumps(repeated_ids(found)))  # JSON has texts for keys
    run.save(_REPEATED, repeated)
    return repeated


def _report(config: PredictConfig, total: Done, partitions: int, workers: int, seconds: float) -> dict[str, Any]:
    usage = total.usage
    return {
        "version": __version__,
        "command": "predict",
        "task": config.program.task,
        "model": config.model.name,
        "partitions": partitions,
        "workers": workers,
        "rows": total.rows,
        "answered": total.answered,
        "failed": total.failed,
        "calls": usage.calls,
        "tokens": {"prompt": int(usage.prompt), "completion": int(usage.completion)},
        "cost_usd": round(usage.usd, 6) if config.model.in_process or priced(config.model.name) else None,
        "seconds": round(seconds, 1),
    }


def _for_workers(config: PredictConfig) -> PredictConfig:
    """The same config with absolute paths: workers have other working directories."""
    task, artifact, store = config.program.task, config.program.artifact, config.store
    if Path(task).suffix.lower() in SUFFIXES:
        task = str(Path(task).absolute())
    if store is not None and store.startswith(_SQLITE) and ":memory:" not in store:
        store = f"{_SQLITE}{Path(store.removeprefix(_SQLITE)).absolute()}"
    return replace(
        config,
        program=replace(config.program, task=task, artifact=artifact and str(Path(artifact).absolute())),
        model=absolute(config.model),
        target=config.target.absolute(),
        store=store,
    )
