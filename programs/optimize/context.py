"""What an optimizer compiles with, and the training examples whose runs can become demos."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import dspy

from programs.tasks.task import Task
from r2p_dspy import R2P, Composite

# What a candidate of GEPA must be best at to stay: an example, a part of the score, either, or a part on an example.
Frontier = Literal["instance", "objective", "hybrid", "cartesian"]
DEMOS = 3  # at most; `Reason` leaves out demos that do not fit the prompt
CANDIDATES = 4  # sets of demos, or instructions, that an optimizer tries
ENOUGH = 12  # examples to choose demos from


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
    def passing(self) -> tuple[list[dspy.Example], int]:
        """The training examples that can become demos, and how many were tried. Computed at the first use only."""
        examples, tried = find_passing(self.program, self.score, self.train, self.threads)
        self.progress(f"{len(examples)} of {tried} training examples pass the gate and can become demos")
        if not examples:
            self.progress("without one of them there are no demos")
        return examples, tried

    @property
    def passing_counts(self) -> dict[str, int] | None:
        """How many training examples passed and were tried; None if the optimizer did not need to know."""
        if "passing" not in vars(self):
            return None
        return {"passed": len(self.passing[0]), "tried": self.passing[1]}


def find_passing(
    program: dspy.Module, score: Composite, examples: Sequence[dspy.Example], threads: int
) -> tuple[list[dspy.Example], int]:
    """Find examples on which a program passes the gate, so that its run can become a demo; and how many were tried.

    DSPy's bootstrapping tries one example after the other, and tries all of them again for every candidate when few
    pass. This function tries them once, with many calls in flight, and stops when there are enough.
    """
    evaluate = dspy.Evaluate(devset=[], metric=score.accepts, num_threads=threads, display_progress=False)
    passing: list[dspy.Example] = []
    tried = 0
    while tried < len(examples) and len(passing) < ENOUGH:
        batch = [*examples[tried : tried + max(threads, ENOUGH)]]
        passing += [example for example, _, passed in evaluate(program, devset=batch).results if passed]
        tried += len(batch)
    return passing, tried
