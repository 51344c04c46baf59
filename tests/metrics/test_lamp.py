"""LaMP's metrics against a literal transcription of the official script's rules."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error, mean_squared_error

from metrics.lamp import METRICS

TAGS = ("sci-fi", "comedy", "twist ending", "classic")
STARS = ("1", "2", "3", "4", "5")
SPACE = st.sampled_from(["", " ", "\n"])


def padded(answers):
    return st.tuples(SPACE, answers, SPACE).map("".join)


def rows(predictions, golds):
    return st.lists(st.tuples(predictions, golds), min_size=1, max_size=30)


TAGGED = rows(padded(st.sampled_from([*TAGS, "Comedy", "drama", "", "-1"])), padded(st.sampled_from([*TAGS, "dirt"])))
RATED = rows(padded(st.sampled_from([*STARS, "4.0", "3.5", "7", "-2", "five", "", "4 stars"])), st.sampled_from(STARS))
TITLED = rows(st.text("aB c'.é", max_size=20), st.text("aB c'.é", max_size=20))


def official_labels(answers, labels):
    found = []
    for answer in answers:
        try:
            found.append(list(labels).index(str(answer).strip()))
        except ValueError:
            found.append(-1)
    return found


def official_rating(answer, gold):
    try:
        return float(answer.strip())
    except ValueError:
        return 1.0 if abs(1 - float(gold)) > abs(5 - float(gold)) else 5.0


@given(TAGGED)
def test_accuracy_and_f1_are_the_official_ones_exactly(pairs):
    given_, golds = map(list, zip(*pairs, strict=True))
    ours, wanted = official_labels(given_, TAGS), official_labels(golds, TAGS)
    f1 = f1_score(wanted, ours, labels=range(len(TAGS)), average="macro", zero_division=0)
    assert METRICS["accuracy"].corpus(given_, golds, TAGS) == accuracy_score(wanted, ours)
    assert METRICS["f1"].corpus(given_, golds, TAGS) == f1
    assert [METRICS["accuracy"].example(*pair, TAGS) for pair in pairs] == [
        a == b for a, b in zip(ours, wanted, strict=True)
    ]


@given(RATED)
def test_mae_and_rmse_are_the_official_ones_exactly(pairs):
    given_, golds = map(list, zip(*pairs, strict=True))
    ours, wanted = [official_rating(*pair) for pair in pairs], [float(gold) for gold in golds]
    assert METRICS["mae"].corpus(given_, golds, STARS) == mean_absolute_error(wanted, ours)
    assert METRICS["rmse"].corpus(given_, golds, STARS) == math.sqrt(mean_squared_error(wanted, ours))
    assert [METRICS["mae"].example(*pair, STARS) for pair in pairs] == [
        abs(a - b) for a, b in zip(ours, wanted, strict=True)
    ]


@given(TITLED)
def test_rouge_is_the_librarys_without_stemmer_per_example_exactly(pairs):
    scorer = RougeScorer(["rouge1", "rougeL"], use_stemmer=False)
    for name in ("rouge1", "rougeL"):
        expected = [scorer.score(gold.strip(), one.strip())[name].fmeasure for one, gold in pairs]
        assert [METRICS[name].example(*pair, ()) for pair in pairs] == expected
        corpus = METRICS[name].corpus([one for one, _ in pairs], [gold for _, gold in pairs], ())
        assert corpus == pytest.approx(sum(expected) / len(expected), abs=1e-12)


@pytest.mark.parametrize("name", METRICS)
@given(data=st.data())
def test_every_metric_is_a_function_of_the_mean_of_its_rows(name, data):
    """What the intervals rest on."""
    metric = METRICS[name]
    drawn = {"accuracy": TAGGED, "f1": TAGGED, "mae": RATED, "rmse": RATED}.get(name, TITLED)
    labels = {"accuracy": TAGS, "f1": TAGS, "mae": STARS, "rmse": STARS}.get(name, ())
    predictions, golds = map(list, zip(*data.draw(drawn), strict=True))
    total = metric.total(metric.rows(predictions, golds, labels).mean(axis=0))
    assert float(total) == pytest.approx(metric.corpus(predictions, golds, labels), abs=1e-12)


@pytest.mark.parametrize(
    ("name", "golds", "labels", "best"),
    [
        ("accuracy", TAGS, TAGS, 1.0),
        ("f1", TAGS, TAGS, 1.0),
        ("mae", STARS, STARS, 0.0),
        ("rmse", STARS, STARS, 0.0),
        ("rouge1", ("Rain Again", "A Quiet Sea"), (), 1.0),
        ("rougeL", ("Rain Again", "A Quiet Sea"), (), 1.0),
    ],
)
def test_the_golds_get_full_marks(name, golds, labels, best):
    metric = METRICS[name]
    assert metric.corpus(golds, golds, labels) == best
    assert [metric.score(gold, gold, labels) for gold in golds] == [1.0] * len(golds)
    assert metric.higher_is_better == (best == 1.0)


def test_f1_is_over_all_labels_of_the_task_so_golds_without_some_of_them_reach_less_than_one():
    assert METRICS["f1"].corpus(["comedy"], ["comedy"], TAGS) == 1 / len(TAGS)


@pytest.mark.parametrize(
    ("why", "answer", "gold", "error"),
    [
        ("farther of 1 and 5", "great", "5", 4),
        ("farther of 1 and 5", "great", "2", 3),
        ("a tie goes to 5", "great", "3", 2),
        ("nothing was answered", None, "4", 3),
        ("a number with words is no number", "4 stars", "4", 3),
        ("nan, on which the official script fails", "nan", "4", 3),
        ("out of the scale, but a number", "7", "5", 2),
        ("typed answers", 4, "5", 1),
    ],
)
def test_ratings(why, answer, gold, error):
    assert METRICS["mae"].example(answer, gold, STARS) == error, why
    assert METRICS["mae"].example(answer, gold) == error, "LaMP's scale where no labels say another"


def test_ratings_of_another_scale():
    scale = ("-2", "0", "10")
    mae, rmse = METRICS["mae"], METRICS["rmse"]
    assert [mae.example("great", gold, scale) for gold in scale] == [12, 10, 12]
    assert mae.corpus([None, "9"], ["0", "10"], scale) == 5.5
    assert rmse.corpus([None, "9"], ["0", "10"], scale) == math.sqrt((100 + 1) / 2)
    assert [mae.score(answer, "10", scale) for answer in ("10", "7", "-2", "no")] == [1, 0.75, 0, 0]


@pytest.mark.parametrize(
    ("name", "answer", "gold", "labels", "score"),
    [
        ("accuracy", " comedy ", "comedy", TAGS, 1),
        ("f1", "classic", "comedy", TAGS, 0),
        ("accuracy", "dirt", "dirt", TAGS, 0),  # officially -1 meets -1; no reward for it
        ("mae", "4", "5", STARS, 0.75),
        ("rmse", "1", "5", STARS, 0),
        ("mae", "9", "1", STARS, 0),
        ("mae", "no idea", "3", STARS, 0),  # officially a 5; no reward for it
        ("rouge1", "sea rain", "rain sea", (), 0.75),  # ROUGE-1 1.0, ROUGE-L 0.5
        ("rougeL", "sea rain", "rain sea", (), 0.75),
    ],
)
def test_the_task_score(name, answer, gold, labels, score):
    assert METRICS[name].score(answer, gold, labels) == score


@given(st.one_of(st.text(max_size=10), st.sampled_from(["1e308", "-1e308", "inf", "1_0"])), st.sampled_from(STARS))
def test_the_task_score_is_in_the_unit_interval_whatever_is_answered(answer, gold):
    for name, labels in (("accuracy", STARS), ("mae", STARS), ("rouge1", ())):
        assert 0 <= METRICS[name].score(answer, gold, labels) <= 1


@pytest.mark.parametrize(
    ("name", "predictions", "golds", "labels", "message"),
    [
        ("mae", [], [], STARS, "at least one"),
        ("rouge1", ["a"], ["a", "b"], (), "1 predictions for 2 golds"),
        ("accuracy", ["a"], ["a"], (), "need the task's labels"),
        ("rmse", ["1"], ["one"], STARS, "'one' is no number"),
    ],
)
def test_what_cannot_be_evaluated_says_why(name, predictions, golds, labels, message):
    with pytest.raises(ValueError, match=message):
        METRICS[name].corpus(predictions, golds, labels)
