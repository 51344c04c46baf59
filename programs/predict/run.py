"""Answer the rows of a JSONL file: many calls in flight, in order, and a kill neither loses nor repeats a row.

answers:  {"id": "7", "tag": "comedy", "evidence": [{"item": "m1", "quote": "…"}], "violations": [], "usage": {…}, …}
failures: {"id": "8", "line": 12, "error": "line 12: its profile is None, not a list of items; it has id, description"}
          {"id": "9", "line": 13, "error": "the answer cannot be read: …", "cause": "cut_off", "completion": "[[ ## …"}
"""

from collections import deque
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any

import dspy
from dspy.utils.exceptions import (
    LMError,
    LMInvalidRequestError,
    LMProviderError,
    LMServerError,
    LMTimeoutError,
    LMUnsupportedModelError,
)

from programs.predict.input_rows import InputRow, arguments, read, survey
from programs.predict.writer import MOST, PredictionWriter
from programs.runs.cautions import foreign_text
from programs.runs.configs import PredictConfig, digest
from programs.runs.reporter import Reporter
from programs.tasks.answer_length import tokens_needed
from programs.tasks.program import ProgramBuilder
from programs.tasks.task import Task
from programs.tasks.task_file import task_of
from programs.text import one_line
from r2p_dspy import R2P, AssertionFailed, R2PPrediction
from r2p_dspy.errors import CheckError, DataError, R2PError
from r2p_dspy.prompting.causes import REMEDIES, Unreadable
from r2p_dspy.values.typed import plain

_FEWEST = 5  # failures of the model one after another that stop a run, however few calls are in flight
_AHEAD = 8  # rows that may be ahead of the slowest one, for each call in flight


class _UnreadableAnswer(R2PError):
    """A program returned a prediction without an answer."""

    def __init__(self, prediction: R2PPrediction, why: Unreadable):
        super().__init__(f"the answer cannot be read: {why.explain()} ({REMEDIES[why.cause]})")
        self.prediction = prediction


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
    task, source = task_of(config.program.task), config.source
    program = ProgramBuilder(task, config.program).load()
    total, fingerprint = survey(source)
    # An answer from DSPy's cache has no usage, and the cache would grow with the input.
    needed = tokens_needed(task, program)
    lm = config.model.connect(cache=False, carrier=config.program.r2p.carrier, needed=needed)
    files = {"program_file": digest(config.program.artifact), "task_file": digest(config.program.task)}
    record = {"input": fingerprint, "lm": lm.model, **config.options(), **files}
    with PredictionWriter(config.target, record, source, resume) as writer, config.model.asking(lm):
        for caution in foreign_text(config.model.name, str(source)):
            reporter.say(caution)
        progress = reporter.start("predict", total, writer.answered + writer.failed)
        predict(program, task, source, writer, threads=config.num_threads, skip=config.skip, progress=progress)
    return writer


def predict(
    program: R2P,
    task: Task,
    source: Path,
    writer: PredictionWriter,
    *,
    threads: int = 16,
    skip: Collection[str] = (),
    progress: Callable[[], None] = lambda: None,
) -> None:
    """Answer the rows of a file that are not done yet, with the configured LM.

    An answer that fails an assert after the last backtrack is written with its violations, or fails its row where the
    program has `on_unmet="raise"`. A row fails too if it is flawed, if its answer cannot be read, if the model refuses
    its request, and, once the server has answered others, if it gives no answer in time, none of a bounded size, or
    none that is one.

    Args:
        program: the task's program.
        task: the task of the rows.
        source: the file of rows.
        writer: where answers and failures go.
        threads: calls in flight. At most eight times as many rows are in memory.
        skip: ids of rows to leave out.
        progress: called after each row.

    Raises:
        LMError: if the model cannot be reached, refuses the user, or fails before it has answered any row. No row is at
            fault then, so no row is marked as failed. A note names the row that was asked.
        CheckError: if a check of the task fails itself, which is no row's fault either.
        RunError: see `PredictionWriter`.
    """
    lm = dspy.settings.lm
    # Do not wait for a server that was never there; a server that has answered may be away for a minute.
    patient = lm.copy(num_retries=2 * lm.num_retries)
    waiting = deque[tuple[InputRow, Future[dict[str, Any]]]]()

    def answer(row: InputRow) -> dict[str, Any]:
        inputs = arguments(task, source, row)
        with dspy.context(lm=patient if writer.answered else lm):
            return {"id": row.id, **_answer(program, task, inputs)}

    pool = ThreadPoolExecutor(threads)
    try:
        # History and trace would grow with the input.
        with dspy.context(trace=None, disable_history=True):
            for row in writer.remaining(read(task, source, skip)):
                call = pool.submit(copy_context().run, answer, row)
                waiting.append((row._replace(fields={}), call))
                if len(waiting) == _AHEAD * threads:
                    _write(writer, *waiting.popleft(), threads)
                    progress()
            while waiting:
                _write(writer, *waiting.popleft(), threads)
                progress()
        writer.finish()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _write(writer: PredictionWriter, row: InputRow, call: Future[dict[str, Any]], threads: int) -> None:
    try:
        answer = call.result()
    except Exception as error:
        if isinstance(error, CheckError) or (isinstance(error, LMError) and not _is_of_row(error, writer.begun)):
            error.add_note(f"this was line {row.line}; --skip {row.id} leaves it out")
            raise
        plain = isinstance(error, ValueError | AssertionFailed | _UnreadableAnswer)
        reason = one_line(str(error) if plain else f"{type(error).__name__}: {error}")[:500]
        why = error.prediction.details.unreadable if isinstance(error, AssertionFailed | _UnreadableAnswer) else None
        # A server that hangs costs a deadline for every row: it is given up once every call in flight has failed.
        most = max(_FEWEST, min(MOST, threads)) if _is_of_server(error) else MOST
        writer.fail(row, reason, asked=not isinstance(error, DataError), why=why, most=most)
    else:
        writer.answer(answer)


def _is_of_row(error: LMError, begun: bool) -> bool:
    """Whether a model's failure may be one row's alone; before it has answered any, it is the server's."""
    if isinstance(error, LMInvalidRequestError):
        return not isinstance(error, LMUnsupportedModelError)
    return _is_of_server(error) and begun


def _is_of_server(error: Exception) -> bool:
    """Whether a call has no answer in time, none of a bounded size, or none that is one."""
    return isinstance(error, LMTimeoutError | LMServerError) or type(error) is LMProviderError


def _answer(program: R2P, task: Task, inputs: dict[str, Any]) -> dict[str, Any]:
    with dspy.track_usage() as usage:
        prediction = program(**inputs)
    details = prediction.details
    if details.unreadable is not None:
        raise _UnreadableAnswer(prediction, details.unreadable)
    answers = {name: plain(prediction[name]) for name in program.reason.answers}
    own_ids = {item.id: item.ref for item in details.retrieved}
    calls = [call for calls in usage.usage_data.values() for call in calls]
    tokens = ("prompt_tokens", "completion_tokens")
    return {
        **answers,
        "evidence": [
            {"item": own_ids[evidence.item], "quote": evidence.quote}
            for evidence in details.reasoning.stages.get("evidence") or ()
            if evidence.item in own_ids
        ],
        "violations": [
            verdict.model_dump(include={"check", "kind", "message"})
            for verdict in details.violations
            if verdict.message
        ],
        "warnings": details.warnings,
        "usage": {"calls": len(calls), **{kind: sum(call.get(kind) or 0 for call in calls) for kind in tokens}},
    } | answers  # the task's own field names win
