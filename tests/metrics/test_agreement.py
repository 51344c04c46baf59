"""How far two judges agree, against scikit-learn's kappa."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from metrics.agreement import agreement

VERDICTS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=2, max_size=40)


@given(VERDICTS)
def test_kappa_is_scikit_learns(pairs):
    first, second = zip(*pairs, strict=True)
    assume(len({*first, *second}) > 1)
    wanted = cohen_kappa_score(first, second, weights="quadratic", labels=[0, 1, 2])
    assert agreement(first, second).kappa == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize(
    ("why", "first", "second", "exact", "kappa", "difference"),
    [
        ("the same", [0, 1, 2], [0, 1, 2], 1, 1, 0),
        ("always one thing, which says nothing", [1, 1], [1, 1], 1, None, 0),
        ("the first is kinder", [2, 2, 1], [1, 2, 0], 1 / 3, 0.5, 2 / 3),
        ("opposites", [0, 2], [2, 0], 0, -1, 0),
    ],
)
def test_values(why, first, second, exact, kappa, difference):
    result = agreement(first, second)
    assert (result.exact.value, result.difference.value) == pytest.approx((exact, difference)), why
    assert result.kappa == (kappa if kappa is None else pytest.approx(kappa, abs=0.01)), why
    assert result.exact.low <= result.exact.value <= result.exact.high and result.verdicts == len(first)


def test_unequal_verdicts_are_refused():
    with pytest.raises(ValueError, match="2 verdicts for 1"):
        agreement([1, 2], [1])
