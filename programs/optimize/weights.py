"""DSPy's BetterTogether: demos, then weights fine-tuned on what passes the gate, then demos again."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import dspy
from dspy.teleprompt import BetterTogether, BootstrapFinetune
from dspy.teleprompt.teleprompt import Teleprompter

from programs.optimize.context import CompileContext
from programs.optimize.demos import random_search


def better_together(context: CompileContext) -> dspy.Module:
    """Search demos, train the weights on what passes the gate, and search demos again with the trained model."""
    assert context.trainable is not None

    def search_demos(student: Any, train: list[dspy.Example]) -> dspy.Module:
        with dspy.context(lm=student.get_lm()):  # bootstrapping takes a program's own model away
            return random_search(replace(context, program=student, train=train, candidate_scores={})) or student

    def train_weights(student: Any, train: list[dspy.Example]) -> dspy.Module:
        # With the score as a number, DSPy would train on every run above 0.
        accepts, threads = context.score.accepts, context.threads
        finetune = BootstrapFinetune(metric=accepts, exclude_demos=True, num_threads=threads)
        return finetune.compile(student, trainset=train)

    steps = {"p": _Step(search_demos), "w": _Step(train_weights)}
    student = context.program.deepcopy()
    student.set_lm(context.trainable(dspy.settings.lm))
    compiled = BetterTogether(metric=context.score.metric, **steps).compile(
        student,
        trainset=[*context.train],
        valset=[*context.dev],
        num_threads=context.threads,
        seed=context.seed,
        strategy="p -> w -> p",
    )
    for step in steps.values():
        if step.failure is not None:
            raise step.failure
    return compiled


class _Step(Teleprompter):
    """A step of the chain. It keeps its failure: DSPy only logs it, and goes on with what it has."""

    def __init__(self, run: Callable[[Any, list[dspy.Example]], dspy.Module]):
        self.run = run
        self.failure: Exception | None = None

    def compile(self, student: Any, *, trainset: list[dspy.Example], **options: Any) -> dspy.Module:
        try:
            return self.run(student, trainset)
        except Exception as error:
            self.failure = error
            raise
