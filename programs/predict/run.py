"""Answer the rows of a JSONL file: many calls in flight, in order, and a kill neither loses nor repeats a row.

answers:  {"id": "7", "tag": "comedy", "evidence": [{"item": "m1", "quote": "…"}], "violations": [], "usage": {…}, …}
failures: {"id": "8", "line": 12, "error": "line 12: its profile is None, not a list of items; it has id, description"}
          {"id": "9", "line": 13, "error": "the answer cannot be read: …", "cause": "cut_off", "completion": "[[ ## …"}
          {"id": "8", "line": 14, "error": "LMInvalidRequestError: …", "cause": "too_long"}
"""

import json
from collections.abc import Callable, Collection
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import dspy

from programs.calls.failures import failure_of
from programs.calls.keeping import CallKeeping
from programs.calls.recording import record_calls
from programs.calls.rows import answering
from programs.data.makers.sources import rows_of
from programs.evaluate.submission import submission
from programs.predict.in_flight import EndedRow, InFlight
from programs.predict.input_rows import InputRow, arguments, is_official, named_user, read, survey, user_of
from programs.predict.parts import evidence_of, usage_of, violations_of
from programs.predict.writer import PredictionWriter
from programs.runs.active import open_calls
from programs.runs.cautions import foreign_text
from programs.runs.configs import PredictConfig, digest
from programs.runs.reporter import Reporter
from programs.stores.owners import SUBMITTED
from programs.tasks.answer_length import tokens_needed
from programs.tasks.program import ProgramBuilder
from programs.tasks.task import Task
from programs.tasks.task_file import task_of
from programs.text import one_line
from r2p_dspy import R2P, AssertionFailed, R2PPrediction
from r2p_dspy.engines.keys import without_credentials
from r2p_dspy.errors import DataError, R2PError
from r2p_dspy.files import write_atomic
from r2p_dspy.prompting.causes import REMEDIES, Unreadable
from r2p_dspy.stores import open_store
from r2p_dspy.values.typed import plain

# Rows that may have ended behind a slower one, for each call in flight. Where calls are kept, a kill does not lose
# them, so a slow row need not stop the others.
_AHEAD, _AHEAD_WITHOUT_CACHE = 256, 8


class _UnreadableAnswer(R2PError):
    """A program returned a prediction without an answer."""

    def __init__(self, prediction: R2PPrediction, why: Unreadable):
        super().__init__(f"the answer cannot be read: {why.explain()} ({REMEDIES[why.cause]})")
        self.prediction, self.why = prediction, why

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.prediction, self.why)


def run_predict(config: PredictConfig, resume: bool, reporter: Reporter) -> PredictionWriter:
    """Answer every row of a file with the task's R2P program, compiled or not.

    Args:
        config: which rows and program, and where answers go.
        resume: go on with the answers that are there.
        reporter: shows progress.

    Returns:
        The writer, with the numbers of answered and failed rows.

    Raises:
        R2PError: (ConfigError, DataError, ArtifactError, RunError) one line on what is wrong with options or files.
        LMError: see `predict`.
    """
    task = task_of(config.program.task)
    source = rows_of(task, str(config.source), reporter.say)
    program = ProgramBuilder(task, config.program).load()
    with nullcontext() if config.store is None else closing(open_store(config.store)) as program.store:
        return _run(config, resume, reporter, task, source, program)


def _run(
    config: PredictConfig, resume: bool, reporter: Reporter, task: Task, source: Path, program: R2P
) -> PredictionWriter:
    total, fingerprint = survey(task, source)
    # An answer from DSPy's cache has no usage, and the cache would grow with the input.
    needed = tokens_needed(task, program)
    lm = config.model.connect(cache=False, carrier=config.program.r2p.carrier, needed=needed)
    files = {"program_file": digest(config.program.artifact), "task_file": digest(config.program.task)}
    stored = {} if program.store is None else {"store": repr(program.store)}  # without its password
    record = {"input": fingerprint, "lm": lm.model, **config.options(), **files, **stored}
    calls = CallKeeping.of(config.calls, config.cache, calls_beside(config.target))
    threads, skip = config.num_threads, config.skip
    with PredictionWriter(config.target, record, source, resume, skip) as writer:
        with open_calls(calls, fingerprint) as (limiter, cache), config.model.asking(record_calls(lm, cache, limiter)):
            for caution in foreign_text(config.model.name, str(source)):
                reporter.say(caution)
            progress = reporter.start("predict", total, writer.answered + writer.failed)
            ahead = _AHEAD_WITHOUT_CACHE if cache is None else _AHEAD
            predict(
                program,
                task,
                source,
                writer,
                threads=threads,
                ahead=ahead,
                skip=skip,
                redact=config.redact,
                progress=progress,
            )
        calls.finish()
    if is_official(task, source):
        reporter.say(f"the official file is {write_submission(task, writer)}")
    return writer


def write_submission(task: Task, writer: PredictionWriter) -> Path:
    """Write the answers as the benchmark's script takes them, beside the file of answers: `NAME.submission.json`.

    A failed row has the empty answer, since the script wants one for every question.
    """
    target = writer.answers.path
    answered = [{"id": row["id"], "answer": row[task.answer]} for row in writer.answers]
    failed = [{"id": row["id"], "answer": None} for row in writer.failures if row["id"] is not None]
    path = target.with_name(f"{target.name.removesuffix('.jsonl')}{SUBMITTED}")
    write_atomic(path, json.dumps(submission(task, [*answered, *failed]), ensure_ascii=False), private=True)
    return path


def calls_beside(target: Path) -> Path:
    """The directory of the call cache beside a file of answers: `NAME.calls`."""
    return target.with_name(f"{target.name.removesuffix('.jsonl')}.calls")


def predict(
    program: R2P,
    task: Task,
    source: Path,
    writer: PredictionWriter,
    *,
    threads: int = 16,
    ahead: int = _AHEAD_WITHOUT_CACHE,
    skip: Collection[str] = (),
    redact: bool = False,
    progress: Callable[[], None] = lambda: None,
) -> None:
    """Answer the rows of a file that are not done yet, with the configured LM.

    An answer that fails an assert after the last backtrack is written with its violations, or fails its row where the
    program has `on_unmet="raise"`. A row fails too if it is flawed, if its answer cannot be read, if the model refuses
    its request, and if the server fails to answer it although it answers others.

    Args:
        program: the task's program.
        task: the task of the rows.
        source: the file of rows.
        writer: where answers and failures go.
        threads: calls in flight.
        ahead: rows that may have ended behind a slower one, for each call in flight. They wait in memory, without their
            profiles, until the slower one is written.
        skip: ids of rows to leave out.
        redact: leave reasoning, completions, quotes and what checks say of them out of the rows.
        progress: called after each row.

    Raises:
        LMError: if the server is away (see `InFlight`), or refuses the user or the model. No row is at fault then, so
            no row is marked as failed. A note names the row that was asked.
        CheckError: if a check of the task fails itself, which is no row's fault either.
        RunError: see `PredictionWriter`.
    """
    lm, stored = dspy.settings.lm, program.store is not None  # then an answer says whose it is, to be found again
    # Do not wait for a server that was never there; a server that has answered may be away for a minute.
    patient = lm.copy(num_retries=2 * lm.num_retries)

    def answer(row: InputRow) -> dict[str, Any]:
        inputs = arguments(task, source, row, stored)
        with dspy.context(lm=patient if writer.answered else lm), answering(str(row.id), user=user_of(row)):
            named = {"user": user} if stored and (user := named_user(row)) is not None else {}
            return {"id": row.id, **named, **_answer(program, task, inputs, redact)}

    in_flight = InFlight(threads, ahead)
    try:
        # History and trace would grow with the input.
        with dspy.context(trace=None, disable_history=True):
            for ended in in_flight.results(writer.remaining(read(task, source, skip)), answer):
                _write(writer, ended, redact, stored)
                progress()
        writer.finish()
    finally:
        in_flight.close()


def _write(writer: PredictionWriter, ended: EndedRow, redact: bool, stored: bool) -> None:
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
