"""What an optimizer compiles with, and the training examples whose runs can become demos."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import dspy

from programs.tasks.task import Task
from r2p_dspy import R2P, Composite, justifying

# What a candidate of GEPA must be best at to stay: an example, a part of the score, either, or a part on an example.
Frontier = Literal["instance", "objective", "hybrid", "cartesian"]
DEMOS = 3  # at most; `Reason` leaves out demos that do not fit the prompt
CANDIDATES = 4  # sets of demos, or instructions, that an optimizer tries
ENOUGH = 12  # examples to choose demos from


@dataclass(frozen=True)
class Passing:
    """Training examples whose runs can become demos, how many were tried, and the teacher where the program is weak."""

    examples: list[dspy.Example]
    tried: int
    teacher: Justifying | None = None


@dataclass(frozen=True)
class CompileContext:
    """What an optimizer compiles with; see `compiling.compile_program`.

    An optimizer that rates its candidates on all of dev writes their scores, by example, into `candidate_scores`. One
    that keeps candidates for parts of the score writes the best value of each part, and whose it is, into `objectives`.
    """

    program: R2P
    task: Task
    score: Composite
    train: Sequence[dspy.Example]
    dev: Sequence[dspy.Example]
    threads: int = 16
    seed: int = 0
    reflection: dspy.LM | None = None
    frontier: Frontier = "instance"
    trainable: Callable[[dspy.LM], dspy.LM] | None = None
    progress: Callable[[str], None] = lambda line: None
    candidate_scores: dict[str, list[tuple[dspy.Example, float]]] = field(default_factory=dict)
    objectives: dict[str, dict[str, Any]] = field(default_factory=dict)

    @cached_property
    def passing(self) -> Passing:
        """The training examples that can become demos; none where prompts show none. Computed at the first use only.

        A program that is too weak to find answers is told them, and reasons towards them.
        """
        if not self.program.reason.takes_demos:
            self.progress("the program's prompts have no demos, so none are looked for")
            return Passing([], 0)
        passing = find_passing(self.program, self.score, self.train, self.threads, least=DEMOS)
        passed = len(passing.examples)
        self.progress(f"{passed} of {passing.tried} training examples pass the gate and can become demos")
        if passed >= DEMOS or self.task.by_rubric:  # a rubric is no answer to reason towards
            return passing
        self.progress("that is few: the program is told the answers of further examples, and reasons towards them")
        teacher = Justifying(self.program, self.task.answer)
        told = [example.with_inputs(*example.inputs().keys(), self.task.answer) for example in self.train]
        justified = find_passing(teacher, self.score, told[: 2 * ENOUGH], self.threads)
        self.progress(f"{len(justified.examples)} of {justified.tried} reach their answer, and can become demos")
        return replace(justified, teacher=teacher) if len(justified.examples) > passed else passing

    @property
    def passing_counts(self) -> dict[str, int] | None:
        """How many training examples passed and were tried; None if the optimizer did not need to know."""
        if "passing" not in vars(self):
            return None
        return {"passed": len(self.passing.examples), "tried": self.passing.tried}


class Justifying(dspy.Module):
    """A program whose calls are also given the right answer, and reason towards it; the teacher of a weak program.

    Its predictors are the program's own, so that an optimizer gives their runs to the program as demos. Those hold no
    trace of the request, see `r2p_dspy.justifying`.
    """

    def __init__(self, program: R2P, answer: str):
        super().__init__()
        for name, predictor in program.named_predictors():
            setattr(self, name, predictor)
        self.program, self.answer = program, answer

    def forward(self, **inputs: Any) -> dspy.Prediction:
        with justifying({self.answer: inputs.pop(self.answer)}):
            return self.program(**inputs)


def find_passing(
    program: dspy.Module, score: Composite, examples: Sequence[dspy.Example], threads: int, least: int = 0
) -> Passing:
    """Find examples on which a program passes the gate, so that its run can become a demo.

    DSPy's bootstrapping tries one example after the other, and tries all of them again for every candidate when few
    pass. This function tries them once, with many calls in flight, and stops when there are enough; and when fewer than
    `least` of the first `2 * ENOUGH` pass.
    """
    evaluate = dspy.Evaluate(devset=[], metric=score.accepts, num_threads=threads, display_progress=False)
    passing: list[dspy.Example] = []
    tried = 0
    while tried < len(examples) and len(passing) < ENOUGH and (tried < 2 * ENOUGH or len(passing) >= least):
        batch = [*examples[tried : tried + max(threads, ENOUGH)]]
        passing += [example for example, _, passed in evaluate(program, devset=batch).results if passed]
        tried += len(batch)
    return Passing(passing, tried)
