"""Answer rows: many calls in flight, in order. Files and partitions of a cluster are answered by the same function.

answers:  {"id": "7", "tag": "comedy", "evidence": [{"item": "m1", "quote": "…"}], "violations": [], "usage": {…}, …}
failures: {"id": "8", "line": 12, "error": "line 12: its profile is None, not a list of items; it has id, description"}
          {"id": "9", "line": 13, "error": "the answer cannot be read: …", "cause": "cut_off", "completion": "[[ ## …"}
          {"id": "8", "line": 14, "error": "LMInvalidRequestError: …", "cause": "too_long"}
"""

from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

import dspy

from programs.calls.failures import failure_of
from programs.calls.rows import answering
from programs.predict.answer_files import AnswerFiles
from programs.predict.in_flight import EndedRow, InFlight
from programs.predict.input_rows import InputRow, arguments, named_user, read, user_of
from programs.predict.parts import evidence_of, usage_of, violations_of
from programs.tasks.task import Task
from programs.text import one_line
from r2p_dspy import R2P, AssertionFailed, R2PPrediction
from r2p_dspy.engines.keys import without_credentials
from r2p_dspy.errors import DataError, R2PError
from r2p_dspy.prompting.causes import REMEDIES, Unreadable
from r2p_dspy.values.typed import plain

# Rows that may have ended behind a slower one, for each call in flight. Where calls are kept, a kill does not lose
# them, so a slow row need not stop the others.
AHEAD, AHEAD_WITHOUT_CACHE = 256, 8


class _UnreadableAnswer(R2PError):
    """A program returned a prediction without an answer."""

    def __init__(self, prediction: R2PPrediction, why: Unreadable):
        super().__init__(f"the answer cannot be read: {why.explain()} ({REMEDIES[why.cause]})")
        self.prediction, self.why = prediction, why

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.prediction, self.why)


def predict(
    program: R2P,
    task: Task,
    source: Path,
    writer: AnswerFiles,
    *,
    skip: Collection[str] = (),
    **options: Any,
) -> None:
    """Answer the rows of a file that are not done yet, without those whose ids are in `skip`; else as `answer_rows`."""
    answer_rows(program, task, read(task, source, skip), writer, **options)


def answer_rows(
    program: R2P,
    task: Task,
    rows: Iterable[InputRow],
    writer: AnswerFiles,
    *,
    threads: int = 16,
    ahead: int = AHEAD_WITHOUT_CACHE,
    redact: bool = False,
    progress: Callable[[], None] = lambda: None,
) -> None:
    """Answer rows that are not done yet, with the configured LM.

    An answer that fails an assert after the last backtrack is written with its violations, or fails its row where the
    program has `on_unmet="raise"`. A row fails too if it is flawed, if its answer cannot be read, if the model refuses
    its request, and if the server fails to answer it although it answers others.

    Args:
        program: the task's program.
        task: the task of the rows.
        rows: all rows of the writer's source, in order.
        writer: where answers and failures go.
        threads: calls in flight.
        ahead: rows that may have ended behind a slower one, for each call in flight. They wait in memory, without their
            profiles, until the slower one is written.
        redact: leave reasoning, completions, quotes and what checks say of them out of the rows.
        progress: called after each row.

    Raises:
        LMError: if the server is away (see `InFlight`), or refuses the user or the model. No row is at fault then, so
            no row is marked as failed. A note names the row that was asked.
        CheckError: if a check of the task fails itself, which is no row's fault either.
        RunError: see `AnswerFiles`.
    """
    lm, stored = dspy.settings.lm, program.store is not None  # then an answer says whose it is, to be found again
    # Do not wait for a server that was never there; a server that has answered may be away for a minute.
    patient = lm.copy(num_retries=2 * lm.num_retries)

    def answer(row: InputRow) -> dict[str, Any]:
        inputs = arguments(task, writer.source, row, stored)
        with dspy.context(lm=patient if writer.answered else lm), answering(str(row.id), user=user_of(row)):
            named = {"user": user} if stored and (user := named_user(row)) is not None else {}
            return {"id": row.id, **named, **_answer(program, task, inputs, redact)}

    in_flight = InFlight(threads, ahead)
    try:
        # History and trace would grow with the input.
        with dspy.context(trace=None, disable_history=True):
            for ended in in_flight.results(writer.remaining(rows), answer):
                _write(writer, ended, redact, stored)
                progress()
        writer.finish()
    finally:
        in_flight.close()


def _write(writer: AnswerFiles, ended: EndedRow, redact: bool, stored: bool) -> None:
    row, error = ended.row, ended.error
    if error is None:
        writer.answer(ended.answer)
        return
    if ended.ends_run:
        if isinstance(error, Exception):
            error.add_note(f"this was line {row.line}; --skip {row.id} leaves it out")
        raise error
    is_plain = isinstance(error, ValueError | AssertionFailed | _UnreadableAnswer)
    reason = without_credentials(one_line(str(error) if is_plain else f"{type(error).__name__}: {error}"))[:500]
    why = error.prediction.details.unreadable if isinstance(error, AssertionFailed | _UnreadableAnswer) else None
    more = {} if why is None else {"cause": why.cause, "completion": why.reply}
    if (failure := failure_of(error)) is not None:
        more = {"cause": failure.cause}
    if redact and not isinstance(error, DataError):  # a reason may quote the answer, or the server the prompt
        more.pop("completion", None)
        reason = ": ".join([type(error).__name__, *more.values()])
    if stored and (user := named_user(row)) is not None:
        more["user"] = user
    writer.fail(row, reason, asked=not isinstance(error, DataError), **more)


def _answer(program: R2P, task: Task, inputs: dict[str, Any], redact: bool) -> dict[str, Any]:
    with dspy.track_usage() as usage:
        prediction = program(**inputs)
    details = prediction.details
    if details.unreadable is not None:
        raise _UnreadableAnswer(prediction, details.unreadable)
    answers = {name: plain(prediction[name]) for name in program.reason.answers}
    texts = {"reasoning": plain(details.reasoning.stages), "completion": details.completion}
    return {
        **answers,
        "evidence": evidence_of(details, redact),
        "violations": violations_of(details, redact),
        "warnings": details.warnings,
        **({} if redact else texts),
        "usage": usage_of(usage),
    } | answers  # the task's own field names win
