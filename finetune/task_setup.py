"""One task of a run: its teacher, the program that the student answers for, and the users of each role."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from finetune.config import Options
from programs.data.dataset import Data, DataConfig
from programs.data.reading import read_examples
from programs.runs.reporter import Reporter
from programs.tasks.program import R2PConfig, build
from programs.tasks.task import Task
from programs.tasks.task_file import task_of
from r2p_dspy import R2P, load_program
from r2p_dspy.prompting.signature import Carrier


@dataclass(frozen=True)
class TaskSetup:
    """One task.

    Args:
        task: what is learnt.
        teacher: an R2P program with cross-referencing, compiled or not.
        program: the student's, see `student_program`.
        settings: how the teacher is set up.
        data: who is learnt from, chosen by, and reported.
    """

    task: Task
    teacher: R2P
    program: R2P
    settings: R2PConfig
    data: Data

    @classmethod
    def of(cls, name: str, options: Options, carrier: Carrier, reporter: Reporter) -> TaskSetup:
        """The course of a task.

        Args:
            name: of the task, or of its file.
            options: what was asked for.
            carrier: of the student's reasoning.
            reporter: is told of rows that are left out.

        Raises:
            ValueError: (DataError, ArtifactError) one line on what is wrong with the task, the program or the data.
        """
        task = task_of(name)
        settings = R2PConfig() if options.program is None else R2PConfig.of(options.program)
        asked = {"retriever": options.retriever, "k": options.k, "candidates": options.candidates}
        settings = settings.model_copy(update={name: value for name, value in asked.items() if value is not None})
        teacher = build(task, settings, seed=options.seed, tokens=options.retriever_tokens)
        if options.program is not None:
            load_program(teacher, options.program, task=task.name)
        config = DataConfig(
            options.data, options.limit, options.seed, skip_bad=options.skip_bad, trains=True, train=options.users
        )
        return cls(
            task,
            teacher,
            student_program(task, teacher, carrier),
            settings,
            read_examples(task, config, reporter.say),
        )


def student_program(task: Task, teacher: R2P, carrier: Carrier) -> R2P:
    """The program that a student answers for: the teacher's instructions, no demos, one call, nobody who corrects."""
    program = R2P(
        task.signature,
        retriever=teacher.retriever,
        checks=task.checks,
        template=teacher.reason.template,
        carrier=carrier,
        max_backtracks=0,
        max_interventions=0,
    )
    theirs: Any = teacher.reason.signature
    program.reason.signature = program.reason.signature.with_instructions(theirs.instructions)
    return program
