"""Groundedness: recall of the items that matter, and whether answers follow what they cite."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics.grounding import MARGIN, Grounded, faithfulness, recall, separation

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


def test_separation_is_paired_and_over_users():
    true = [Grounded(user, ["a"], {"a": change, "b": 0.0}) for user, change in (("ann", 1), ("ann", 1), ("bob", 0))]
    shuffled = [Grounded(example.user, ["b"], example.changed) for example in true]
    gain = separation(true, shuffled)
    assert gain.value == pytest.approx(4 / 3) and (gain.low, gain.high) == (0, 2)
    assert separation(true, true) == (0, 0, 0)
    nothing = [Grounded("ann", [], SHOWN)] * 3
    assert separation(true, nothing) is None and separation(nothing, true) is None
    assert separation([*true, true[0]], [*shuffled, nothing[0]]).value == gain.value, "pairs alone"


CHANGES = st.dictionaries(st.sampled_from("abcdef"), st.floats(0, 1), min_size=1)


@given(CHANGES, st.sets(st.sampled_from("abcdefx")), st.sets(st.sampled_from("abcdefx")))
def test_values_are_in_bounds(changed, cited, support):
    example = Grounded("ann", cited, changed, support=support)
    assert example.recall is None or 0 <= example.recall <= 1
    assert example.following is None or -1 <= example.following <= 1
