"""The provenance of programs and reports: which data, model and metric their scores are of."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dspy
from pydantic_core import to_jsonable_python

from metrics.meteor import missing_data
from programs.data.dataset import Data
from programs.runs.model import ModelConfig
from programs.tasks.task import Task
from r2p_dspy import Composite, Profile, read_artifact, redacted, write_artifact
from r2p_dspy.files import digest


def provenance(
    model: ModelConfig, lm: dspy.LM, data: Data, task: Task, scored: Composite, summary: Mapping[str, Any]
) -> dict[str, Any]:
    """The notes of a compiled program; `summary` is that of `compile_program`: optimizer, winner, scores on dev."""
    return {
        "data": {
            "source": data.source,
            "train": len(data.train),
            "dev": len(data.dev),
            "fingerprint": fingerprint([*data.train, *data.dev]),
        },
        "model": model.name,
        "lm": lm.model,
        "seed": model.seed,
        "metric": {"task": task.metrics[0], "threshold": scored.threshold, "weights": dict(scored.weights)},
        **summary,
    }


def fingerprint(examples: Sequence[dspy.Example]) -> str:
    """Sixteen hex digits that change with the content of the examples and with their order.

    Examples:
        >>> fingerprint([dspy.Example(film="x")]) == fingerprint([dspy.Example(film="y")])
        False
    """
    rows = (json.dumps(to_jsonable_python(example.toDict()), sort_keys=True) for example in examples)
    return digest(f"{row}\n".encode() for row in rows)


def measured_on(data: Data, task: Task) -> dict[str, Any]:
    """What a report must share with another for their scores to be compared, and when it was made.

    Returns:
        - `date`: today's, in UTC;
        - `users`: how many users the reported examples have; an example without a user is one of its own;
        - `data_digest`: sixteen hex digits that change with the reported questions and golds, not with their order;
        - `metric_data_missing`: what METEOR does without here, if the task has it, see `metrics.meteor`.
    """
    known = ({name: value for name, value in example.items() if name != task.profile} for example in data.test)
    rows = sorted(json.dumps(to_jsonable_python(row, fallback=str), sort_keys=True) for row in known)
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "users": len({example.get("user") or example.id for example in data.test}),
        "data_digest": digest(f"{row}\n".encode() for row in rows),
        "metric_data_missing": missing_data() if "meteor" in task.metrics else [],
    }


def complete(path: Path, test: Mapping[str, Any], redact: bool, data: Data, task: Task) -> None:
    """Add the scores on unseen users to a compiled program's file, and redact the texts in it if that is wanted."""
    artifact = read_artifact(path)
    artifact.notes["test"] = {"split": data.split, "examples": len(data.test), **test}
    if redact:
        artifact = redacted(artifact, _texts([*data.train, *data.dev], task))
    write_artifact(artifact, path)
    if not redact:
        path.chmod(0o600)  # as the other files of a run that hold users' texts


def _texts(examples: Iterable[dspy.Example], task: Task) -> Iterator[str]:
    for example in examples:
        yield from (str(example.get(name)) for name in (*task.inputs, task.answer))
        yield from (text for item in Profile.of(example[task.profile]) for text in item.fields.values())
