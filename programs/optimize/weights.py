"""DSPy's BetterTogether: demos, then weights fine-tuned on what passes the gate, then demos again."""

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
    prompts, weights = _PromptStep(context), _WeightStep(context)
    student = context.program.deepcopy()
    student.set_lm(context.trainable(dspy.settings.lm))
    chain = BetterTogether(metric=context.score.metric, p=prompts, w=weights)
    compiled = chain.compile(
        student,
        trainset=[*context.train],
        valset=[*context.dev],
        num_threads=context.threads,
        seed=context.seed,
        strategy="p -> w -> p",
    )
    for step in (prompts, weights):
        if step.failure is not None:  # DSPy only logs it, and goes on with what it has
            raise step.failure
    return compiled


class _Step(Teleprompter):
    """A step of the chain, which keeps its failure: DSPy only logs it."""

    def __init__(self, context: CompileContext):
        self.context = context
        self.failure: Exception | None = None

    def compile(self, student: dspy.Module, *, trainset: list[dspy.Example]) -> dspy.Module:
        try:
            return self.run(student, trainset)
        except Exception as error:
            self.failure = error
            raise

    def run(self, student: Any, trainset: list[dspy.Example]) -> dspy.Module:
        raise NotImplementedError


class _PromptStep(_Step):
    """Random search, with the model that the chain has reached."""

    def run(self, student: Any, trainset: list[dspy.Example]) -> dspy.Module:
        with dspy.context(lm=student.get_lm()):  # bootstrapping takes a program's own model away
            context = replace(self.context, program=student, train=trainset, candidate_scores={})
            return random_search(context) or student


class _WeightStep(_Step):
    """DSPy's fine-tuning on what passes the gate; with the score as a number it would keep every run above 0."""

    def run(self, student: Any, trainset: list[dspy.Example]) -> dspy.Module:
        accepts, threads = self.context.score.accepts, self.context.threads
        finetune = BootstrapFinetune(metric=accepts, exclude_demos=True, num_threads=threads)
        return finetune.compile(student, trainset=trainset)
