"""How far two judges agree on the same answers."""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np

from metrics.intervals import Interval, of_mean
from r2p_dspy.errors import ConfigError


class Agreement(NamedTuple):
    """The agreement of two judges.

    Args:
        exact: the share of verdicts that are the same, with its interval.
        kappa: Cohen's kappa with quadratic weights: 1 for the same verdicts, 0 for what chance gives; None where both
            judges always say the same one thing, of which chance explains all.
        difference: the mean of the first judge's verdicts minus the second's, with its interval.
        verdicts: how many there are.
    """

    exact: Interval
    kappa: float | None
    difference: Interval
    verdicts: int


def agreement(first: Sequence[int], second: Sequence[int], *, users: Sequence[Hashable] | None = None) -> Agreement:
    """Compare the verdicts of two judges on the same aspects or criteria, in the same order.

    Args:
        first, second: whole numbers on one scale.
        users: the user of each verdict; intervals draw users. None: each verdict is its own.

    Raises:
        ConfigError: for no verdicts, or unequal numbers of them.

    Examples:
        >>> result = agreement([0, 1, 2, 2], [0, 1, 1, 2])
        >>> result.exact.value, round(result.kappa, 3)
        (0.75, 0.8)
    """
    if len(first) != len(second):
        raise ConfigError(f"{len(first)} verdicts for {len(second)} of the other judge; give one per verdict")
    ours, theirs = np.array(first, dtype=float), np.array(second, dtype=float)
    exact = of_mean(list(ours == theirs), users=users)
    difference = of_mean(list(ours - theirs), users=users)
    # What the squared differences would be if the judges knew nothing of each other.
    by_chance = float((ours**2).mean() + (theirs**2).mean() - 2 * ours.mean() * theirs.mean())
    kappa = 1 - float(((ours - theirs) ** 2).mean()) / by_chance if by_chance > 0 else None
    return Agreement(exact, kappa, difference, len(ours))
