"""Run a program over examples. Each example gives a row, which is written as soon as it is there.

A row is answered; or unanswered, where the model wrote nothing that can be read, or a filter kept the prompt from it;
or failed, with the cause (`programs.calls.failures`). An unanswered row scores as no answer. A failed row has no score
if its server failed: that says nothing about the program.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypedDict, TypeVar, cast

import dspy
from dspy.utils.exceptions import AdapterParseError, LMError
from dspy.utils.usage_tracker import UsageTracker

from metrics.evidence import valid
from metrics.structure import compliant_final, compliant_first
from programs.calls.asking import Each, InThreads, OutcomeT
from programs.calls.failures import SCOPES, Failure, failure_of
from programs.calls.patience import MAX_FAILURES
from programs.runs.directory import Rows
from programs.tasks.task import Task
from programs.transcripts.calls import CallLog
from programs.transcripts.transcript import Transcript, transcript_of
from r2p_dspy import Details, R2PPrediction, optimizing
from r2p_dspy.errors import RunError
from r2p_dspy.prediction import attempts_of
from r2p_dspy.prompting.causes import Cause, Unreadable, explaining, unreadable_of
from r2p_dspy.prompting.replies import listening
from r2p_dspy.values.typed import allows_none, plain

MALFORMED: Cause = "malformed"  # why an answer could not be read: it does not have the requested format
_FEW = 20  # the share of fewer rows says nothing, so it is that of so many

Progress = Callable[[], None]
RowT = TypeVar("RowT", bound=Mapping[str, Any])


class UsageFields(TypedDict):
    """What a row tells of its cost."""

    calls: int
    prompt_tokens: int
    completion_tokens: int
    forward_passes: int | None  # None where an engine does not count them
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
    failed: str | None  # the cause, if a call failed
    error: str | None  # the reason in the provider's words, if a call failed
    compliant_first: bool | None
    compliant: bool | None
    evidence_first: bool | None
    evidence: bool | None
    violations_first: list[str]  # names of checks
    violations: list[str]
    score: float | None  # the task's own score in [0, 1]; None where the call failed
    right: bool | None  # whether the score reaches the task's threshold
    cited: list[str]  # ids of items
    attempts: int
    interventions: int


def measure(
    program: dspy.Module,
    examples: Sequence[dspy.Example],
    task: Task,
    rows: Rows,
    threads: int,
    progress: Progress,
    max_failures: float = MAX_FAILURES,
    transcripts: Rows | None = None,
    redact: bool = False,
    each: Each | None = None,
) -> list[ResultRow]:
    """Run a program over the examples that have no row yet.

    Args:
        program: any module with the task's inputs and answer.
        examples: what to run it on.
        task: says which field is scored.
        rows: where rows are written; earlier ones are read from it.
        threads: calls in flight.
        progress: called after each example.
        max_failures: the share of the rows that may fail, see `collect`.
        transcripts: where the transcript of each example is written, before its row; None for nowhere.
        redact: leave replies that cannot be read, and the server's words, out of the rows.
        each: where the program runs; None for threads of this process.

    Returns:
        A row for each example, in the order of the examples.

    Raises:
        RunError: if more rows fail.
        Exception: a failure that every row would meet, such as that of a check.
    """

    def keep(outcome: tuple[ResultRow, Transcript]) -> ResultRow:
        row, transcript = outcome
        if transcripts is not None:
            transcripts.append(dict(transcript))
        return row

    ask = partial(_measured, program, task, redact)  # which can be sent to another process
    try:
        return _collect(ask, keep, examples, rows, each or InThreads(threads), progress, max_failures)
    finally:
        if transcripts is not None:
            transcripts.sync()


def collect(
    ask: Callable[[dspy.Example], RowT],
    examples: Sequence[dspy.Example],
    rows: Rows,
    threads: int,
    progress: Progress,
    max_failures: float = MAX_FAILURES,
    each: Each | None = None,
) -> list[RowT]:
    """Make a row for each example that has none yet, and write it as soon as it is there; see `measure`.

    `ask` makes an example's row, which has the example's `id`, and as `failed` the cause if a call failed. Calls are
    kept under the example, its user and the name of the rows. Rows whose server failed are asked again when a run is
    resumed. RunError if no row is answered, or more than `max_failures` of them fail, of 20 at least. The first
    exception of `ask`, or of writing, is raised.
    """
    return _collect(ask, lambda row: row, examples, rows, each or InThreads(threads), progress, max_failures)


def _collect(
    ask: Callable[[dspy.Example], OutcomeT],
    keep: Callable[[OutcomeT], RowT],
    examples: Sequence[dspy.Example],
    rows: Rows,
    each: Each,
    progress: Progress,
    max_failures: float,
) -> list[RowT]:
    """See `collect`; `keep` writes what belongs beside the row of an outcome, and returns the row."""
    named = {example.id for example in examples}  # without those that a resumed run leaves out
    done = {name: row for name, row in finished(cast("Iterable[RowT]", rows)).items() if name in named}
    todo = [example for example in examples if example.id not in done]
    lock = threading.Lock()

    def check_failures(row: RowT) -> None:
        failed = [row for row in done.values() if row.get("failed")]
        if len(failed) > max_failures * max(len(examples), _FEW) or len(failed) == len(examples):
            causes = ", ".join(f"{count} {cause}" for cause, count in Counter(row["failed"] for row in failed).items())
            words = f"the server's words are in {rows.path}; " if row.get("error") else ""
            raise RunError(
                f"{len(failed)} of {len(examples)} rows of {rows.path.stem} failed ({causes}; the last: {row['id']}), "
                f"and --max-failures is {max_failures:g}; {words}what was answered is kept: go on with --resume and a "
                "larger --max-failures, or (not of finetune) leave rows out with --skip ID"
            )

    def end(outcome: OutcomeT) -> None:
        with lock:
            row = keep(outcome)
            rows.append(dict(row))
            done[row["id"]] = row
            progress()
            if row.get("failed"):
                check_failures(row)

    try:
        if todo:
            each(rows.path.stem, ask, todo, end)
    finally:
        rows.sync()
    ended = [done[example.id] for example in examples]
    if failed := [row for row in ended if row.get("failed")]:
        check_failures(failed[-1])  # of a resumed run, too
    return ended


def finished(rows: Iterable[RowT]) -> dict[Any, RowT]:
    """The rows that need not be asked again, by id: the latest of each example, if it counts."""
    return {row_id: row for row_id, row in {row["id"]: row for row in rows}.items() if is_scored(row)}


def is_scored(row: Mapping[str, Any]) -> bool:
    """Whether a row counts in metrics: it did not fail, or by its own request, so that asking again cannot help."""
    return row.get("failed") is None or SCOPES.get(row["failed"]) == "row"


def usage_fields(usage: UsageTracker, started: float) -> UsageFields:
    """What a row took since `started`. A call that the call cache answered counts as it did when it was made."""
    entries = [entry for calls in usage.usage_data.values() for entry in calls]
    replayed = sum(entry["seconds"] for entry in entries if entry.get("replayed"))
    return {
        "calls": len(entries),
        "prompt_tokens": sum(entry.get("prompt_tokens") or 0 for entry in entries),
        "completion_tokens": sum(entry.get("completion_tokens") or 0 for entry in entries),
        "forward_passes": total(entry.get("forward_passes") for entry in entries),
        "seconds": round(time.monotonic() - started + replayed, 4),
        "latency": [entry["seconds"] for entry in entries if "seconds" in entry],
    }


def total(counts: Iterable[int | None]) -> int | None:
    """The sum of some counts; None where one of them is not known, and where there are none.

    Examples:
        >>> total([3, 4]), total([3, None]), total([])
        (7, None, None)
    """
    known = [*counts]
    return None if not known or None in known else sum(count for count in known if count is not None)


def _measured(program: dspy.Module, task: Task, redact: bool, example: dspy.Example) -> tuple[ResultRow, Transcript]:
    """An example's row and its transcript; see `measure`."""
    started, lm = time.monotonic(), listening(dspy.settings.lm)
    adapter = dspy.settings.adapter or dspy.ChatAdapter()
    log = CallLog()
    # Each row has a trace and a history of its own, which would else grow with the examples.
    isolated = dspy.context(
        lm=lm, adapter=adapter, trace=[], disable_history=True, callbacks=[*dspy.settings.callbacks, log]
    )
    why: Unreadable | None = None
    failure: Failure | None = None
    with dspy.track_usage() as usage, optimizing(), isolated:
        try:
            with explaining(getattr(lm, "kwargs", {}), task.signature):
                prediction = program(**example.inputs())
        except AdapterParseError as error:
            prediction, why = dspy.Prediction(), unreadable_of(error)
        except RecursionError:  # a model that repeats "[" gives JSON that is too deep to read
            prediction, why = dspy.Prediction(), Unreadable(cause=MALFORMED, reason="it is nested too deeply")
        except LMError as error:
            prediction, failure = dspy.Prediction(), failure_of_row(error)
    answer = prediction.get(task.answer)
    # Not the prediction's own attributes, which an output of such a name hides.
    details = prediction.details if isinstance(prediction, R2PPrediction) else Details()
    attempts, why = attempts_of(prediction), why or details.unreadable
    if (
        failure is None
        and why is None
        and answer is None
        and not allows_none(task.signature.output_fields[task.answer].annotation)
    ):
        why = Unreadable(cause=MALFORMED, reason="there is no answer")
    scored = "" if why is not None else answer
    score = None if failure else task.metric(task.metrics[0]).score(scored, example[task.gold], task.labels)
    row: ResultRow = {
        "id": example.id,
        "user": example.get("user"),
        "answer": plain(answer),
        "gold": plain(example[task.gold]),
        "parse_failure": why.cause if why else None,
        "completion": why.reply if why and not redact else None,
        "failed": failure.cause if failure else None,
        "error": failure.reason if failure and not redact else None,
        "compliant_first": compliant_first(prediction),
        "compliant": compliant_final(prediction),
        "evidence_first": valid(prediction, first=True) if attempts else None,
        "evidence": valid(prediction) if attempts else None,
        "violations_first": [verdict.check for verdict in attempts[0].unmet if verdict.message] if attempts else [],
        "violations": [verdict.check for verdict in details.violations if verdict.message],
        "score": score and round(score, 4),
        "right": None if score is None else score >= task.threshold,
        "cited": [item.id for item in details.reasoning.cited],
        "attempts": len(attempts) or 1,
        "interventions": len(details.interventions),
        **usage_fields(usage, started),
    }
    return row, transcript_of(example, task, prediction, log.calls, attempts)


def failure_of_row(error: LMError) -> Failure:
    """Why a row's call failed; raises a failure that every row would meet."""
    failure = failure_of(error)
    if failure is None or failure.scope == "run":
        raise error
    return failure
