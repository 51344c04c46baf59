"""How sure a number is: 95 % percentile bootstrap intervals over users, also of the difference of two programs."""

from collections.abc import Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from metrics.lamp import Labels, Metric
from r2p_dspy.errors import ConfigError

_BLOCK = 2_000_000  # counts drawn at once, which bounds the memory


class Interval(NamedTuple):
    """A value and the 95 % interval around it; of a value that no resampling moves, both ends are the value."""

    value: float
    low: float
    high: float


def of_mean(
    values: Sequence[float], *, users: Sequence[Hashable] | None = None, resamples: int = 2000, seed: int = 0
) -> Interval:
    """The mean of per-example values, with its interval.

    Args:
        values: one number (or bool) for each example.
        users: whose example each is; users are drawn with all their examples. None: each example is a user.
        resamples: how many times to draw.
        seed: the same seed gives the same interval.

    Returns:
        The mean and the 2.5th and 97.5th percentile of the resampled means.

    Raises:
        ValueError: for no examples, or users that are not as many.

    Example:
        >>> of_mean([1, 1, 1, 1])
        Interval(value=1.0, low=1.0, high=1.0)
    """
    rows = np.asarray(values, dtype=float).reshape(len(values), 1)
    means = _resample(rows, users, resamples, seed)[:, 0]
    return _interval(float(rows.mean()), means)


def of_user_means(
    values: Sequence[float], users: Sequence[Hashable], *, resamples: int = 2000, seed: int = 0
) -> Interval:
    """The mean of the users' own means, with its interval: each user counts the same, with many examples or with one.

    Args:
        values: one number (or bool) for each example.
        users: whose example each is.
        resamples, seed: as for `of_mean`; it is users that are drawn.

    Returns:
        The mean over users, and its percentiles over the resampled users.

    Raises:
        ValueError: for no examples, or users that are not as many.

    Example:
        >>> of_user_means([1, 1, 1, 0], ["ann", "ann", "ann", "bob"]).value
        0.5
    """
    sums, sizes = _by_user(np.asarray(values, dtype=float).reshape(len(values), 1), users)
    return of_mean(list(sums[:, 0] / sizes), resamples=resamples, seed=seed)


def of_metric(
    metric: Metric,
    predictions: Sequence[Any],
    golds: Sequence[Any],
    labels: Labels = (),
    *,
    users: Sequence[Hashable] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """A metric over the corpus, with its interval.

    Args:
        metric: one of `metrics.lamp.METRICS`.
        predictions, golds, labels: as for `metric.corpus`.
        users, resamples, seed: as for `of_mean`.

    Returns:
        The official value, and the percentiles of the metric over the resampled users. A macro F1 on few examples can
        lie at the interval's upper end, because labels that a resample misses count as 0.

    Raises:
        ValueError: as `metric.corpus`, and for users that are not as many.

    Example:
        >>> from metrics.lamp import METRICS
        >>> of_metric(METRICS["mae"], ["5", "4", "3", "1"], ["5", "5", "5", "5"]).value
        1.75
    """
    resampled = _metric_resamples(metric, predictions, golds, labels, users, resamples, seed)
    return _interval(metric.corpus(predictions, golds, labels), resampled)


def of_difference(
    metric: Metric,
    ours: Sequence[Any],
    theirs: Sequence[Any],
    golds: Sequence[Any],
    labels: Labels = (),
    *,
    users: Sequence[Hashable] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """How much one program's metric exceeds another's on the same examples, with the interval of that difference.

    Both are evaluated on the same draws of users, so that what makes a user hard for both cancels out.

    Args:
        ours, theirs: two programs' predictions for the same examples, in the same order.
        metric, golds, labels, users, resamples, seed: as for `of_metric`.

    Returns:
        The metric of ours minus that of theirs (for mae and rmse, below 0 is better), and its interval.

    Raises:
        ValueError: as `of_metric`.

    Example:
        >>> from metrics.lamp import METRICS
        >>> of_difference(METRICS["mae"], ["4", "3"], ["3", "2"], ["5", "5"])
        Interval(value=-1.0, low=-1.0, high=-1.0)
    """
    value = metric.corpus(ours, golds, labels) - metric.corpus(theirs, golds, labels)
    # The draws depend on nothing but the seed and the users, so both calls see the same ones.
    first, second = (_metric_resamples(metric, one, golds, labels, users, resamples, seed) for one in (ours, theirs))
    return _interval(value, first - second)


def _metric_resamples(
    metric: Metric,
    predictions: Sequence[Any],
    golds: Sequence[Any],
    labels: Labels,
    users: Sequence[Hashable] | None,
    resamples: int,
    seed: int,
) -> np.ndarray:
    return metric.total(_resample(metric.rows(predictions, golds, labels), users, resamples, seed))


def _interval(value: float, resampled: np.ndarray) -> Interval:
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Interval(value, float(low), float(high))


def _resample(rows: np.ndarray, users: Sequence[Hashable] | None, resamples: int, seed: int) -> np.ndarray:
    """The mean row (resamples, d) of each draw, with replacement, of as many users as there are."""
    if not len(rows):
        raise ConfigError("an interval needs at least one example")
    sums, sizes = _by_user(rows, users)
    return np.concatenate([(draw @ sums) / (draw @ sizes)[:, None] for draw in _draws(len(sums), resamples, seed)])


def _by_user(rows: np.ndarray, users: Sequence[Hashable] | None) -> tuple[np.ndarray, np.ndarray]:
    """Each user's sum of rows (users, d) and number of examples (users,)."""
    if users is None:
        return rows.astype(float), np.ones(len(rows))
    if len(users) != len(rows):
        raise ConfigError(f"{len(users)} users for {len(rows)} examples; say of each example whose it is")
    places: dict[Hashable, int] = {}
    owner = np.array([places.setdefault(user, len(places)) for user in users])
    sums = np.zeros((len(places), rows.shape[1]))
    np.add.at(sums, owner, rows)
    return sums, np.bincount(owner).astype(float)


def _draws(count: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each of `count` users is drawn, in blocks (some resamples, count)."""
    rng = np.random.default_rng(seed)
    block = max(1, _BLOCK // count)
    for start in range(0, resamples, block):
        many = min(block, resamples - start)
        drawn = rng.integers(0, count, (many, count)) + np.arange(many)[:, None] * count
        yield np.bincount(drawn.ravel(), minlength=many * count).reshape(many, count).astype(float)
