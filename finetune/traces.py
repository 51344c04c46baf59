"""Traces: the teacher's good answers on training users, as rows for SFT."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import Any

import dspy
from dspy.utils.exceptions import AdapterParseError, LMError
from dspy.utils.usage_tracker import UsageTracker

from finetune.rewards import Rewards
from finetune.task_setup import TaskSetup, completion_text
from metrics.evidence import valid
from metrics.structure import compliant_final
from programs.calls.asking import Each
from programs.calls.patience import MAX_FAILURES
from programs.evaluate.runner import collect, failure_of_row, finished, usage_fields
from programs.optimize.compiling import composite
from programs.runs.directory import Rows, read_json, write_json
from programs.runs.provenance import fingerprint
from programs.runs.reporter import Reporter
from r2p_dspy import Composite, Outcome, justifying, optimizing
from r2p_dspy.errors import ConfigError, RunError
from r2p_dspy.files import atomic_path, digest
from r2p_dspy.prompting.causes import explaining, unreadable_of
from r2p_dspy.prompting.citations import as_shown
from r2p_dspy.prompting.replies import listening

_TRACES, _MANIFEST = "train.jsonl", "manifest.json"  # the second is written last, and says that the first is whole
KEPT = ("id", "user", "task", "prompt", "completion", "inputs", "gold")


def collect_traces(
    setups: Sequence[TaskSetup],
    lm: dspy.LM,
    source: dict[str, Any],
    directory: Path,
    threads: int,
    reporter: Reporter,
    max_failures: float = MAX_FAILURES,
    told: bool = False,
    each: Each | None = None,
) -> Path:
    """Ask every task's teacher, and write the rows to learn from; a directory holds the answers of one teacher.

    Teachers that are `told` the right answers reason towards them, see `r2p_dspy.justifying`.

    Traces that are complete are not collected again, not even rows that failed: a student may have begun to learn from
    the others. `max_failures` is the share of a task's rows that may fail, see `runner.collect`; `each` is where the
    teacher runs, None for threads of this process.
    """
    source = {**source, "tasks": {setup.task.name: task_source(setup) for setup in setups}}
    check_source(directory, source)
    if is_complete(directory):
        return directory / _TRACES
    for setup in setups:
        path, examples = answers_file(directory, setup), setup.data.train
        progress = reporter.start(f"traces {setup.task.name}", len(examples), len(finished(Rows(path))))
        ask_teacher(setup, lm, path, threads, progress, max_failures, told, each)
    return write_traces(setups, lm, directory, source)


def is_complete(directory: Path) -> bool:
    """Whether a directory holds all traces of its teacher."""
    return (directory / _MANIFEST).exists()


def ask_teacher(
    setup: TaskSetup,
    lm: dspy.LM,
    path: Path,
    threads: int,
    progress: Callable[[], None],
    max_failures: float = MAX_FAILURES,
    told: bool = False,
    each: Each | None = None,
) -> None:
    """Run a teacher over the training users that the file at `path` lacks, and write a row for each as it comes.

    A row holds the student's prompt and completion, or says in `refused` why there is nothing to learn from: see
    `refused`; or "unread", "filtered", or the cause if a call failed, each with the reason in `error`. Without stages
    there is nothing to ask: a row's completion is the right answer. `each` is where the teacher runs.
    """
    stages = setup.program.reason.template.stages
    if setup.task.by_rubric and (told or not stages):
        what = "--traces rationalize and --template none learn from right answers"
        raise ConfigError(f"{what}, and {setup.task.name} has rubrics alone; leave them out")
    portable = without_examples(setup)  # another process gets the example alone
    ask = _Teaching(portable, told) if stages else partial(_answer_alone, portable)
    with dspy.context(lm=lm):
        collect(ask, setup.data.train, Rows(path), threads, progress, max_failures, each)


def without_examples(setup: TaskSetup) -> TaskSetup:
    """A task's setup without its data."""
    return replace(setup, data=replace(setup.data, train=[], dev=[], test=[]))


@dataclass(frozen=True)
class _Teaching:
    """Asks a task's teacher, the configured LM, for the row of an example. It can be sent to another process."""

    setup: TaskSetup
    told: bool

    @cached_property
    def scored(self) -> Composite:
        return composite(self.setup.task)

    @cached_property
    def rewards(self) -> Rewards:
        return Rewards({self.setup.task.name: (self.setup.task, self.setup.program)})

    def __call__(self, example: dspy.Example) -> dict[str, Any]:
        lm, adapter = listening(dspy.settings.lm), dspy.settings.adapter or dspy.ChatAdapter()
        answer = self.setup.task.answer
        known = {answer: example[answer]} if self.told else {}
        with dspy.context(lm=lm, adapter=adapter), optimizing(), dspy.track_usage() as usage:
            return _row(self.setup, self.scored, self.rewards, example, usage, known)


def _row(
    setup: TaskSetup,
    scored: Composite,
    rewards: Rewards,
    example: dspy.Example,
    usage: UsageTracker,
    known: Mapping[str, Any],
) -> dict[str, Any]:
    """The row of an example; of the `known` answers it says nothing, since only the teacher is told."""
    started = time.monotonic()

    def nothing(reason: str, **why: str) -> dict[str, Any]:
        return {"id": example.id, "user": example.get("user"), "refused": reason, **why, **usage_fields(usage, started)}

    try:
        with explaining(dspy.settings.lm.kwargs, setup.task.signature), justifying(known):
            prediction: Any = setup.teacher(**example.inputs())
    except AdapterParseError as error:
        why = unreadable_of(error)
        return nothing("filtered" if why.cause == "filtered" else "unread", error=why.explain())
    except LMError as error:
        failure = failure_of_row(error)
        return nothing(failure.cause, failed=failure.cause, error=failure.reason)
    withheld = prediction.details.unreadable
    if withheld is not None and withheld.cause == "filtered":
        return nothing("filtered", error=withheld.explain())
    reason = refused(scored, example, prediction)
    if reason is not None:
        return nothing(reason)
    row = setup.rows(example)
    details = prediction.details
    text = completion_text(setup.program, as_shown(details.inputs, details.outcome))
    reread, score = rewards.score(row["task"], row["inputs"], row["gold"], text)
    if reread.details.violations or score.parts["task"] < scored.threshold:
        # A student with less context sees fewer items than the teacher cites.
        return nothing("other items")
    completion = [{"role": "assistant", "content": text}]
    return {**row, "id": example.id, "completion": completion, "refused": None, **usage_fields(usage, started)}


def _answer_alone(setup: TaskSetup, example: dspy.Example) -> dict[str, Any]:
    """The row of a student that answers without reasoning."""
    answers = {setup.task.answer: example[setup.task.answer]}
    text = completion_text(setup.program, Outcome(fields=answers, answers=tuple(answers)))
    completion = [{"role": "assistant", "content": text}]
    return {
        **setup.rows(example),
        "id": example.id,
        "completion": completion,
        "refused": None,
        **usage_fields(UsageTracker(), time.monotonic()),
    }


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


def answers(directory: Path, setup: TaskSetup) -> list[dict[str, Any]]:
    """The latest row of each training user, in the order of the users, whatever the order in which they came."""
    latest = {row["id"]: row for row in Rows(answers_file(directory, setup))}
    return [latest[example.id] for example in setup.data.train if example.id in latest]


def accepted_rows(rows: Iterable[Mapping[str, Any]], counts: Counter[str]) -> Iterator[dict[str, Any]]:
    """The rows to learn from; a prompt with the same completion comes once.

    `counts` gets the number of rows by outcome: "kept", "duplicate", or the reason of refusal.
    """
    seen: set[str] = set()
    for row in rows:
        if row["refused"] is not None:
            counts[row["refused"]] += 1
            continue
        key = digest(json.dumps([row["prompt"], row["completion"]], ensure_ascii=False))
        counts["duplicate" if key in seen else "kept"] += 1
        if key not in seen:
            seen.add(key)
            yield {name: row.get(name) for name in KEPT}  # rows of earlier versions name no user


def write_traces(setups: Sequence[TaskSetup], lm: dspy.LM, directory: Path, source: Mapping[str, Any]) -> Path:
    """Write the traces of all tasks to one JSONL file, with a manifest that records `source`.

    The rows have TRL's conversational prompt-completion format. Raises ConfigError if no answer is good enough.
    """
    path, counts = directory / _TRACES, Counter[str]()
    rows = chain.from_iterable(answers(directory, setup) for setup in setups)
    with atomic_path(path) as part:
        kept = Rows(part)
        for row in accepted_rows(rows, counts):
            kept.append(row)
        if not counts["kept"]:
            reasons = ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "no user was asked"
            raise ConfigError(
                f"no answer of the teacher is good enough to learn from ({reasons}): give another --model or "
                "--program, more --users, or --method grpo, which needs no teacher"
            )
    manifest = {"warning": "Prompts hold texts from users' histories.", "lm": lm.model, **source, "rows": dict(counts)}
    write_json(directory / _MANIFEST, manifest)
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
