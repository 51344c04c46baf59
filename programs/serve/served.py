"""Programs that are served: each with its types and its model."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import dspy
from dspy.utils.usage_tracker import UsageTracker

from programs.runs.model import ModelConfig
from programs.serve.config import ServeConfig
from programs.serve.schemas import Schemas
from programs.tasks.answer_length import tokens_needed
from programs.tasks.program import ProgramBuilder
from programs.tasks.task import Task
from programs.tasks.task_file import task_of
from r2p_dspy import R2P, read_artifact
from r2p_dspy.stores import Histories


@dataclass(frozen=True)
class ServedProgram:
    """A program that is served.

    Args:
        name: in addresses.
        task: what it does.
        program: what answers.
        lm: what it asks.
        model: how.
        schemas: the types of its requests and answers.
        made: the day on which it was compiled; None for an uncompiled program.
    """

    name: str
    task: Task
    program: R2P
    lm: dspy.LM
    model: ModelConfig
    schemas: Schemas
    made: str | None

    @contextmanager
    def asking(self) -> Iterator[UsageTracker]:
        """The context of one call; gives what counts its tokens."""
        with self.model.asking(self.lm), dspy.context(trace=None, disable_history=True), dspy.track_usage() as usage:
            yield usage

    def described(self) -> dict[str, Any]:
        """The program as `GET /v1/programs` lists it."""
        return {
            "name": self.name,
            "task": self.task.name,
            "about": self.task.signature.instructions,
            "model": self.lm.model,
            "compiled": self.made,
            "inputs": self.schemas.inputs.model_json_schema(),
            "item": self.schemas.item.model_json_schema(),
            "outputs": self.schemas.outputs.model_json_schema(),
        }


def served_programs(config: ServeConfig, histories: Histories | None) -> dict[str, ServedProgram]:
    """Build the programs of a service, all of which read from one store.

    Raises:
        R2PError: one line on a task, an artifact or a model that cannot be used.
    """
    served = {}
    for name, chosen in config.programs.items():
        task = task_of(chosen.task)
        program = ProgramBuilder(task, chosen).load()
        program.store = histories
        # Answers from DSPy's cache have no usage, and it would grow with the service.
        needed = tokens_needed(task, program)
        lm = config.model.connect(cache=False, carrier=chosen.r2p.carrier, needed=needed)
        made = None if chosen.artifact is None else read_artifact(chosen.artifact).made
        served[name] = ServedProgram(name, task, program, lm, config.model, Schemas(name, task), made)
    return served
