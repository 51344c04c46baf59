"""Run a program over examples. Each example gives a row, which is written as soon as it is there."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict, TypeVar, cast

import dspy
from dspy.utils.exceptions import AdapterParseError
from dspy.utils.parallelizer import ParallelExecutor
from dspy.utils.usage_tracker import UsageTracker

from metrics.evidence import valid
from metrics.structure import compliant_final, compliant_first
from programs.runs.directory import Rows
from programs.tasks.task import Task
from r2p_dspy import Details, R2PPrediction, optimizing
from r2p_dspy.prediction import attempts_of
from r2p_dspy.prompting.causes import Cause, Unreadable, explaining, unreadable_of
from r2p_dspy.prompting.replies import listening
from r2p_dspy.values.typed import allows_none, plain

MALFORMED: Cause = "malformed"  # why an answer could not be read: it does not have the requested format

Progress = Callable[[], None]
RowT = TypeVar("RowT", bound=Mapping[str, Any])


class UsageFields(TypedDict):
    """What a row tells of its cost."""

    calls: int
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    latency: list[float]  # the seconds of each call


class ResultRow(UsageFields):
    """One example of one program: a line of results/PROGRAM.jsonl. None stands where a field does not apply."""

    id: str
    user: str | None
    answer: Any  # as JSON, of the type that the task's signature gives its answer
    gold: Any
    parse_failure: str | None  # the cause
    completion: str | None  # what the model wrote, where it cannot be read
    compliant_first: bool | None
    compliant: bool | None
    evidence_first: bool | None
    evidence: bool | None
    violations_first: list[str]  # names of checks
    violations: list[str]
    cited: list[str]  # ids of items
    attempts: int
    interventions: int


def measure(
    program: dspy.Module, examples: Sequence[dspy.Example], task: Task, rows: Rows, threads: int, progress: Progress
) -> list[ResultRow]:
    """Run a program over the examples that have no row yet.

    Args:
        program: any module with the task's inputs and answer.
        examples: what to run it on.
        task: says which field is scored.
        rows: where rows are written; earlier ones are read from it.
        threads: calls in flight.
        progress: called after each example.

    Returns:
        A row for each example, in the order of the examples.

    Raises:
        Exception: the language model's first failure. An answer that cannot be read is no failure.
    """
    return collect(lambda example: _row(program, example, task), examples, rows, threads, progress)


def collect(
    ask: Callable[[dspy.Example], RowT],
    examples: Sequence[dspy.Example],
    rows: Rows,
    threads: int,
    progress: Progress,
) -> list[RowT]:
    """Make a row for each example that has none yet, in threads, and write it as soon as it is there; see `measure`.

    `ask` makes an example's row, which has the example's `id`. The first failure of it, or of writing, is raised.
    """
    done: dict[Any, RowT] = {row["id"]: cast(RowT, row) for row in rows}
    todo = [example for example in examples if example.id not in done]
    lock = threading.Lock()
    failures: list[Exception] = []

    def run(example: dspy.Example) -> None:
        try:
            row = ask(example)
            with lock:
                rows.append(dict(row))
                done[row["id"]] = row
                progress()
        except Exception as error:
            failures.append(error)
            raise

    executor = ParallelExecutor(num_threads=threads, max_errors=1, disable_progress_bar=True, timeout=0)
    try:
        if todo:
            executor.execute(run, todo)
    except KeyboardInterrupt:
        raise
    except Exception as stopped:
        first = failures[0] if failures else stopped
        raise first from first.__cause__  # which is the user's own failure, if a check failed
    return [done[example.id] for example in examples]


def usage_fields(usage: UsageTracker, started: float) -> UsageFields:
    """What a row took since `started`. A call that the call cache answered counts as it did when it was made."""
    entries = [entry for calls in usage.usage_data.values() for entry in calls]
    replayed = sum(entry["seconds"] for entry in entries if entry.get("replayed"))
    return {
        "calls": len(entries),
        "prompt_tokens": sum(entry.get("prompt_tokens") or 0 for entry in entries),
        "completion_tokens": sum(entry.get("completion_tokens") or 0 for entry in entries),
        "seconds": round(time.monotonic() - started + replayed, 4),
        "latency": [entry["seconds"] for entry in entries if "seconds" in entry],
    }


def _row(program: dspy.Module, example: dspy.Example, task: Task) -> ResultRow:
    started, lm = time.monotonic(), listening(dspy.settings.lm)
    adapter = dspy.settings.adapter or dspy.ChatAdapter()
    # Each row has a trace and a history of its own, which would else grow with the examples.
    isolated = dspy.context(lm=lm, adapter=adapter, trace=[], disable_history=True)
    why: Unreadable | None = None
    with dspy.track_usage() as usage, optimizing(), isolated:
        try:
            with explaining(getattr(lm, "kwargs", {}), task.signature):
                prediction = program(**example.inputs())
        except AdapterParseError as error:
            prediction, why = dspy.Prediction(), unreadable_of(error)
        except RecursionError:  # a model that repeats "[" gives JSON that is too deep to read
            prediction, why = dspy.Prediction(), Unreadable(cause=MALFORMED, reason="it is nested too deeply")
    answer = prediction.get(task.answer)
    # Not the prediction's own attributes, which an output of such a name hides.
    details = prediction.details if isinstance(prediction, R2PPrediction) else Details()
    attempts, why = attempts_of(prediction), why or details.unreadable
    if why is None and answer is None and not allows_none(task.signature.output_fields[task.answer].annotation):
        why = Unreadable(cause=MALFORMED, reason="there is no answer")
    return {
        "id": example.id,
        "user": example.get("user"),
        "answer": plain(answer),
        "gold": plain(example[task.answer]),
        "parse_failure": why.cause if why else None,
        "completion": why.reply if why else None,
        "compliant_first": compliant_first(prediction),
        "compliant": compliant_final(prediction),
        "evidence_first": valid(prediction, first=True) if attempts else None,
        "evidence": valid(prediction) if attempts else None,
        "violations_first": [verdict.check for verdict in attempts[0].unmet if verdict.message] if attempts else [],
        "violations": [verdict.check for verdict in details.violations if verdict.message],
        "cited": [item.id for item in details.reasoning.cited],
        "attempts": len(attempts) or 1,
        "interventions": len(details.interventions),
        **usage_fields(usage, started),
    }
