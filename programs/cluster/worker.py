"""What runs in a cluster's workers. Partitions come as JSON, and what becomes of them goes back as data."""

import json
import pickle
import traceback
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from dspy.utils.exceptions import LMError

from programs.cluster.part import Done, Part
from programs.cluster.partitions import Partition
from programs.predict.answerer import Answerer, open_answerer
from programs.predict.input_rows import KnownIds, read_lines
from programs.runs.configs import PredictConfig
from programs.tasks.task import Task
from programs.tasks.task_file import task_of
from r2p_dspy.errors import R2PError

_PLAIN = (str, int, float, list, type(None))
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


def as_bytes(error: Exception) -> bytes:
    """An exception to be raised by the driver; one that is a fault of ours says where it was raised."""
    if not isinstance(error, R2PError | LMError):
        error.add_note("".join(traceback.format_exception(error)))
    # What else an error holds, such as the response of an HTTP client, may not be picklable, and stays behind.
    portable = type(error).__new__(type(error), *error.args)
    vars(portable).update({name: value for name, value in vars(error).items() if isinstance(value, _PLAIN)})
    try:
        pickled = pickle.dumps(portable)
        pickle.loads(pickled)  # nosec B301  # whether the driver can
        return pickled
    except Exception:
        return pickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))
