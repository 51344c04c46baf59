"""LaMP's metrics against the official script, restated in `tests.official`, on whatever a model may answer."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.scoring import BootstrapAggregator

from metrics.lamp import METRICS
from tests import official

FEW = settings(max_examples=40)
TAGS = ("sci-fi", "comedy", "twist ending", "classic")
STARS = ("1", "2", "3", "4", "5")
SPACE = st.sampled_from(["", " ", "\n", "\t", "\u00a0", "\u3000", "\x1c"])
ANYTHING = st.one_of(st.text(max_size=12), st.none(), st.booleans(), st.integers(-9, 9), st.floats(-9, 9))


def padded(answers):
    return st.tuples(SPACE, answers, SPACE).map("".join)


def rows(predictions, golds):
    return st.lists(st.tuples(predictions, golds), min_size=1, max_size=30)


def rubric(title):
    return {"narrative": "I ask.", "aspects": [{"aspect": title, "reason": "so", "evidence": "rain"}]}


def finite(answer):
    return np.isfinite(official.rated(answer, "3"))


WRITTEN = [
    "4.0",
    "3.7",
    "7",
    "-2",
    "five",
    "",
    "4 stars",
    "4/5",
    "0x4",
    "1_0",
    "1e3",
    ".5",
    "+4",
    "４",
    "٣",
    "4,5",
    "4\u200b",
]
TAGGED = rows(
    padded(st.sampled_from([*TAGS, "Comedy", "drama", "", "-1"])) | ANYTHING,
    padded(st.sampled_from([*TAGS, "dirt"])),
)
RATED = rows((padded(st.sampled_from([*STARS, *WRITTEN])) | ANYTHING).filter(finite), padded(st.sampled_from(STARS)))
COVERED = rows(st.sampled_from(["rain again", "Rain", "", "sea"]), st.sampled_from([rubric("sea"), rubric("again")]))
TITLED = rows(st.text("aB c'.é", max_size=20) | st.text(max_size=20), st.text("aB c'.é", max_size=20))


@FEW
@given(TAGGED)
def test_accuracy_and_f1_equal_the_official(pairs):
    given_, golds = map(list, zip(*pairs, strict=True))
    values = {name: METRICS[name].corpus(given_, golds, TAGS) for name in ("accuracy", "f1")}
    assert values == evaluated("LaMP_2", given_, golds, TAGS)
    ours, wanted = official.classified(given_, TAGS), official.classified(golds, TAGS)
    hits = [a == b for a, b in zip(ours, wanted, strict=True)]
    assert [METRICS["accuracy"].example(*pair, TAGS) for pair in pairs] == hits


@FEW
@given(RATED)
def test_mae_and_rmse_equal_the_official(pairs):
    given_, golds = map(list, zip(*pairs, strict=True))
    values = {name: METRICS[name].corpus(given_, golds, STARS) for name in ("mae", "rmse")}
    assert values == evaluated("LaMP_3", given_, golds)
    errors = [abs(official.rated(*pair) - float(pair[1].strip())) for pair in pairs]
    assert [METRICS["mae"].example(*pair, STARS) for pair in pairs] == errors


@FEW
@given(TITLED)
def test_rouge_equals_rouge_score_per_example(pairs):
    given_, golds = map(list, zip(*pairs, strict=True))
    for name, mean in evaluated("LaMP_4", given_, golds).items():
        assert [METRICS[name].example(*pair, ()) for pair in pairs] == [official.rouge(*pair)[name] for pair in pairs]
        assert METRICS[name].corpus(given_, golds, ()) == pytest.approx(mean, abs=1e-12)


def test_corpus_rouge_is_within_1e_3_of_the_official():
    rng = np.random.default_rng(0)
    golds, given_ = (["a " + " ".join(rng.choice([*"abcdefgh"], 6)) for _ in range(400)] for _ in range(2))
    np.random.seed(0)  # the script draws without one
    aggregator = BootstrapAggregator()
    for answer, gold in zip(given_, golds, strict=True):
        aggregator.add_scores(official.rouge(answer, gold))
    for name, aggregate in aggregator.aggregate().items():
        assert METRICS[name].corpus(given_, golds, ()) == pytest.approx(aggregate.mid, abs=1e-3)


def evaluated(task, answers, golds, labels=()):
    """The official value of these answers, as two files would have it."""
    files = [{"task": task, "golds": [{"id": n, "output": o} for n, o in enumerate(side)]} for side in (answers, golds)]
    return official.evaluated(*files, labels)


@pytest.mark.parametrize("answer", ["nan", "inf", "-Infinity", "1e39", "-1e400"])
def test_non_finite_ratings(answer):
    with pytest.raises(ValueError, match="NaN|infinity"):
        evaluated("LaMP_3", [answer], ["4"])
    assert METRICS["mae"].corpus([answer], ["4"], STARS) == METRICS["mae"].corpus(["no idea"], ["4"], STARS) == 3


@pytest.mark.parametrize("name", METRICS)
@FEW
@given(data=st.data())
def test_metrics_are_functions_of_mean_rows(name, data):
    """What the intervals rest on."""
    metric = METRICS[name]
    drawn = {"accuracy": TAGGED, "f1": TAGGED, "mae": RATED, "rmse": RATED, "coverage": COVERED}.get(name, TITLED)
    labels = {"accuracy": TAGS, "f1": TAGS, "mae": STARS, "rmse": STARS}.get(name, ())
    predictions, golds = map(list, zip(*data.draw(drawn), strict=True))
    total = metric.total(metric.rows(predictions, golds, labels).mean(axis=0))
    assert float(total) == pytest.approx(metric.corpus(predictions, golds, labels), abs=1e-12)


GOLDS = {
    "accuracy": (TAGS, TAGS, 1.0),
    "f1": (TAGS, TAGS, 1.0),
    "mae": (STARS, STARS, 0.0),
    "rmse": (STARS, STARS, 0.0),
    "rouge1": (("Rain Again", "A Quiet Sea"), (), 1.0),
    "rougeL": (("Rain Again", "A Quiet Sea"), (), 1.0),
    "meteor": (("It rained again on Monday .",), (), 1 - 0.5 / 6**3),  # METEOR itself stops short of 1
}


@pytest.mark.parametrize("name", GOLDS)  # coverage has rubrics in their place: see test_rubric.py
def test_golds_score_1(name):
    metric, (golds, labels, best) = METRICS[name], GOLDS[name]
    assert metric.corpus(golds, golds, labels) == best
    assert [metric.score(gold, gold, labels) for gold in golds] == [1.0] * len(golds)
    assert metric.higher_is_better == (best > 0)


def test_f1_counts_labels_missing_in_golds():
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
    assert rmse.corpus([None, "9"], ["0", "10"], scale) == pytest.approx(math.sqrt((100 + 1) / 2), rel=1e-6)
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
        ("rouge1", " 雨 ", "雨", (), 1),  # ROUGE, which knows but a-z and digits, says 0
    ],
)
def test_task_score(name, answer, gold, labels, score):
    assert METRICS[name].score(answer, gold, labels) == score


@given(st.one_of(st.text(max_size=10), st.sampled_from(["1e308", "-1e308", "inf", "1_0"])), st.sampled_from(STARS))
def test_task_score_is_in_bounds(answer, gold):
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
def test_invalid_inputs(name, predictions, golds, labels, message):
    with pytest.raises(ValueError, match=message):
        METRICS[name].corpus(predictions, golds, labels)
