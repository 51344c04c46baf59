"""The optimizers of the command line, and what each one needs."""

from collections.abc import Callable
from dataclasses import dataclass

import dspy

from programs.demo_search import bootstrap, knn, random_search
from programs.instruction_search import copro, gepa, mipro, simba
from programs.job import Job
from programs.weight_search import together


@dataclass(frozen=True)
class Optimizer:
    """An optimizer of the command line.

    Args:
        run: compiles; None where there was nothing to compile with.
        reflects: whether it cannot do without a model that writes instructions.
        least: training examples that it needs.
        trains: whether it trains weights.
    """

    run: Callable[[Job], dspy.Module | None]
    reflects: bool = False
    least: int = 3
    trains: bool = False


OPTIMIZERS: dict[str, Optimizer] = {
    "bootstrap": Optimizer(bootstrap),
    "random": Optimizer(random_search),
    "mipro": Optimizer(mipro, reflects=True),
    "gepa": Optimizer(gepa, reflects=True),
    "simba": Optimizer(simba, least=8),
    "copro": Optimizer(copro, reflects=True),
    "knn": Optimizer(knn),
    "together": Optimizer(together, trains=True, least=8),
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
        raise ValueError(f"unknown optimizer {name!r}; the optimizers are {', '.join(OPTIMIZERS)}")
    found = OPTIMIZERS[name]
    if found.reflects and not reflection:
        raise ValueError(
            f"{name} needs a model that writes instructions, which a small one cannot: add --reflection-model MODEL, "
            "or take random, bootstrap, knn or simba"
        )
    if found.trains and not training:
        raise ValueError(f"{name} trains the model's weights, which nothing here can; take another optimizer")
    return found
