"""What an optimizer is given to compile with, and the examples whose runs can become demos."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import dspy

from programs.tasks.task import Task
from r2p_dspy import R2P, Composite

DEMOS = 3  # at most; what fits the prompt is `Reason`'s to decide
CANDIDATES = 4  # sets of demos, or instructions, that are tried
ENOUGH = 12  # examples to choose demos from


@dataclass(frozen=True)
class CompileContext:
    """What an optimizer is given, and what it notes.

    Args:
        program: the uncompiled program; it is not changed.
        task: what it does.
        scored: the composite score.
        train: what is learnt from.
        dev: what candidates are chosen on.
        threads: calls in flight.
        seed: of everything that is drawn.
        reflection: the model that writes instructions, or None.
        trainable: makes of a language model one whose weights can be trained, or None.
        progress: takes a line for whoever watches.
        candidates: scores on dev (0-100) by name, where the optimizer has rated what it returns on all of dev.
    """

    program: R2P
    task: Task
    scored: Composite
    train: Sequence[dspy.Example]
    dev: Sequence[dspy.Example]
    threads: int = 16
    seed: int = 0
    reflection: dspy.LM | None = None
    trainable: Callable[[dspy.LM], dspy.LM] | None = None
    progress: Callable[[str], None] = lambda line: None
    candidates: dict[str, float] = field(default_factory=dict)

    @property
    def asked(self) -> dict[str, int] | None:
        """How many examples pass, and how many were tried, if anybody asked."""
        if "passing" not in self.__dict__:
            return None
        return {"passed": len(self.passing[0]), "tried": self.passing[1]}

    @cached_property
    def passing(self) -> tuple[list[dspy.Example], int]:
        """The training examples that can become demos, and how many were tried; asked for once, when it is needed."""
        found, tried = demonstrable(self.program, self.scored, self.train, self.threads)
        self.progress(f"{len(found)} of {tried} training examples pass the gate and can become demos")
        if not found:
            self.progress("so there is nothing to make demos of")
        return found, tried


def demonstrable(
    program: dspy.Module, scored: Composite, examples: Sequence[dspy.Example], threads: int
) -> tuple[list[dspy.Example], int]:
    """The examples on which a program passes the gate, so that its run can become a demo.

    DSPy's bootstrapping looks for them call after call, and through all examples for every candidate when few pass;
    here they are found with many calls in flight, once, and no more than are needed.

    Args:
        program: what is to be compiled.
        scored: the composite with its gate.
        examples: where to look, first ones first.
        threads: calls in flight.

    Returns:
        The examples that pass, and how many were tried.
    """
    evaluate = dspy.Evaluate(devset=[], metric=scored.accepts, num_threads=threads, display_progress=False)
    passing: list[dspy.Example] = []
    tried = 0
    while tried < len(examples) and len(passing) < ENOUGH:
        some = [*examples[tried : tried + max(threads, ENOUGH)]]
        passing += [example for example, _, passed in evaluate(program, devset=some).results if passed]
        tried += len(some)
    return passing, tried
