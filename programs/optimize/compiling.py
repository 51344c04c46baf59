"""Compiling an R2P program with one of DSPy's optimizers, by the composite score."""

import contextlib
import io
import random
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import dspy
import numpy as np

from programs.data.splits import check_apart
from programs.optimize.best_candidate import RatedCandidates, copy_learned_state, scores_of
from programs.optimize.context import CompileContext, Frontier
from programs.optimize.optimizers import check_optimizer
from programs.optimize.safe_metric import SafeMetric
from programs.tasks.task import Task
from r2p_dspy import R2P, Composite, optimizing
from r2p_dspy.errors import ConfigError
from r2p_dspy.scoring.composite import WEIGHTS


def composite(task: Task, weights: Mapping[str, float] | None = None, threshold: float | None = None) -> Composite:
    """The task's composite score: its first metric, and the structure, evidence and consistency of the reasoning.

    If the metric fails on an example, the example scores 0 (see `SafeMetric`).

    Args:
        task: the task.
        weights: the weights of the parts; None for the defaults.
        threshold: the task score, in [0, 1], from which an answer passes the gate for demos; None for the task's own.
    """
    metric = task.metric(task.metrics[0])

    def score(example: Any, prediction: Any) -> float:
        return metric.score(prediction.get(task.answer), example[task.gold], task.labels)

    return Composite(
        SafeMetric(score),
        threshold=task.threshold if threshold is None else threshold,
        weights=WEIGHTS if weights is None else weights,
    )


def parse_weights(text: str | None) -> dict[str, float] | None:
    """Read weights from PART=NUMBER, separated by commas. Parts that are not named weigh nothing.

    Examples:
        >>> parse_weights("task=0.8, structure=0.2")
        {'task': 0.8, 'structure': 0.2}
    """
    if text is None:
        return None
    weights: dict[str, float] = {}
    for pair in text.split(","):
        name, _, number = (side.strip() for side in pair.partition("="))
        if name in weights:
            raise ConfigError(f"--weights names {name!r} twice; keep one of the two")
        try:
            weights[name] = float(number)
        except ValueError:
            raise ConfigError(f"--weights takes PART=NUMBER,…, such as task=0.7,structure=0.3, not {pair!r}") from None
    Composite(lambda example, prediction: 0.0, weights=weights)  # raises for unknown parts and impossible numbers
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
    frontier: Frontier = "instance",
    threads: int = 16,
    seed: int = 0,
    progress: Callable[[str], None] = lambda line: None,
) -> tuple[R2P, dict[str, Any]]:
    """Compile a program, and keep the result only if its composite score on dev is higher than before.

    A dev example on which the model's server failed, for any candidate, counts for none.

    Args:
        program: the uncompiled program; it is not changed.
        train: the examples that demos and instructions are made from.
        dev: the examples that candidates are chosen on.
        optimizer: one of `OPTIMIZERS`.
        reflection: the model that writes instructions; `gepa`, `mipro` and `copro` need one.
        trainable: turns a language model into one that DSPy can fine-tune; `better-together` needs it.
        weights, threshold: see `composite`.
        frontier: what a candidate of `gepa` must be best at to stay: an example ("instance"), a part of the score
            ("objective"), either ("hybrid"), or a part on an example ("cartesian").
        progress: receives a line for each step.

    Returns:
        The better program, and a summary with

        - `winner`: "compiled" or "uncompiled";
        - `dev_scores`: 0 to 100, by candidate; empty if there was nothing to compile with;
        - `demos`: how many the winner has; `instructions`: the names of its predictors with new instructions;
        - `passing`: how many training examples passed the gate and were tried; None if the optimizer needs no demos;
        - `objectives`: for `gepa`, by part of the score: the best value on dev and the candidates that have it (0 is
          the uncompiled program); else empty;
        - `metric`: the task metric, the weights and the threshold of the composite score;
        - `failures`: how often the program raised through its own or the model's fault, how often the metric did, and
          how often the model's `server` failed; the last are no scores;
        - `unanswered`: the number of dev examples that were left out, because the server failed on them;
        - `trained`: the model that was trained, as `connect` takes it, or None.

    Raises:
        ConfigError, DataError: before any call, for what the optimizer or the examples lack.
        MetricError: when the metric fails on all examples.
        Exception: the program's first error, when it fails so often that the optimizer gives up.
    """
    chosen_optimizer = check_optimizer(optimizer, reflection=reflection is not None, training=trainable is not None)
    if len(train) < chosen_optimizer.min_train or not dev:
        raise ConfigError(
            f"{optimizer} needs at least {chosen_optimizer.min_train} training examples and 1 dev example, "
            f"not {len(train)} and {len(dev)}; give more data, or raise --limit"
        )
    check_apart(train, dev)
    shuffled, rated = [*train], RatedCandidates(dev)
    failures = rated.failures
    random.Random(seed).shuffle(shuffled)
    score = composite(task, weights, threshold)
    evaluate = dspy.Evaluate(devset=[*dev], metric=score.metric, num_threads=threads, display_progress=False)
    metric = score.task
    assert isinstance(metric, SafeMetric)
    context = CompileContext(
        program, task, score, shuffled, dev, threads, seed, reflection, frontier, trainable, progress
    )
    compiled = None
    with _optimizer_settings(rated, seed, progress):
        results = {"uncompiled": scores_of(evaluate(program).results)}
        metric.check()
        failures.check(len(dev))
        optimized = chosen_optimizer.run(context)
        if optimized is not None:
            if rated.unanswered:  # the optimizer took failures for scores of 0
                optimized = rated.best(first=1) or optimized
            compiled = copy_learned_state(program, optimized)
            results |= context.candidate_scores or {optimizer: scores_of(evaluate(compiled).results)}
        failures.check_run()
    dev_scores = {name: rated.score(scores) for name, scores in results.items()}
    # On a tie the uncompiled program wins: its prompts are shorter.
    improved = compiled is not None and dev_scores["uncompiled"] < max(dev_scores.values())
    winner = compiled if compiled is not None and improved else program.deepcopy()
    before = {name: predictor.signature.instructions for name, predictor in program.named_predictors()}
    after = {name: predictor.signature.instructions for name, predictor in winner.named_predictors()}
    trained_lm = winner.reason.lm if improved and chosen_optimizer.trains_weights else None
    summary = {
        "optimizer": optimizer,
        "winner": "compiled" if improved else "uncompiled",
        "dev_scores": {} if compiled is None else {name: round(value, 2) for name, value in dev_scores.items()},
        "demos": len(winner.reason.demos),
        "instructions": [name for name in after if after[name] != before[name]],
        "passing": context.passing_counts,
        "objectives": context.objectives,
        "metric": {"task": task.metrics[0], "weights": dict(score.weights), "threshold": score.threshold},
        "failures": {"program": failures.count, "metric": metric.failed, "server": failures.server},
        "unanswered": rated.unanswered,
        "trained": trained_lm and (trained_lm.finetuning_model or trained_lm.model),
    }
    return winner, summary


@contextlib.contextmanager
def _optimizer_settings(rated: RatedCandidates, seed: int, progress: Callable[[str], None]) -> Iterator[None]:
    """Settings for an optimizer: score unmet asserts, count failures, capture prints, seed the global generators."""
    random.seed(seed)  # for DSPy's draws that have no seed of their own
    np.random.seed(seed % 2**32)
    callbacks, failures = [*(dspy.settings.callbacks or []), rated, rated.failures], rated.failures
    # `CallFailures` ends a run over too many failures of the server, and `failures` over the program's own.
    settings = dspy.context(callbacks=callbacks, max_errors=sys.maxsize)
    try:
        with optimizing(), settings, contextlib.redirect_stdout(_LineWriter(progress)):
            yield
    except Exception as error:
        if type(error) is Exception and failures.first_error is not None:  # DSPy says only that it stopped
            raise failures.first_error from error
        raise


_PROGRESS_BAR = re.compile(r"\d%\|")  # a line of a progress bar, of which there are hundreds


class _LineWriter(io.TextIOBase):
    """Passes what DSPy's optimizers print on to a progress function, line by line."""

    def __init__(self, progress: Callable[[str], None]):
        self.progress, self.rest = progress, ""

    def write(self, text: str) -> int:
        *lines, self.rest = (self.rest + text).split("\n")
        for line in map(str.strip, lines):
            if line and not _PROGRESS_BAR.search(line):
                self.progress(line)
        return len(text)
