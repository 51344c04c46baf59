"""Typed values: their labels, JSON and text, and which are the same."""

import enum
import json
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Literal, Optional
from uuid import UUID

import dspy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2p_dspy.values.typed import allows_none, as_text, from_text, has_labels, labels_of, plain, read, same
from tests.typed_answers import TYPES, Colour, Level, Mood, Showing, Step


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


@pytest.mark.parametrize(
    ("annotation", "labels"),
    [
        (str, ()),
        (int, ()),
        (list[Mood], ()),
        (str | None, ()),
        (Mood | str, ()),
        (Rights, ()),
        (Literal["a", 2, True, None], ("a", "2", "True", "None")),
        (Mood, ("happy", "sad")),
        (Colour, ("red", "blue")),
        (Level, ("1", "2")),
        (Step, ("1", "2")),
        (bool, ("True", "False")),
        (Optional[Mood], ("happy", "sad", "None")),  # noqa: UP045
        (Literal["a", "b"] | None, ("a", "b", "None")),
        (Annotated[Mood, "how it feels"], ("happy", "sad")),
        (Literal[Mood.SAD], ("sad",)),
    ],
)
def test_labels(annotation, labels):
    assert labels_of(annotation) == labels
    assert has_labels(annotation) == (bool(labels) or annotation in (list[Mood], Mood | str))


@pytest.mark.parametrize(("annotation", "value", "text", "other"), TYPES.values(), ids=TYPES)
def test_value_survives_json_and_text(annotation, value, text, other):
    jsonable = json.loads(json.dumps(plain(value)))
    for back in (read(annotation, jsonable), from_text(annotation, text)):
        assert back == value and type(back) is type(value)
    assert same(value, jsonable) and same(jsonable, value) and same(value, as_text(value))
    assert not same(value, from_text(annotation, other))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Mood.HAPPY, "happy"),
        (Colour.RED, "red"),
        (Level.HIGH, "2"),
        (None, "None"),
        (False, "False"),
        (4.0, "4"),
        (1e-7, "0.0000001"),
        (Decimal("1.10"), "1.1"),
        (float("nan"), "nan"),
        (date(2024, 5, 6), "2024-05-06"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ({"b": {"y", "x"}, "a": Mood.SAD}, '{"a": "sad", "b": ["x", "y"]}'),
        ((1, 2), "[1, 2]"),
        (dspy.Reasoning(content="hm"), "hm"),
        (Showing(day=date(2024, 5, 6), mood=Mood.SAD), '{"day": "2024-05-06", "mood": "sad", "seats": 3}'),
        ({Mood.SAD: 1}, '{"sad": 1}'),
        ("half \ud83d", "half \ud83d"),
    ],
)
def test_text(value, text):
    assert as_text(value) == text


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (Mood.HAPPY, "happy", True),
        (4, "4.0", True),
        (4, 4.0, True),
        (Decimal("1.10"), "1.1", True),
        (True, "true", True),
        (datetime(2024, 5, 6), "2024-05-06T00:00:00", True),
        (["a", "b"], '["a","b"]', True),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a", "b"}, ["b", "a"], True),
        (" comedy", "comedy\n", True),
        (None, None, True),
        (None, 0, False),
        (None, "", False),
        (0, "", False),
        ([], "", False),
        ("1", "01", False),
        ("comedy", "Comedy", False),
        (4, "four", False),
        ([1, 2], [2, 1], False),
    ],
)
def test_same(first, second, expected):
    assert same(first, second) is expected and same(second, first) is expected


@pytest.mark.parametrize("text", ["happy or sad", "", "cheerful", "happysad"])
@pytest.mark.parametrize("annotation", [Mood, Mood | None, Literal["happy", "sad"], list[Mood], bool, date, Showing])
def test_text_of_no_value_is_refused(annotation, text):
    with pytest.raises(ValueError):  # pydantic's and DSPy's alike
        from_text(annotation, text)


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        (Mood, "Happy.", Mood.HAPPY),
        (Mood, "mood.sad", Mood.SAD),
        (Step, "last", Step.LAST),
        (Level, "1.0", Level.LOW),
        (bool, "“True”.", True),
        (Literal["1984", "1985"], "1984.", "1984"),
        (list[Literal["a", "b"]], '["A", "B."]', ["a", "b"]),
        (dict[Mood, int], '{"Happy": 1}', {Mood.HAPPY: 1}),
        (set[Mood] | None, '["SAD."]', {Mood.SAD}),
        (tuple[Mood, ...], '["Sad"]', (Mood.SAD,)),
        (Annotated[list[Mood], "one or more"], '["sad"]', [Mood.SAD]),
        (dict[str, list[bool]], '{"seen": ["TRUE", false]}', {"seen": [True, False]}),
    ],
)
def test_labels_are_read_by_meaning(annotation, text, value):
    assert from_text(annotation, text) == value


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [(None, True), (type(None), True), (Optional[int], True), (Annotated[int | None, "x"], True), (list[None], False)],  # noqa: UP045
)
def test_allows_none(annotation, expected):
    assert allows_none(annotation) is expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(JSON)
def test_json_is_plain(value):
    assert plain(value) == value and same(value, value) and isinstance(as_text(value), str)


@given(JSON, JSON)
def test_same_is_symmetric(first, second):
    assert same(first, second) is same(second, first)


WRITTEN = st.text() | st.sampled_from(["happy", "SAD ", "Mood.HAPPY", "“sad”", "null", "true."])


@given(WRITTEN, st.sampled_from([Mood, Mood | None, bool]))
def test_any_text_is_read_or_refused(text, annotation):
    try:
        value = from_text(annotation, text)
    except ValueError:
        return
    assert as_text(value) in labels_of(annotation)
