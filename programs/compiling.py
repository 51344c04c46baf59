"""Compiling an R2P program with DSPy's optimizers, under this library's one metric."""

import contextlib
import io
import random
import re
from collections.abc import Callable, Sequence
from typing import Any

import dspy
from dspy.teleprompt import BootstrapFewShot, BootstrapFewShotWithRandomSearch

from metrics.lamp import METRICS
from programs.task import Task
from r2p_dspy import R2P, Composite, as_bool, as_optimizer_metric, optimizing

OPTIMIZERS = ("random", "bootstrap")
LEAST = _DEMOS = 3  # at most; what fits the prompt is `Reason`'s to decide
_CANDIDATES = 4
_ENOUGH = 12  # examples to choose demos from


def composite(task: Task) -> Composite:
    """The task's composite score: its own metric, and the structure, evidence and consistency of the reasoning."""
    metric = METRICS[task.metrics[0]]

    def score(example: Any, prediction: Any) -> float:
        return metric.score(prediction.get(task.answer), example[task.answer], task.labels)

    return Composite(score, threshold=task.threshold)


def compile_program(
    program: R2P,
    task: Task,
    train: Sequence[dspy.Example],
    dev: Sequence[dspy.Example],
    *,
    optimizer: str = "random",
    threads: int = 16,
    seed: int = 0,
    progress: Callable[[str], None] = lambda line: None,
) -> tuple[R2P, dict[str, Any]]:
    """Compile a program, and choose by the composite on dev between what comes out and the program as it was.

    Args:
        program: the uncompiled program; it is not changed.
        task: what it does.
        train: what demos are made from.
        dev: what candidates are chosen on.
        optimizer: one of `OPTIMIZERS`.
        threads: calls in flight.
        seed: of the order of the training examples.
        progress: takes a line for each candidate.

    Returns:
        The better program, and a summary: `winner` ("compiled" or "uncompiled"), the candidates' scores on dev (0-100;
        none where there was nothing to compile with), how many demos the winner has, and how many of the training
        examples that were tried pass the gate.

    Raises:
        ValueError: for an unknown optimizer, or too few examples.
    """
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"unknown optimizer {optimizer!r}; the optimizers are {', '.join(OPTIMIZERS)}")
    if len(train) < LEAST or not dev:
        raise ValueError(f"compiling needs at least {LEAST} training examples and 1 dev example")
    scored = composite(task)
    metric = as_optimizer_metric(scored)
    shuffled = [*train]
    random.Random(seed).shuffle(shuffled)
    with optimizing(), contextlib.redirect_stdout(_Lines(progress)):
        evaluate = dspy.Evaluate(devset=[*dev], metric=metric, num_threads=threads, display_progress=False)
        passing, tried = demonstrable(program, scored, shuffled, threads)
        progress(f"{len(passing)} of {tried} training examples pass the gate and can become demos")
        best, candidates = program, {}
        if not passing:  # nothing to compile with, and nobody to choose from
            progress("so there is nothing to compile with")
        elif optimizer == "bootstrap":
            few = BootstrapFewShot(metric=metric, max_bootstrapped_demos=_DEMOS, max_labeled_demos=0)
            best = few.compile(program, trainset=passing)
            candidates = {"uncompiled": evaluate(program).score, "bootstrap": evaluate(best).score}
        else:
            search = BootstrapFewShotWithRandomSearch(
                metric=metric,
                max_bootstrapped_demos=_DEMOS,
                max_labeled_demos=0,
                num_candidate_programs=_CANDIDATES,
                num_threads=threads,
            )
            best = search.compile(program, trainset=passing, valset=[*dev], restrict=[-3, -1, *range(_CANDIDATES)])
            names = {-3: "uncompiled", -1: "unshuffled"}
            candidates = {
                names.get(one["seed"], f"shuffled {one['seed']}"): one["score"] for one in best.candidate_programs
            }
    # A tie goes to the uncompiled program: its prompts are shorter.
    uncompiled = not candidates or candidates["uncompiled"] >= max(candidates.values())
    chosen = program.deepcopy() if uncompiled else best
    chosen.__dict__.pop("candidate_programs", None)
    summary = {
        "optimizer": optimizer,
        "winner": "uncompiled" if uncompiled else "compiled",
        "dev_scores": {name: round(float(score), 2) for name, score in candidates.items()},
        "demos": len(chosen.reason.demos),
        "passing": {"passed": len(passing), "tried": tried},
    }
    return chosen, summary


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
    evaluate = dspy.Evaluate(devset=[], metric=as_bool(scored), num_threads=threads, display_progress=False)
    passing: list[dspy.Example] = []
    tried = 0
    while tried < len(examples) and len(passing) < _ENOUGH:
        some = [*examples[tried : tried + max(threads, _ENOUGH)]]
        passing += [example for example, _, passed in evaluate(program, devset=some).results if passed]
        tried += len(some)
    return passing, tried


_BAR = re.compile(r"\d%\|")  # a progress bar's line, of which there are hundreds


class _Lines(io.TextIOBase):
    """What DSPy's optimizers print, line by line, to whoever shows progress."""

    def __init__(self, tell: Callable[[str], None]):
        self.line, self.rest = tell, ""

    def write(self, text: str) -> int:
        *lines, self.rest = (self.rest + text).split("\n")
        for line in map(str.strip, lines):
            if line and not _BAR.search(line):
                self.line(line)
        return len(text)
