"""The optimizers of the command line, and what each one needs and costs."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import dspy

from programs.optimize.context import CANDIDATES, DEMOS, ENOUGH, CompileContext
from programs.optimize.demos import bootstrap, knn, random_search
from programs.optimize.gepa import gepa
from programs.optimize.instructions import COPRO_DEPTH, COPRO_EXAMPLES, SIMBA_BATCH, copro, mipro, simba
from programs.optimize.weights import better_together
from r2p_dspy.errors import ConfigError


@dataclass(frozen=True)
class Optimizer:
    """An optimizer of the command line.

    `program_runs` says about how often it runs the program, from the numbers of training and dev examples; the rating
    of its result on dev is included.
    """

    run: Callable[[CompileContext], dspy.Module | None]  # returns None if there is nothing to compile with
    program_runs: Callable[[int, int], int]
    needs_reflection: bool = False
    min_train: int = 3  # examples
    trains_weights: bool = False


_TRIED = 2 * ENOUGH  # training examples, about, that are tried for demos


def _bootstrap_runs(train: int, dev: int) -> int:
    return min(train, _TRIED) + DEMOS + 2 * dev


def _search_runs(train: int, dev: int) -> int:
    return min(train, _TRIED) + (CANDIDATES + 1) * (DEMOS + dev) + dev


OPTIMIZERS: dict[str, Optimizer] = {
    "bootstrap": Optimizer(bootstrap, _bootstrap_runs),
    "random": Optimizer(random_search, _search_runs),
    "mipro": Optimizer(
        mipro,
        lambda train, dev: min(train, _TRIED) + (CANDIDATES + 1) * DEMOS + (2 * CANDIDATES + 3) * dev,
        needs_reflection=True,
    ),
    "gepa": Optimizer(gepa, lambda train, dev: 8 * dev + 100, needs_reflection=True),
    "simba": Optimizer(
        simba,
        lambda train, dev: 2 * CANDIDATES**2 * min(train, SIMBA_BATCH) + (CANDIDATES + 1) * train + 2 * dev,
        min_train=8,
    ),
    "copro": Optimizer(
        copro,
        lambda train, dev: CANDIDATES * COPRO_DEPTH * min(train, COPRO_EXAMPLES) + 2 * dev,
        needs_reflection=True,
    ),
    "knn": Optimizer(knn, _bootstrap_runs),
    "better-together": Optimizer(
        better_together,
        lambda train, dev: 2 * _search_runs(train, dev) + train + 2 * dev,
        min_train=8,
        trains_weights=True,
    ),
}
MIN_TRAIN = min(optimizer.min_train for optimizer in OPTIMIZERS.values())
_OLD_NAMES = {"together": "better-together"}


def find_optimizer(name: str) -> Optimizer:
    """The optimizer of a name, or of an old name, which warns; ConfigError for an unknown one."""
    if name in _OLD_NAMES:
        # Not a DeprecationWarning: that would not reach whoever typed the option.
        warnings.warn(f"the optimizer {name!r} is now called {_OLD_NAMES[name]!r}", FutureWarning, stacklevel=2)
        name = _OLD_NAMES[name]
    if name not in OPTIMIZERS:
        raise ConfigError(f"unknown optimizer {name!r}; the optimizers are {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[name]


def check_optimizer(name: str, *, reflection: bool = True, training: bool = True) -> Optimizer:
    """The optimizer of a name; ConfigError if it lacks a reflection model, or a model that can be trained."""
    optimizer = find_optimizer(name)
    if optimizer.needs_reflection and not reflection:
        raise ConfigError(
            f"{name} needs a model that writes instructions, which a small one cannot: add --reflection-model MODEL, "
            "or take random, bootstrap, knn or simba"
        )
    if optimizer.trains_weights and not training:
        raise ConfigError(f"{name} trains the model's weights, which cannot be trained here; take another optimizer")
    return optimizer


def program_runs(name: str, train: int, dev: int, trials: int = 0) -> int:
    """About how often compiling with an optimizer, or "none", runs a program, given the numbers of examples.

    Of the `trials` of tuning many are given up early, so each counts as half of dev.

    Examples:
        >>> program_runs("bootstrap", train=60, dev=60)
        147
    """
    tuning = round(trials * dev / 2)
    return tuning if name == "none" else tuning + find_optimizer(name).program_runs(train, dev)
