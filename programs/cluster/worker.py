"""What runs in a cluster's workers. Partitions come as JSON, and what becomes of them goes back as data."""

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from programs.cluster.errors import as_bytes
from programs.cluster.part import Done, Part
from programs.cluster.partitions import Partition
from programs.predict.answerer import Answerer, open_answerer
from programs.predict.input_rows import KnownIds, read_lines
from programs.runs.configs import PredictConfig
from programs.tasks.task import Task
from programs.tasks.task_file import task_of
from r2p_dspy.errors import ConfigError

Batch = dict[str, Any]  # columns of one row each, as Ray Data gives them


class PartitionAnswerer:
    """Answers partitions, one after another; Ray Data makes one in each of its actors.

    What is in the way of an answer, such as a server that is away, goes back as data: an exception would make Ray
    tell of it at length, and would not come as itself.

    Args:
        config: which program and model; its target is the run's directory.
        run: the id of the run.
    """

    def __init__(self, config: PredictConfig, run: str):
        self._config, self._run = config, run
        self._open = ExitStack()
        self._answerer: Answerer | None = None  # made when it is needed, so that its errors go back as data too

    def __call__(self, batch: Batch) -> Batch:
        partition = Partition.from_json(batch["partition"][0])
        try:
            done, error = self._answer(partition, json.loads(batch["repeated"][0])), b""
        except Exception as failure:
            done, error = Done(), as_bytes(failure)
        return {"done": [done.to_json()], "error": [error]}

    def _answer(self, partition: Partition, repeated: Mapping[str, str]) -> Done:
        part = Part(self._config.target, partition, self._config.cache)
        if (done := part.done()) is not None:  # by a worker that was lost before it could say so
            return done
        if self._answerer is None:
            self._answerer = self._open.enter_context(open_answerer(self._config))
        answerer, known = self._answerer, RepeatedIds({int(name): place for name, place in repeated.items()})
        with part.writer() as writer:
            rows = read_lines(answerer.task, writer.source, partition.lines(), self._config.skip, known)
            usage = answerer.answer(rows, writer, part.calls, f"{self._run} {partition.name}")
            return part.finish(writer, usage)


def look_at_files(config: PredictConfig, source: Path) -> None:
    """Refuse a node that cannot read the input, write into the run's directory, or make the program; runs there."""
    share = "put it where all nodes find it under the same path"
    if not os.access(source, os.R_OK):
        raise ConfigError(f"it cannot read {source}; {share}")
    if not (config.target / "config.json").exists() or not os.access(config.target, os.W_OK):
        raise ConfigError(f"it cannot write into {config.target}; {share}")
    with open_answerer(config):
        pass


class RepeatedIds(KnownIds):
    """The ids of a partition's rows that stand in an earlier partition too, by their hash."""

    def __init__(self, places: Mapping[int, str]):
        super().__init__()
        self._earlier = places

    def place(self, name: str) -> str | None:
        earlier = self._earlier.get(hash_of(name)) if self._earlier else None
        return earlier or super().place(name)


def hash_of(name: str) -> int:
    """Eight bytes of an id's digest: those of all rows are held at once where ids are compared."""
    return int.from_bytes(blake2b(name.encode(errors="backslashreplace"), digest_size=8).digest())


def read_ids(batch: Batch, task: str) -> Batch:
    """The ids of a partition's rows, as hashes, and the lines that they stand in, both as bytes."""
    partition = Partition.from_json(batch["partition"][0])
    hashes, lines = ids_of(task_of(task), partition)
    return {"number": [partition.number], "hashes": [hashes.tobytes()], "lines": [lines.tobytes()]}


def ids_of(task: Task, partition: Partition) -> tuple[np.ndarray, np.ndarray]:
    """The hashes of the ids of a partition's rows, and the lines that these stand in."""
    rows = read_lines(task, Path(partition.file), partition.lines())
    named = [(hash_of(row.id), row.line) for row in rows if row.id is not None]
    hashes, lines = zip(*named) if named else ((), ())
    return np.array(hashes, np.uint64), np.array(lines, np.uint64)


def repeated_ids(found: Iterable[tuple[Partition, np.ndarray, np.ndarray]]) -> dict[int, dict[int, str]]:
    """Of each partition, by its number, the hashes of ids that stand in an earlier one, and where they do."""
    parts = sorted(found, key=lambda part: part[0].number)
    hashes = np.concatenate([part[1] for part in parts] or [np.array([], np.uint64)])
    unique, first = np.unique(hashes, return_index=True)
    if len(unique) == len(hashes):
        return {}
    ends = np.cumsum([len(part[1]) for part in parts])
    repeated: dict[int, dict[int, str]] = {}
    for index in np.setdiff1d(np.arange(len(hashes)), first):
        earlier = int(first[np.searchsorted(unique, hashes[index])])
        here, there = (int(np.searchsorted(ends, place, side="right")) for place in (index, earlier))
        if here != there:  # within a partition, its reader finds them
            partition, _, lines = parts[there]
            line = lines[earlier - (int(ends[there - 1]) if there else 0)]
            of = f" of {Path(partition.file).name}" if partition.named else ""
            repeated.setdefault(parts[here][0].number, {})[int(hashes[index])] = f"line {line}{of}"
    return repeated
