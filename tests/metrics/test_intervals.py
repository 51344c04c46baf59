"""Bootstrap intervals: what they contain, that they repeat, and that users are drawn whole."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.intervals import of_difference, of_mean, of_metric, of_user_means
from metrics.lamp import METRICS

TAGS = ("a", "b", "c")
FEW = settings(max_examples=30)


@FEW
@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.integers(0, 5))
def test_mean_interval_is_bounded_and_repeats(values, seed):
    value, low, high = of_mean(values, seed=seed, resamples=200)
    assert value == pytest.approx(np.mean(values))
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9
    assert (value, low, high) == of_mean(values, seed=seed, resamples=200)


def test_interval_coverage():
    rng = np.random.default_rng(0)
    samples = rng.random((300, 80)) < 0.3
    hits = [low <= 0.3 <= high for _, low, high in (of_mean(sample, resamples=400) for sample in samples)]
    assert 0.9 <= np.mean(hits) <= 0.98


@pytest.mark.parametrize("name", ["accuracy", "f1"])
def test_interval_equals_a_plain_loop(name):
    """Each resample by scikit-learn, drawn as `_draws` draws."""
    rng = np.random.default_rng(1)
    golds, given_ = rng.choice(TAGS, 50), rng.choice([*TAGS, "dirt"], 50)
    draws = np.random.default_rng(7).integers(0, 50, (300, 50))
    looped = [METRICS[name].corpus(given_[draw], golds[draw], TAGS) for draw in draws]
    interval = of_metric(METRICS[name], given_, golds, TAGS, resamples=300, seed=7)
    assert interval.value == METRICS[name].corpus(given_, golds, TAGS)
    assert interval[1:] == pytest.approx(tuple(np.percentile(looped, [2.5, 97.5])))


def test_rmse_interval():
    draws = np.random.default_rng(0).integers(0, 4, (500, 4))
    errors = np.array([0.0, 1.0, 2.0, 4.0])
    looped = np.sqrt((errors[draws] ** 2).mean(axis=1))
    interval = of_metric(METRICS["rmse"], ["5", "4", "3", "1"], ["5"] * 4, resamples=500)
    assert interval[1:] == pytest.approx(tuple(np.percentile(looped, [2.5, 97.5])))


def test_users_are_drawn_whole():
    """Ten copies of each example tell no more than one; told whose they are, the interval says so."""
    values = list(np.random.default_rng(0).random(20))
    users = [number for number in range(20) for _ in range(10)]
    copied = [value for value in values for _ in range(10)]
    assert of_mean(copied, users=users) == pytest.approx(of_mean(values))
    naive = of_mean(copied)
    assert naive.high - naive.low < of_mean(values).high - of_mean(values).low


def test_mean_of_user_means():
    """The interval is that of the users' means: a user's many examples do not make it narrower."""
    values, users = [1, 1, 1, 0, 0.5], ["ann", "ann", "ann", "bob", "cid"]
    assert of_user_means(values, users) == of_mean([1, 0, 0.5])
    assert of_user_means(values[::-1], users[::-1]).value == 0.5
    assert of_user_means(values, range(5)) == of_mean(values), "one example each"
    with pytest.raises(ValueError, match="3 users for 5 examples"):
        of_user_means(values, ["ann", "bob", "cid"])


def test_difference_is_paired():
    """A constant step better on examples of very different difficulty: the difference is sure, each value is not."""
    golds = ["5"] * 40
    theirs = ["1", "4"] * 20
    ours = ["2", "5"] * 20
    assert of_difference(METRICS["mae"], ours, theirs, golds) == pytest.approx((-1, -1, -1))
    alone = of_metric(METRICS["mae"], ours, golds)
    assert alone.high - alone.low > 0.5


@FEW
@given(st.lists(st.sampled_from(TAGS), min_size=1, max_size=20))
def test_no_difference_to_itself(golds):
    for name in ("accuracy", "f1"):
        assert of_difference(METRICS[name], golds[::-1], golds[::-1], golds, TAGS) == (0, 0, 0)


def test_many_examples_are_drawn_in_blocks():
    value, low, high = of_mean(np.arange(30_000) % 2, resamples=150)
    assert low < value == 0.5 < high


@pytest.mark.parametrize(
    ("values", "users", "message"), [([], None, "at least one"), ([1, 0], ["u"], "1 users for 2 examples")]
)
def test_invalid_inputs(values, users, message):
    with pytest.raises(ValueError, match=message):
        of_mean(values, users=users)
