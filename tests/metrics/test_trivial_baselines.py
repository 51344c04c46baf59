"""Trivial baselines: what no model is needed for."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.lamp import METRICS
from metrics.trivial_baselines import best_constant, most_similar, trivial_baselines, user_majority, user_mean
from r2p_dspy.profile import Profile

STARS = ("1", "2", "3", "4", "5")


def history(*labels):
    return Profile.of([{"id": str(n), "text": f"text {n}", "label": label} for n, label in enumerate(labels)])


def label(item):
    return item.label


@pytest.mark.parametrize(
    ("why", "labels", "ranked", "expected"),
    [
        ("most frequent", ("a", "b", "b"), ("a", "b"), "b"),
        ("of equals, the one that is more frequent in training", ("a", "b"), ("b", "a"), "b"),
        ("empty history", (), ("b", "a"), "b"),
        ("labels of no task", ("x", "x", "a"), ("b", "a"), "a"),
    ],
)
def test_user_majority(why, labels, ranked, expected):
    assert user_majority(history(*labels), ranked) == expected, why


@pytest.mark.parametrize(
    ("why", "labels", "expected"),
    [
        ("rounded to a label", ("1", "2", "2"), "2"),
        ("a half is rounded up", ("4", "5"), "5"),
        ("a half is rounded up, also from even", ("2", "3"), "3"),
        ("empty history", (), "5"),
        ("labels of no task are left aside", ("x", "1"), "1"),
    ],
)
def test_user_mean(why, labels, expected):
    assert user_mean(history(*labels), ("5", "4", "3", "2", "1")) == expected, why


def test_best_constant_depends_on_the_metric():
    golds = ["5", "5", "5", "1", "1"]
    assert best_constant(golds, METRICS["mae"], STARS) == ("5", 1.6)
    assert best_constant(golds, METRICS["rmse"], STARS)[0] == "3"


@settings(max_examples=25)
@given(
    golds=st.lists(st.sampled_from(STARS), min_size=1, max_size=9), train=st.lists(st.sampled_from(STARS), max_size=9)
)
def test_best_constant_is_best(golds, train):
    baselines = trivial_baselines(
        ["q"] * len(golds), [Profile()] * len(golds), golds, ["mae"], answer=label, labels=STARS, train=train
    )
    assert all(baselines["best_constant"]["mae"] <= values["mae"] for values in baselines.values())
    assert ("majority" in baselines) == bool(train)


def test_most_similar():
    rows = [("1", "rain", "wet"), ("2", "a fine day", "sun"), ("3", "snow falls", "cold")]
    profile = Profile.of([{"id": name, "text": text, "title": title} for name, text, title in rows])
    assert most_similar("snow", profile, lambda item: item.fields["title"], ("text",)) == "cold"
    assert most_similar("snow", Profile(), lambda item: item.fields["title"]) is None


def test_baselines_of_labels_and_texts():
    profile = history("5", "4", "4")
    baselines = trivial_baselines(
        ["text 0"], [profile], ["5"], ["mae", "rmse"], answer=label, labels=STARS, train=["2", "2", "3"]
    )
    assert {name: values["mae"] for name, values in baselines.items()} == {
        "majority": 3,
        "best_constant": 0,
        "user_majority": 1,
        "user_mean": 1,
        "most_similar": 0,
    }
    words = trivial_baselines(["text 1"], [profile], ["text 1"], ["rouge1"], answer=lambda item: item.fields["text"])
    assert words == {"most_similar": {"rouge1": 1.0}, "input": {"rouge1": 1.0}}
    assert "user_mean" not in trivial_baselines(["q"], [profile], ["a"], ["accuracy"], answer=label, labels=("a", "b"))


def test_input_is_a_baseline_of_free_text():
    baselines = trivial_baselines(["the sea is cold"], [Profile()], ["brr the cold sea"], ["rouge1"], answer=label)
    assert baselines == {"most_similar": {"rouge1": 0.0}, "input": {"rouge1": 0.75}}


def test_match_selects_part_of_the_question():
    profile = Profile.of([{"id": text, "text": text} for text in ("rain again", "a storm", "the sea")])
    baselines = [
        trivial_baselines(
            ["rain again [1] storm"], [profile], ["a storm"], ["rouge1"], answer=lambda item: item.text, match=match
        )
        for match in (str, lambda question: question.split("[1]")[1])
    ]
    assert [values["most_similar"]["rouge1"] for values in baselines] == [0.0, 1.0]


def test_unequal_numbers():
    with pytest.raises(ValueError, match="2 questions, 1 profiles and 1 golds"):
        trivial_baselines(["a", "b"], [Profile()], ["1"], ["mae"], answer=label, labels=STARS)
