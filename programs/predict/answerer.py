"""What answers rows, on this machine and on those of a cluster: a task's program, its store and its model."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import dspy

from programs.calls.cache import Usage
from programs.calls.keeping import CallKeeping
from programs.calls.recording import record_calls
from programs.predict.answer_files import AnswerFiles
from programs.predict.answering import AHEAD, AHEAD_WITHOUT_CACHE, answer_rows
from programs.predict.input_rows import InputRow
from programs.runs.active import open_calls
from programs.runs.configs import PredictConfig, digest
from programs.tasks.answer_length import tokens_needed
from programs.tasks.program import ProgramBuilder
from programs.tasks.task import Task
from programs.tasks.task_file import task_of
from r2p_dspy import R2P
from r2p_dspy.stores import open_store


@dataclass(frozen=True)
class Predicted:
    """What has become of an input's rows.

    Args:
        answered: how many were answered.
        failed: how many failed.
        failures: the file that says why; of a cluster's run, its folder.
    """

    answered: int
    failed: int
    failures: Path


class Answerer:
    """Answers rows with a task's R2P program, compiled or not.

    Args:
        config: which program and model.
        task: the task of the config.
        program: its program, with its store.
    """

    def __init__(self, config: PredictConfig, task: Task, program: R2P):
        self.config, self.task, self.program = config, task, program

    @cached_property
    def lm(self) -> dspy.LM:
        """The model that the program asks; it is connected, or loaded, at first use."""
        # An answer from DSPy's cache has no usage, and the cache would grow with the input.
        needed = tokens_needed(self.task, self.program)
        return self.config.model.connect(cache=False, carrier=self.config.program.r2p.carrier, needed=needed)

    def answer(
        self,
        rows: Iterable[InputRow],
        writer: AnswerFiles,
        calls: CallKeeping,
        run: str,
        progress: Callable[[], None] = lambda: None,
    ) -> Usage:
        """Answer the rows of a writer's source that are not done yet; see `answer_rows`.

        Args:
            rows: all rows of the source, in order.
            writer: where answers and failures go.
            calls: where completed calls are kept.
            run: the id under which they are kept.
            progress: called after each row.

        Returns:
            What the run has spent, with what is known of the time before it was resumed.
        """
        with open_calls(calls, run) as (limiter, cache):
            with self.config.model.asking(record_calls(self.lm, cache, limiter)):
                answer_rows(
                    self.program,
                    self.task,
                    rows,
                    writer,
                    threads=self.config.num_threads,
                    ahead=AHEAD_WITHOUT_CACHE if cache is None else AHEAD,
                    redact=self.config.redact,
                    progress=progress,
                )
        return limiter.before + limiter.usage


@contextmanager
def open_answerer(config: PredictConfig) -> Iterator[Answerer]:
    """What answers the rows of a config, with its store open; raises an `R2PError` of one line if it cannot be made."""
    task = task_of(config.program.task)
    program = ProgramBuilder(task, config.program).load()
    with nullcontext() if config.store is None else closing(open_store(config.store)) as program.store:
        yield Answerer(config, task, program)


def deciding(config: PredictConfig, store: str | None) -> dict[str, Any]:
    """What decides the answers beside the input and the model; a resumed run must have the same."""
    files = {"program_file": digest(config.program.artifact), "task_file": digest(config.program.task)}
    return {**config.options(), **files, **({} if store is None else {"store": store})}
