"""The optimizers of the command line, and what each one needs."""

from collections.abc import Callable
from dataclasses import dataclass

import dspy

from programs.optimize.context import CANDIDATES, DEMOS, ENOUGH, CompileContext
from programs.optimize.demos import bootstrap, knn, random_search
from programs.optimize.instructions import copro, gepa, mipro, simba
from programs.optimize.weights import together
from r2p_dspy.errors import ConfigError


@dataclass(frozen=True)
class Optimizer:
    """An optimizer of the command line.

    Args:
        run: compiles; None where there was nothing to compile with.
        reflects: whether it cannot do without a model that writes instructions.
        least: training examples that it needs.
        trains: whether it trains weights.
        runs: how often it runs a program, roughly, of the numbers of training and dev examples; rating what comes out
            on dev is part of it.
    """

    run: Callable[[CompileContext], dspy.Module | None]
    runs: Callable[[int, int], int]
    reflects: bool = False
    least: int = 3
    trains: bool = False


def _few(train: int, dev: int) -> int:
    return min(train, _LOOK) + DEMOS + 2 * dev


def _several(train: int, dev: int) -> int:
    return min(train, _LOOK) + (CANDIDATES + 1) * (DEMOS + dev) + dev


_LOOK = 2 * ENOUGH  # training examples, about, that are tried for demos
OPTIMIZERS: dict[str, Optimizer] = {
    "bootstrap": Optimizer(bootstrap, _few),
    "random": Optimizer(random_search, _several),
    "mipro": Optimizer(mipro, lambda train, dev: min(train, _LOOK) + 5 * DEMOS + 11 * dev, reflects=True),
    "gepa": Optimizer(gepa, lambda train, dev: 8 * dev + 100, reflects=True),
    "simba": Optimizer(simba, lambda train, dev: 4 * (4 + 4) * min(train, 16) + 5 * train + 2 * dev, least=8),
    "copro": Optimizer(copro, lambda train, dev: 8 * min(train, 24) + 2 * dev, reflects=True),
    "knn": Optimizer(knn, _few),
    "together": Optimizer(
        together, lambda train, dev: 2 * _several(train, dev) + train + 2 * dev, trains=True, least=8
    ),
}
LEAST = min(one.least for one in OPTIMIZERS.values())  # of training examples, whatever the optimizer


def check_optimizer(name: str, *, reflection: bool = True, training: bool = True) -> Optimizer:
    """The optimizer of that name, if it has what it needs.

    Args:
        name: one of `OPTIMIZERS`.
        reflection: whether there is a model that writes instructions.
        training: whether weights can be trained.

    Raises:
        ValueError: for an unknown one, and for one that lacks something.
    """
    if name not in OPTIMIZERS:
        raise ConfigError(f"unknown optimizer {name!r}; the optimizers are {', '.join(OPTIMIZERS)}")
    found = OPTIMIZERS[name]
    if found.reflects and not reflection:
        raise ConfigError(
            f"{name} needs a model that writes instructions, which a small one cannot: add --reflection-model MODEL, "
            "or take random, bootstrap, knn or simba"
        )
    if found.trains and not training:
        raise ConfigError(f"{name} trains the model's weights, which nothing here can; take another optimizer")
    return found


def program_runs(optimizer: str, train: int, dev: int, trials: int = 0) -> int:
    """How often compiling runs a program, roughly.

    Args:
        optimizer: its name, or "none".
        train, dev: how many examples there are.
        trials: settings that are searched before; of each about half of dev is measured, as many are given up.

    Example:
        >>> program_runs("bootstrap", train=60, dev=60)
        147
    """
    searched = round(trials * dev / 2)
    return searched if optimizer == "none" else searched + OPTIMIZERS[optimizer].runs(train, dev)
