"""Traces: what a teacher answered on training users, of that the good ones, as rows to learn from."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import dspy
from dspy.utils.exceptions import AdapterParseError
from dspy.utils.usage_tracker import UsageTracker

from finetune.rewards import Rewards
from finetune.rows import Asking, completion
from finetune.task_setup import TaskSetup
from metrics.evidence import valid
from metrics.structure import compliant_final
from programs.evaluate.runner import collect, usage_fields
from programs.optimize.compiling import composite
from programs.runs.directory import Rows, check_same, read_json, write_json
from programs.runs.provenance import fingerprint
from r2p_dspy import Composite, optimizing
from r2p_dspy.errors import ConfigError
from r2p_dspy.files import atomic_path, digest

_CHUNK = 128  # examples whose rows are in memory at a time
KEPT = ("id", "task", "prompt", "completion", "inputs", "gold")


def ask_teacher(
    course: TaskSetup, asking: Asking, lm: dspy.LM, path: Path, threads: int, tick: Callable[[], None]
) -> None:
    """Run a teacher over the training users, and write a row for each as it comes.

    A row says why its answer is not to be learnt from (`refused`), or holds the prompt and the completion that the
    student is to learn. What is in the file already is not asked again.

    Args:
        course: the task, with its teacher and users.
        asking: makes the student's prompts.
        lm: the teacher's model.
        path: of the file, JSONL.
        threads: calls in flight.
        tick: called after each example.

    Raises:
        Exception: what the language model raises, at its first failure.
    """
    rows = Rows(path)
    done = {row["id"] for row in rows}
    scored, rewards = composite(course.task), Rewards({course.task.name: (course.task, course.program)})

    def ask(example: dspy.Example) -> dict[str, Any]:
        with dspy.track_usage() as usage:
            return _row(course, asking, scored, rewards, example, usage)

    todo = (example for example in course.data.train if example.id not in done)
    adapter = dspy.ChatAdapter(use_json_adapter_fallback=False)
    with dspy.context(lm=lm, adapter=adapter), optimizing():
        while some := [*islice(todo, _CHUNK)]:
            collect(ask, some, _Ahead(rows), threads, tick)


def _row(
    course: TaskSetup, asking: Asking, scored: Composite, rewards: Rewards, example: dspy.Example, usage: UsageTracker
) -> dict[str, Any]:
    started = time.monotonic()
    try:
        prediction: Any = course.teacher(**example.inputs())
    except AdapterParseError:
        prediction = None
    cost = usage_fields(usage, started)
    why = "unread" if prediction is None else refused(scored, example, prediction)
    if why is not None:
        return {"id": example.id, "refused": why, **cost}
    row = asking(example)
    written = completion(course.program, prediction.details.outcome)
    again, score = rewards.judged(row["task"], row["inputs"], row["gold"], written)
    if again.details.violations or score.parts["task"] < scored.threshold:
        return {"id": example.id, "refused": "other items", **cost}  # a student of less context is shown less of them
    return {**row, "id": example.id, "completion": [{"role": "assistant", "content": written}], "refused": None, **cost}


def refused(scored: Composite, example: Any, prediction: Any) -> str | None:
    """Why an answer is not to be learnt from, or None.

    Args:
        scored: the task's composite.
        example: with the right answer.
        prediction: of an R2P program.

    Returns:
        "wrong": below the task's threshold; "structure": it leaves the template; "evidence": it is not valid; "checks":
        another check does not hold.
    """
    if scored(example, prediction).parts["task"] < scored.threshold:
        return "wrong"
    if not compliant_final(prediction):
        return "structure"
    if valid(prediction) is False:
        return "evidence"
    return "checks" if prediction.details.violations else None


def survivors(paths: Iterable[Path], counts: Counter[str]) -> Iterator[dict[str, Any]]:
    """The rows to learn from, each prompt with the same completion once.

    Args:
        paths: of files that `ask_teacher` wrote.
        counts: gets how many rows there were of each kind: "kept", "duplicate", and why rows were refused.
    """
    seen: set[str] = set()
    for path in paths:
        for row in Rows(path):
            if row["refused"] is not None:
                counts[row["refused"]] += 1
                continue
            key = digest(json.dumps([row["prompt"], row["completion"]], ensure_ascii=False))
            counts["duplicate" if key in seen else "kept"] += 1
            if key not in seen:
                seen.add(key)
                yield {name: row[name] for name in KEPT}


def write_traces(courses: Sequence[TaskSetup], lm: dspy.LM, directory: Path, told: Mapping[str, Any]) -> Path:
    """The traces of all tasks as one file of rows, with a manifest.

    Args:
        courses: of which each has been asked.
        lm: the teacher's model.
        directory: of the traces.
        told: what the manifest says beside that.

    Returns:
        The file: JSONL in TRL's conversational prompt-completion format (`Dataset.from_json` reads it).

    Raises:
        ValueError: no row survives.
    """
    path, counts = directory / "train.jsonl", Counter[str]()
    with atomic_path(path) as part:
        for row in survivors([asked_file(directory, course) for course in courses], counts):
            Rows(part).append(row)
        if not counts["kept"]:
            why = ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "nobody was asked"
            raise ConfigError(
                f"no answer of the teacher is good enough to learn from ({why}): give another --model or --program, "
                "more --users, or --method grpo, which needs no teacher"
            )
    manifest = {"warning": "Prompts hold texts from users' histories.", "lm": lm.model, **told, "rows": dict(counts)}
    write_json(directory / "manifest.json", manifest)
    return path


def asked_file(directory: Path, course: TaskSetup) -> Path:
    """Where the answers of a task's teacher are."""
    return directory / f"{course.task.name}.jsonl"


def source(course: TaskSetup) -> dict[str, Any]:
    """Where a task's traces come from: digests of the program and of the users, and how the program was run."""
    state = json.dumps(course.teacher.dump_state(), sort_keys=True, default=str)
    return {
        "program": digest(state),
        "data": {
            "source": course.data.source,
            "users": len(course.data.train),
            "digest": fingerprint(course.data.train),
        },
        "settings": str(course.settings),
    }


def check_source(directory: Path, told: Mapping[str, Any]) -> None:
    """Refuse to add answers of another teacher, or on other users, to what is there.

    Raises:
        RunError: with what differs.
    """
    path = directory / "source.json"
    if path.exists():
        check_same(directory, read_json(path), dict(told))
    else:
        directory.mkdir(parents=True, exist_ok=True)
        write_json(path, dict(told))


class _Ahead(Rows):
    """Rows to write to alone: what is there was looked at before."""

    def __init__(self, rows: Rows):
        self.path = rows.path

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(())
