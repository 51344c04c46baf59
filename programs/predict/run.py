"""Answer the rows of a JSONL file: many calls in flight, in order, and a kill neither loses nor repeats a row."""

import json
from pathlib import Path

from programs.calls.keeping import CallKeeping
from programs.data.makers.sources import rows_of
from programs.evaluate.submission import submission
from programs.predict.answerer import Answerer, Predicted, deciding, open_answerer
from programs.predict.answering import predict
from programs.predict.input_rows import is_official, read, survey
from programs.predict.writer import PredictionWriter
from programs.runs.cautions import foreign_text
from programs.runs.configs import PredictConfig
from programs.runs.reporter import Reporter
from programs.stores.owners import SUBMITTED
from programs.tasks.task import Task
from programs.tasks.task_file import task_of
from r2p_dspy.files import write_atomic

__all__ = ["Predicted", "predict", "run_predict"]


def run_predict(config: PredictConfig, resume: bool, reporter: Reporter) -> Predicted:
    """Answer every row of a file with the task's R2P program, compiled or not; on a Ray cluster, if one is named.

    Args:
        config: which rows and program, and where answers go.
        resume: go on with the answers that are there.
        reporter: shows progress.

    Raises:
        R2PError: (ConfigError, DataError, ArtifactError, RunError) one line on what is wrong with options or files.
        LMError: see `answer_rows`.
    """
    if config.ray is not None:
        from programs.cluster.run import run_on_ray

        return run_on_ray(config, resume, reporter)
    source = rows_of(task_of(config.program.task), str(config.source), reporter.say)
    with open_answerer(config) as answerer:
        return _run(answerer, source, resume, reporter)


def _run(answerer: Answerer, source: Path, resume: bool, reporter: Reporter) -> Predicted:
    config = answerer.config
    total, fingerprint = survey(answerer.task, source)
    store = answerer.program.store
    stored = None if store is None else repr(store)  # without its password
    record = {"input": fingerprint, "lm": answerer.lm.model, **deciding(config, stored)}
    calls = CallKeeping.of(config.calls, config.cache, calls_beside(config.target))
    with PredictionWriter(config.target, record, source, resume, config.skip) as writer:
        for caution in foreign_text(config.model.name, str(source)):
            reporter.say(caution)
        progress = reporter.start("predict", total, writer.answered + writer.failed)
        answerer.answer(read(answerer.task, source, writer.skipped), writer, calls, fingerprint, progress)
        calls.finish()
    if is_official(answerer.task, source):
        reporter.say(f"the official file is {write_submission(answerer.task, writer)}")
    return Predicted(writer.answered, writer.failed, writer.failures.path)


def write_submission(task: Task, writer: PredictionWriter) -> Path:
    """Write the answers as the benchmark's script takes them, beside the file of answers: `NAME.submission.json`.

    A failed row has the empty answer, since the script wants one for every question, and one only.
    """
    target = writer.answers.path
    answered = [{"id": row["id"], "answer": row[task.answer]} for row in writer.answers]
    done = {None, *(row["id"] for row in answered)}  # an id may stand twice in the input
    left = dict.fromkeys(row["id"] for row in writer.failures if row["id"] not in done)
    failed = [{"id": name, "answer": None} for name in left]
    path = target.with_name(f"{target.name.removesuffix('.jsonl')}{SUBMITTED}")
    write_atomic(path, json.dumps(submission(task, [*answered, *failed]), ensure_ascii=False), private=True)
    return path


def calls_beside(target: Path) -> Path:
    """The directory of the call cache beside a file of answers: `NAME.calls`."""
    return target.with_name(f"{target.name.removesuffix('.jsonl')}.calls")
