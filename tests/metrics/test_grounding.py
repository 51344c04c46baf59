"""Groundedness: recall of the items that matter, and whether answers follow what they cite."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics.grounding import MARGIN, Grounded, faithfulness, recall

SHOWN = {"a": 1.0, "b": 0.0, "c": 0.5}


@pytest.mark.parametrize(
    ("why", "cited", "support", "value"),
    [
        ("all of it", ["a", "b"], ["a", "b"], 1.0),
        ("half of it", ["a", "c"], ["a", "b"], 0.5),
        ("none of it", ["c"], ["a"], 0.0),
        ("what was not shown does not count", ["a"], ["a", "far"], 1.0),
        ("an id that is none", ["x"], ["a"], 0.0),
        ("nothing that was shown supports it", ["a"], ["far"], None),
        ("nothing supports it", ["a"], [], None),
    ],
)
def test_recall_of_known_support(why, cited, support, value):
    assert Grounded("ann", cited, SHOWN, support=support).recall == value, why


def test_support_by_leaving_one_out():
    lost = {"a": 0.4, "b": MARGIN, "c": -0.3}
    example = Grounded("ann", ["c"], SHOWN, lost)
    assert example.supporting == {"a"} and example.recall == 0


@pytest.mark.parametrize(
    ("why", "cited", "value"),
    [
        ("the one that decides", ["a"], 0.75),
        ("the one that does not", ["b"], -0.75),
        ("two of three", ["a", "c"], 0.75),
        ("all of them", ["a", "b", "c"], None),
        ("none of them", ["x"], None),
    ],
)
def test_faithfulness(why, cited, value):
    assert Grounded("ann", cited, SHOWN).following == value, why


def test_intervals_are_over_users():
    rows = [Grounded(user, ["a"], {"a": change, "b": 0.0}) for user, change in (("ann", 1), ("ann", 1), ("bob", 0))]
    result = faithfulness(rows)
    assert result.value == pytest.approx(2 / 3) and (result.low, result.high) == (0, 1)
    assert faithfulness([Grounded("ann", [], SHOWN)]) is None and recall([]) is None


CHANGES = st.dictionaries(st.sampled_from("abcdef"), st.floats(0, 1), min_size=1)


@given(CHANGES, st.sets(st.sampled_from("abcdefx")), st.sets(st.sampled_from("abcdefx")))
def test_values_are_in_bounds(changed, cited, support):
    example = Grounded("ann", cited, changed, support=support)
    assert example.recall is None or 0 <= example.recall <= 1
    assert example.following is None or -1 <= example.following <= 1
