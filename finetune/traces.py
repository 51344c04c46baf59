"""Traces: the teacher's good answers on training users, as rows for SFT."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dspy
from dspy.utils.exceptions import AdapterParseError
from dspy.utils.usage_tracker import UsageTracker

from finetune.rewards import Rewards
from finetune.task_setup import TaskSetup, completion_text
from metrics.evidence import valid
from metrics.structure import compliant_final
from programs.evaluate.runner import collect, usage_fields
from programs.optimize.compiling import composite
from programs.runs.directory import Rows, read_json, write_json
from programs.runs.provenance import fingerprint
from programs.runs.reporter import Reporter
from r2p_dspy import Composite, optimizing
from r2p_dspy.errors import ConfigError, RunError
from r2p_dspy.files import atomic_path, digest
from r2p_dspy.prompting.citations import as_shown

KEPT = ("id", "task", "prompt", "completion", "inputs", "gold")


def collect_traces(
    setups: Sequence[TaskSetup], lm: dspy.LM, source: dict[str, Any], directory: Path, threads: int, reporter: Reporter
) -> Path:
    """Ask every task's teacher, and write the rows to learn from; a directory holds the answers of one teacher."""
    source = {**source, "tasks": {setup.task.name: task_source(setup) for setup in setups}}
    check_source(directory, source)
    for setup in setups:
        path, examples = answers_file(directory, setup), setup.data.train
        done = sum(1 for _ in Rows(path))
        progress = reporter.start(f"traces {setup.task.name}", len(examples), done)
        ask_teacher(setup, lm, path, threads, progress)
    return write_traces(setups, lm, directory, source)


def ask_teacher(setup: TaskSetup, lm: dspy.LM, path: Path, threads: int, progress: Callable[[], None]) -> None:
    """Run a teacher over the training users that the file at `path` lacks, and write a row for each as it comes.

    A row holds the student's prompt and completion, or says in `refused` why the answer is not learned from.
    """
    scored, rewards = composite(setup.task), Rewards({setup.task.name: (setup.task, setup.program)})

    def ask(example: dspy.Example) -> dict[str, Any]:
        with dspy.track_usage() as usage:
            return _row(setup, scored, rewards, example, usage)

    with dspy.context(lm=lm, adapter=dspy.settings.adapter or dspy.ChatAdapter()), optimizing():
        collect(ask, setup.data.train, Rows(path), threads, progress)


def _row(
    setup: TaskSetup, scored: Composite, rewards: Rewards, example: dspy.Example, usage: UsageTracker
) -> dict[str, Any]:
    started = time.monotonic()
    try:
        prediction: Any = setup.teacher(**example.inputs())
    except AdapterParseError:
        prediction = None
    cost = usage_fields(usage, started)
    reason = "unread" if prediction is None else refused(scored, example, prediction)
    if reason is not None:
        return {"id": example.id, "refused": reason, **cost}
    row = setup.rows(example)
    details = prediction.details
    text = completion_text(setup.program, as_shown(details.inputs, details.outcome))
    reread, score = rewards.score(row["task"], row["inputs"], row["gold"], text)
    if reread.details.violations or score.parts["task"] < scored.threshold:
        # A student with less context sees fewer items than the teacher cites.
        return {"id": example.id, "refused": "other items", **cost}
    return {**row, "id": example.id, "completion": [{"role": "assistant", "content": text}], "refused": None, **cost}


def refused(scored: Composite, example: Any, prediction: Any) -> str | None:
    """Why an answer is not learned from, or None.

    It may be "wrong" (below the task's threshold), leave the template ("structure"), cite invalid "evidence", or fail
    other "checks".
    """
    if scored(example, prediction).parts["task"] < scored.threshold:
        return "wrong"
    if not compliant_final(prediction):
        return "structure"
    if valid(prediction) is False:
        return "evidence"
    return "checks" if prediction.details.violations else None


def accepted_rows(paths: Iterable[Path], counts: Counter[str]) -> Iterator[dict[str, Any]]:
    """The rows to learn from; a prompt with the same completion comes once.

    `counts` gets the number of rows by outcome: "kept", "duplicate", or the reason of refusal.
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


def write_traces(setups: Sequence[TaskSetup], lm: dspy.LM, directory: Path, source: Mapping[str, Any]) -> Path:
    """Write the traces of all tasks to one JSONL file, with a manifest that records `source`.

    The rows have TRL's conversational prompt-completion format. Raises ConfigError if no answer is good enough.
    """
    path, counts = directory / "train.jsonl", Counter[str]()
    with atomic_path(path) as part:
        for row in accepted_rows([answers_file(directory, setup) for setup in setups], counts):
            Rows(part).append(row)
        if not counts["kept"]:
            reasons = ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "no user was asked"
            raise ConfigError(
                f"no answer of the teacher is good enough to learn from ({reasons}): give another --model or "
                "--program, more --users, or --method grpo, which needs no teacher"
            )
    manifest = {"warning": "Prompts hold texts from users' histories.", "lm": lm.model, **source, "rows": dict(counts)}
    write_json(directory / "manifest.json", manifest)
    return path


def write_questions(setups: Sequence[TaskSetup], path: Path) -> Path:
    """Write the prompts of GRPO, one for each training user, as JSONL; a file that is there is kept."""
    if not path.exists():
        with atomic_path(path) as part:
            for setup in setups:
                for example in setup.data.train:
                    Rows(part).append(setup.rows(example))
    return path


def answers_file(directory: Path, setup: TaskSetup) -> Path:
    """The file with the answers of a task's teacher."""
    return directory / f"{setup.task.name}.jsonl"


def task_source(setup: TaskSetup) -> dict[str, Any]:
    """The origin of a task's traces: digests of the program and the users, and the program's settings."""
    state = json.dumps(setup.teacher.dump_state(), sort_keys=True, default=str)
    return {
        "program": digest(state),
        "data": {"source": setup.data.source, "users": len(setup.data.train), "digest": fingerprint(setup.data.train)},
        "settings": str(setup.config),
    }


def check_source(directory: Path, source: dict[str, Any]) -> None:
    """Refuse to mix answers of different teachers, or on different users, in one directory."""
    path = directory / "source.json"
    if path.exists():
        before, now = read_json(path), json.loads(json.dumps(source))
        if changed := [name for name in now if before.get(name) != now[name]]:
            raise RunError(
                f"{directory} holds traces of another teacher or other users (their {changed[0]} differ); "
                "give the first run's options, or another --output"
            )
    else:
        directory.mkdir(parents=True, exist_ok=True)
        write_json(path, source)
