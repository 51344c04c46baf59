"""The optimizer that trains weights too: demos, then fine-tuning on what passes the gate, then demos again."""

from dataclasses import replace
from typing import Any

import dspy
from dspy.teleprompt import BetterTogether, BootstrapFinetune
from dspy.teleprompt.teleprompt import Teleprompter

from programs.optimize.context import CompileContext
from programs.optimize.demos import random_search


def together(job: CompileContext) -> dspy.Module:
    """Prompts, weights, prompts again: demos by random search, and weights by fine-tuning on what passes the gate."""
    assert job.trainable is not None
    prompts, weights = _Prompts(job), _Weights(job)
    student = job.program.deepcopy()
    student.set_lm(job.trainable(dspy.settings.lm))
    chain = BetterTogether(metric=job.scored.metric, p=prompts, w=weights)
    made = chain.compile(
        student,
        trainset=[*job.train],
        valset=[*job.dev],
        num_threads=job.threads,
        seed=job.seed,
        strategy="p -> w -> p",
    )
    for step in (prompts, weights):
        if step.failure is not None:  # DSPy would go on with what it has, and only log it
            raise step.failure
    return made


class _Step(Teleprompter):
    """A step of a chain, whose failure is kept: DSPy only logs it."""

    def __init__(self, job: CompileContext):
        self.job = job
        self.failure: Exception | None = None

    def compile(self, student: dspy.Module, *, trainset: list[dspy.Example]) -> dspy.Module:
        try:
            return self.step(student, trainset)
        except Exception as error:
            self.failure = error
            raise

    def step(self, student: Any, trainset: list[dspy.Example]) -> dspy.Module:
        raise NotImplementedError


class _Prompts(_Step):
    """Our random search, by the model that the chain has come to."""

    def step(self, student: Any, trainset: list[dspy.Example]) -> dspy.Module:
        with dspy.context(lm=student.get_lm()):  # bootstrapping takes a program's own model away
            return random_search(replace(self.job, program=student, train=trainset, candidates={})) or student


class _Weights(_Step):
    """DSPy's fine-tuning on what passes the gate; by the float face it would keep every run that is not 0."""

    def step(self, student: Any, trainset: list[dspy.Example]) -> dspy.Module:
        tuning = BootstrapFinetune(metric=self.job.scored.accepts, exclude_demos=True, num_threads=self.job.threads)
        return tuning.compile(student, trainset=trainset)
