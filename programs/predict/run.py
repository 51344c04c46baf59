"""Answers for the rows of a JSONL file: many calls in flight, order kept, nothing lost or doubled by a kill.

answers:  {"id": "7", "tag": "comedy", "evidence": [{"item": "m1", "quote": "…"}], "violations": [], "usage": {…}}
failures: {"id": "8", "line": 12, "error": "line 12: its profile is None, not a list of items; it has id, description"}
"""

from collections import deque
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any

import dspy
from dspy.utils.exceptions import LMError, LMInvalidRequestError, LMUnsupportedModelError
from pydantic_core import to_jsonable_python

from programs.predict.questions import Row, arguments, read, survey
from programs.predict.writer import PredictionWriter
from programs.runs.configs import Options, digest
from programs.runs.reporter import Reporter
from programs.tasks.program import R2PConfig, build, resolved
from programs.tasks.task import Task
from programs.tasks.task_file import task_of
from programs.text import one_line
from r2p_dspy import R2P, load_program, optimizing
from r2p_dspy.errors import ConfigError, DataError
from r2p_dspy.outcome import unshadowed

_AHEAD = 8  # rows for each call in flight that may be ahead of the slowest one

# What a resumed run must have in common with its beginning; the others change how it runs, not what it answers.
_SAME = ("task", "model", *R2PConfig.model_fields, "retriever_tokens", "seed", "temperature")


def run_predict(options: Options, source: Path, target: Path, resume: bool, reporter: Reporter) -> PredictionWriter:
    """Answer every row of a file with the task's R2P program, compiled or not.

    Args:
        options: what was asked for.
        source: the rows, see `questions`.
        target: where answers go, see `PredictionWriter`.
        resume: whether to go on with what is there.
        reporter: who is told of progress.

    Returns:
        What is settled, with the numbers of answered and failed rows.

    Raises:
        ValueError: one line on what is wrong with options or files.
        LMError: see `predict`.
    """
    task = task_of(options.task)
    options, settings = resolved(options)
    program = build(task, settings, seed=options.seed, tokens=options.retriever_tokens)
    if options.program is not None:
        load_program(program, options.program, task=task.name)
    total, fingerprint = survey(source)
    lm = options.connect(cache=False)  # an answer from a cache has no usage, and it would grow with the input
    config = {"input": fingerprint, "lm": lm.model, **{name: getattr(options, name) for name in _SAME}}
    for name in ("program", "task"):
        config[f"{name}_file"] = digest(getattr(options, name))
    with PredictionWriter(target, config, source, resume) as settled, dspy.context(lm=lm):
        progress = reporter.start("predict", total, settled.answered + settled.failed)
        predict(program, task, source, settled, threads=options.num_threads, skip=options.skip, progress=progress)
    return settled


def predict(
    program: R2P,
    task: Task,
    source: Path,
    settled: PredictionWriter,
    *,
    threads: int = 16,
    skip: Collection[str] = (),
    progress: Callable[[], None] = lambda: None,
) -> None:
    """Answer the rows of a file that are not settled yet, with the LM that is configured.

    An answer that breaks an assert after the last backtrack is written, with its violations. A row fails that is
    flawed, whose answer cannot be read, or whose request the model refuses.

    Args:
        program: the task's program.
        task: what the rows are for.
        source: the rows.
        settled: where they go.
        threads: calls in flight; of eight times as many rows at most something is in memory.
        skip: ids of rows to leave out.
        progress: called after each row.

    Raises:
        LMError: when the model cannot be reached, does not answer in time, or refuses the user: this is no row's fault,
            so nothing is settled by it. A note says at which row it was.
        RunError: see `PredictionWriter`.
    """
    lm = dspy.settings.lm
    # A server that was never there is not waited for; one that has answered may be away for a minute.
    patient = lm.copy(num_retries=2 * lm.num_retries)
    waiting = deque[tuple[Row, Future[dict[str, Any]]]]()

    def answer(row: Row) -> dict[str, Any]:
        inputs = arguments(task, source, row)
        with dspy.context(lm=patient if settled.answered else lm):
            return {"id": row.id, **_answer(program, task, inputs)}

    pool = ThreadPoolExecutor(threads)
    try:
        # No history and no trace are kept: they would grow with the input.
        with dspy.context(trace=None, disable_history=True):
            for row in settled.unsettled(read(task, source, skip)):
                call = pool.submit(copy_context().run, answer, row)
                waiting.append((row._replace(fields={}), call))
                if len(waiting) == _AHEAD * threads:
                    _settle(settled, *waiting.popleft())
                    progress()
            while waiting:
                _settle(settled, *waiting.popleft())
                progress()
        settled.finish()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _settle(settled: PredictionWriter, row: Row, call: Future[dict[str, Any]]) -> None:
    try:
        answer = call.result()
    except Exception as error:
        refused = isinstance(error, LMInvalidRequestError) and not isinstance(error, LMUnsupportedModelError)
        if isinstance(error, LMError) and not refused:
            error.add_note(f"it was at line {row.line}, which --skip {row.id} leaves out")
            raise
        said = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        settled.fail(row, one_line(said)[:500], asked=not isinstance(error, DataError))
    else:
        settled.answer(answer)


def _answer(program: R2P, task: Task, inputs: dict[str, Any]) -> dict[str, Any]:
    with dspy.track_usage() as usage, optimizing():
        made = program(**inputs)
    details = made.details
    if (error := unshadowed(details.outcome).error) is not None:
        raise ConfigError(f"the answer cannot be read: {error}")
    answers = {name: to_jsonable_python(made[name], inf_nan_mode="strings") for name in program.reason.answers}
    own = {item.id: item.ref for item in details.retrieved}
    calls = [call for calls in usage.usage_data.values() for call in calls]
    tokens = ("prompt_tokens", "completion_tokens")
    return {
        **answers,
        "evidence": [
            {"item": own[one.item], "quote": one.quote}
            for one in details.reasoning.stages.get("evidence") or ()
            if one.item in own
        ],
        "violations": [
            one.model_dump(include={"check", "kind", "message"}) for one in details.violations if one.message
        ],
        "usage": {"calls": len(calls), **{kind: sum(call.get(kind) or 0 for call in calls) for kind in tokens}},
    } | answers  # a task's own names win
