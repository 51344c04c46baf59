"""Splitting by user, and keeping training and evaluation apart."""

from pathlib import Path

import dspy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from programs.data.splits import check_apart, split, users
from programs.tasks import lamp4
from r2p_dspy.errors import ConfigError, DataError
from r2p_dspy.profile import Profile
from tests.lamp import load

SAMPLES = Path(__file__).parents[3].parent / "shared/lamp_format"


def example(question="q", history=(), **more):
    """Item ids differ from example to example, as LaMP's do."""
    key = more.get("id", "0")
    profile = Profile.of([{"id": f"{key}-{n}", "text": text} for n, text in enumerate(history)])
    return dspy.Example(question=question, profile=profile, **more).with_inputs("question", "profile")


@pytest.mark.parametrize(
    ("why", "first", "second", "same"),
    [
        ("the same history", example("a", ["x"]), example("b", ["x"], id="1"), True),
        ("the same history, later", example("a", "xyz"), example("b", "wxyz"), True),
        ("the same history, earlier", example("a", "wxyz"), example("b", "xyz"), True),
        ("too little to tell", example("a", "x"), example("b", "xyz"), False),
        ("histories that overlap", example("a", "vxyz"), example("b", "wxyz"), False),
        ("no histories", example("a"), example("b"), False),
        ("said to be the same", example("a", "x", user="u"), example("b", "y", user="u"), True),
        (
            "said to be others, with the same history",
            example("a", "xyz", user="u"),
            example("b", "xyz", user="v"),
            False,
        ),
    ],
)
def test_same_user(why, first, second, same):
    first_user, second_user = users([first, second])
    assert (first_user == second_user) == same, why


EXAMPLES = st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=40).filter(lambda names: len(set(names)) > 1)


@settings(max_examples=60)
@given(EXAMPLES, st.integers(0, 9), st.floats(0.01, 0.99))
def test_split_keeps_all_rows_and_users_whole(names, seed, share):
    rows = [example(f"q{n}", id=str(n), user=name) for n, name in enumerate(names)]
    train, dev = split(rows, seed, share)
    assert train
    assert dev
    assert sorted([*train, *dev], key=rows.index) == rows
    assert {row.user for row in train}.isdisjoint(row.user for row in dev)
    assert (train, dev) == split(rows, seed, share)
    assert check_apart(train, dev) == 0


def test_share_and_seed():
    rows = [example(f"q{n}", id=str(n)) for n in range(100)]
    assert [len(part) for part in split(rows, 0, 0.3)] == [70, 30]
    assert split(rows, 0) != split(rows, 1)


@pytest.mark.parametrize(
    ("rows", "share", "message"),
    [
        ([example("a", "x"), example("b", "x")], 0.5, "at least two users"),
        ([example("a"), example("b")], 0, "between 0 and 1"),
        ([example("a"), example("b")], 1.0, "between 0 and 1"),
    ],
)
def test_invalid_splits(rows, share, message):
    with pytest.raises((ConfigError, DataError), match=message):
        split(rows, 0, share)


def test_question_on_both_sides():
    train = [example("a", "xyz", id="1")]
    with pytest.raises(DataError, match="question 1 is in the training"):
        check_apart(train, [example("b", id="3"), example("a", "uvw", id="1")])


@pytest.mark.parametrize(
    ("why", "row", "shared"),
    [
        ("another user is asked the same", example("a", "uvw", id="2"), 0),
        ("two users who wrote the same", example("a", "xyz", id="2"), 1),
        ("the same user is asked something else", example("b", "xyz", id="2"), 1),
        ("ids are numbered anew in each file", example("b", "uvw", id="1"), 0),
    ],
)
def test_shared_users_are_counted(why, row, shared):
    assert check_apart([example("a", "xyz", id="1")], [row]) == shared, why


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the sample data is not part of the checkout")
def test_real_data_shares_no_question():
    train, dev = (load(lamp4.TASK, SAMPLES / "blog18f_LaMP4like", name) for name in ("train", "dev"))
    assert check_apart(train, dev) > 0
    inner, held = split(train, seed=0)
    assert check_apart(inner, held) == 0
    assert len(inner) + len(held) == len(train)
