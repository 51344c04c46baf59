"""Compiling an R2P program with one of DSPy's optimizers, under this library's one metric."""

import contextlib
import io
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import dspy
import numpy as np

from metrics.lamp import METRICS
from programs.data.splits import check_apart
from programs.optimize.context import CompileContext
from programs.optimize.optimizers import check_optimizer
from programs.optimize.safe_metric import FailureCounter, SafeMetric
from programs.tasks.task import Task
from r2p_dspy import R2P, Composite, optimizing
from r2p_dspy.errors import ConfigError
from r2p_dspy.scoring.composite import WEIGHTS


def composite(task: Task, weights: Mapping[str, float] | None = None, threshold: float | None = None) -> Composite:
    """The task's composite score: its own metric, and the structure, evidence and consistency of the reasoning.

    An example on which the metric fails is a failed one (see `SafeMetric`).

    Args:
        task: whose metric it is.
        weights: of the parts; None for the default ones.
        threshold: from which task score on an answer passes the gate of demos; None for the task's own.
    """
    metric = METRICS[task.metrics[0]]

    def score(example: Any, prediction: Any) -> float:
        return metric.score(prediction.get(task.answer), example[task.answer], task.labels)

    return Composite(
        SafeMetric(score),
        threshold=task.threshold if threshold is None else threshold,
        weights=WEIGHTS if weights is None else weights,
    )


def weights_of(text: str | None) -> dict[str, float] | None:
    """Weights as the command line takes them; parts that are not named weigh nothing.

    Raises:
        ValueError: for what cannot be read so, and for an unknown part.

    Example:
        >>> weights_of("task=0.8, structure=0.2")
        {'task': 0.8, 'structure': 0.2}
    """
    if text is None:
        return None
    weights: dict[str, float] = {}
    for one in text.split(","):
        name, _, number = (side.strip() for side in one.partition("="))
        if name in weights:
            raise ConfigError(f"--weights names {name!r} twice; keep one of the two")
        try:
            weights[name] = float(number)
        except ValueError:
            raise ConfigError(f"--weights takes PART=NUMBER,…, such as task=0.7,structure=0.3, not {one!r}") from None
    Composite(lambda example, prediction: 0.0, weights=weights)  # raises for a part that is none, and for sums
    return weights


def compile_program(
    program: R2P,
    task: Task,
    train: Sequence[dspy.Example],
    dev: Sequence[dspy.Example],
    *,
    optimizer: str = "random",
    reflection: dspy.LM | None = None,
    trainable: Callable[[dspy.LM], dspy.LM] | None = None,
    weights: Mapping[str, float] | None = None,
    threshold: float | None = None,
    threads: int = 16,
    seed: int = 0,
    progress: Callable[[str], None] = lambda line: None,
) -> tuple[R2P, dict[str, Any]]:
    """Compile a program, and choose by the composite on dev between what comes out and the program as it was.

    Args:
        program: the uncompiled program; it is not changed.
        task: what it does.
        train: what demos are made from, and instructions.
        dev: what candidates are chosen on.
        optimizer: one of `OPTIMIZERS`.
        reflection: the model that writes instructions; `gepa`, `mipro` and `copro` need one.
        trainable: makes of a language model one that DSPy can fine-tune; `together` needs it.
        weights, threshold: as of `composite`.
        threads: calls in flight.
        seed: of everything that is drawn.
        progress: takes a line for each step.

    Returns:
        The better program, and a summary: `winner` ("compiled" or "uncompiled"), the scores on dev (0-100; none where
        there was nothing to compile with), how many demos the winner has and which of its predictors have new
        instructions, how many training examples that were tried pass the gate (None where that was not asked), what
        the metric was, the failures of program and metric, and a model that was trained as `connect` takes it (else
        None).

    Raises:
        ValueError: for an unknown optimizer, one that lacks something, too few examples, or a question on both sides.
        MetricError: when the metric fails on all examples.
        Exception: the first failure of the program, when it fails so often that the optimizer gives up.
    """
    found = check_optimizer(optimizer, reflection=reflection is not None, training=trainable is not None)
    if len(train) < found.least or not dev:
        raise ConfigError(
            f"{optimizer} needs at least {found.least} training examples and 1 dev example, not {len(train)} and "
            f"{len(dev)}; give more data, or raise --limit"
        )
    check_apart(train, dev)
    shuffled, failures = [*train], FailureCounter()
    random.Random(seed).shuffle(shuffled)
    scored = composite(task, weights, threshold)
    metric = scored.task
    assert isinstance(metric, SafeMetric)
    job = CompileContext(program, task, scored, shuffled, dev, threads, seed, reflection, trainable, progress)
    with _optimizing(failures, seed, progress):
        scores = {"uncompiled": _evaluate(job, program)}
        metric.check()
        failures.check(len(dev))
        made = found.run(job)
        if made is not None:
            compiled = copy_learned_state(program, made)
            scores |= job.candidates or {optimizer: _evaluate(job, compiled)}
    # A tie goes to the uncompiled program: its prompts are shorter.
    uncompiled = made is None or scores["uncompiled"] >= max(scores.values())
    chosen = program.deepcopy() if uncompiled else compiled
    before = {name: one.signature.instructions for name, one in program.named_predictors()}
    now = {name: one.signature.instructions for name, one in chosen.named_predictors()}
    summary = {
        "optimizer": optimizer,
        "winner": "uncompiled" if uncompiled else "compiled",
        "dev_scores": {} if made is None else {name: round(float(score), 2) for name, score in scores.items()},
        "demos": len(chosen.reason.demos),
        "instructions": [name for name in now if now[name] != before[name]],
        "passing": job.asked,
        "metric": {"task": task.metrics[0], "weights": dict(scored.weights), "threshold": scored.threshold},
        "failures": {"program": failures.count, "metric": metric.failed},
        "trained": None if uncompiled or not found.trains else _where(chosen.reason.lm),
    }
    return chosen, summary


def copy_learned_state(program: R2P, made: dspy.Module) -> R2P:
    """A program with the instructions and the demos that an optimizer found, and with nothing else of its.

    Optimizers leave candidates and logs on what they return, COPRO other prefixes, and a demo that lacks a stage or
    stands twice is none. A model that was trained is taken over.

    Args:
        program: as it was; it is not changed.
        made: what an optimizer made of it.
    """
    clean = program.deepcopy()
    found = dict(made.named_predictors())
    for name, own in clean.named_predictors():
        own.signature = own.signature.with_instructions(found[name].signature.instructions)
        own.lm = found[name].lm or own.lm
        own.demos = []
        for demo in found[name].demos:
            held = {field: demo.get(field) for field in own.signature.fields}
            whole = dspy.Example(augmented=True, **held)
            if None not in held.values() and whole not in own.demos:
                own.demos.append(whole)
    return clean


def _where(lm: dspy.LM) -> str:
    """A trained model by the name under which it is found again."""
    return lm.finetuning_model or lm.model


def _evaluate(job: CompileContext, program: dspy.Module) -> float:
    """A program's score on dev, 0 to 100."""
    evaluate = dspy.Evaluate(
        devset=[*job.dev], metric=job.scored.metric, num_threads=job.threads, display_progress=False
    )
    return float(evaluate(program).score)


@contextlib.contextmanager
def _optimizing(failures: FailureCounter, seed: int, progress: Callable[[str], None]) -> Iterator[None]:
    """As an optimizer is to run: unmet asserts are scored, failures counted, prints told, draws repeatable."""
    random.seed(seed)  # for what draws without a seed of its own
    np.random.seed(seed % 2**32)
    callbacks = [*(dspy.settings.callbacks or []), failures]
    try:
        with optimizing(), dspy.context(callbacks=callbacks), contextlib.redirect_stdout(_Lines(progress)):
            yield
    except Exception as error:
        if type(error) is Exception and failures.first is not None:  # DSPy only says that it stopped
            raise failures.first from error
        raise


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
