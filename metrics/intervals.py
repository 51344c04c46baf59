"""95 % confidence intervals of a mean, a metric or a difference: the percentile bootstrap over users."""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from metrics.lamp import Answers, Floats, Labels, Metric
from r2p_dspy.errors import ConfigError

_BLOCK = 2_000_000  # counts drawn at once; this bounds the memory


class Interval(NamedTuple):
    """A value and its 95 % interval; both ends equal the value if every resample gives the same."""

    value: float
    low: float
    high: float

    def rounded(self) -> dict[str, float]:
        """The interval as reports hold it, rounded to four digits."""
        return {name: round(float(value), 4) for name, value in self._asdict().items()}


def of_mean(
    values: Sequence[float], *, users: Sequence[Hashable] | None = None, resamples: int = 2000, seed: int = 0
) -> Interval:
    """The mean of per-example values, with the 2.5th and 97.5th percentile of the resampled means.

    Args:
        values: one number (or bool) per example.
        users: the user of each example; users are drawn with all their examples. None: each example is its own user.
        resamples: the number of bootstrap resamples, at least 1.
        seed: of the random draws; the same seed gives the same interval.

    Raises:
        ConfigError: if there are no examples, or not one user per example.

    Examples:
        >>> of_mean([1, 1, 1, 1])
        Interval(value=1.0, low=1.0, high=1.0)
    """
    rows = np.asarray(values, dtype=float).reshape(len(values), 1)
    means = _resample(rows, users, resamples, seed)[:, 0]
    return _interval(float(rows.mean()), means)


def of_user_means(values: Sequence[float], users: Sequence[Hashable]) -> Interval:
    """The mean of the users' own means, with its interval: every user has the same weight. See `of_mean`.

    Examples:
        >>> of_user_means([1, 1, 1, 0], ["ann", "ann", "ann", "bob"]).value
        0.5
    """
    sums, sizes = _by_user(np.asarray(values, dtype=float).reshape(len(values), 1), users)
    return of_mean(list(sums[:, 0] / sizes))


def of_metric(
    metric: Metric,
    predictions: Answers,
    golds: Answers,
    labels: Labels = (),
    *,
    users: Sequence[Hashable] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """A metric's official value over the corpus, with its interval.

    The other arguments are those of `metric.corpus` and `of_mean`. A macro F1 on few examples can lie at the interval's
    upper end, because a label that is missing in a resample counts as 0.

    Examples:
        >>> from metrics.lamp import METRICS
        >>> of_metric(METRICS["mae"], ["5", "4", "3", "1"], ["5", "5", "5", "5"]).value
        1.75
    """
    rows = _resample(metric.rows(predictions, golds, labels), users, resamples, seed)
    return _interval(metric.corpus(predictions, golds, labels), metric.total(rows))


def of_difference(metric: Metric, ours: Answers, theirs: Answers, golds: Answers, labels: Labels = ()) -> Interval:
    """The metric of `ours` minus that of `theirs`, with its interval. Below 0, ours is better at mae and rmse."""
    return of_differences(metric, {"ours": ours, "theirs": theirs}, golds, labels, ["theirs"])["theirs"]["ours"]


def of_differences(
    metric: Metric,
    programs: Mapping[str, Answers],
    golds: Answers,
    labels: Labels = (),
    bases: Iterable[str] = (),
    *,
    users: Sequence[Hashable] | None = None,
) -> dict[str, dict[str, Interval]]:
    """The paired differences of every program to each base, by base and then by program.

    All programs are evaluated on the same draws of users, so a user who is hard for both of a pair cancels out.

    Args:
        metric, golds, labels, users: as for `of_metric`.
        programs: each program's predictions for the same examples, in the same order.
        bases: names in `programs`.

    Examples:
        >>> from metrics.lamp import METRICS
        >>> of_differences(METRICS["mae"], {"r2p": ["4"], "cot": ["3"]}, ["5"], bases=["cot"])
        {'cot': {'r2p': Interval(value=-1.0, low=-1.0, high=-1.0)}}
    """
    values = {name: metric.corpus(predictions, golds, labels) for name, predictions in programs.items()}
    # The draws depend only on the seed and the users, so all programs get the same ones.
    resampled = {
        name: metric.total(_resample(metric.rows(predictions, golds, labels), users))
        for name, predictions in programs.items()
    }
    return {
        base: {
            name: _interval(values[name] - values[base], resampled[name] - resampled[base])
            for name in programs
            if name != base
        }
        for base in bases
    }


def _interval(value: float, resampled: Floats) -> Interval:
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Interval(value, float(low), float(high))


def _resample(rows: Floats, users: Sequence[Hashable] | None, resamples: int = 2000, seed: int = 0) -> Floats:
    """The mean row of each draw (resamples, d); a draw takes as many users as there are, with replacement."""
    if not len(rows):
        raise ConfigError("an interval needs at least one example")
    sums, sizes = _by_user(rows, users)
    return np.concatenate([(draw @ sums) / (draw @ sizes)[:, None] for draw in _draws(len(sums), resamples, seed)])


def _by_user(rows: Floats, users: Sequence[Hashable] | None) -> tuple[Floats, Floats]:
    """Each user's sum of rows (users, d) and number of examples (users,)."""
    if users is None:
        return rows.astype(float), np.ones(len(rows))
    if len(users) != len(rows):
        raise ConfigError(f"{len(users)} users for {len(rows)} examples; give one user per example")
    numbers: dict[Hashable, int] = {}
    user_of_row = np.array([numbers.setdefault(user, len(numbers)) for user in users])
    sums = np.zeros((len(numbers), rows.shape[1]))
    np.add.at(sums, user_of_row, rows)
    return sums, np.bincount(user_of_row).astype(float)


def _draws(count: int, resamples: int, seed: int) -> Iterator[Floats]:
    """How often each of `count` users is drawn, in blocks of shape (resamples in the block, count)."""
    rng = np.random.default_rng(seed)
    block = max(1, _BLOCK // count)
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        drawn = rng.integers(0, count, (size, count)) + np.arange(size)[:, None] * count
        yield np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count).astype(float)
