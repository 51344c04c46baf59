"""LaMP's official metrics: per example, over the corpus, and as a task score for rewards.

>>> METRICS["accuracy"].corpus(["comedy", " classic "], ["comedy", "classic"], ["classic", "comedy"])
1.0
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np

from r2p_dspy.errors import ConfigError

# scikit-learn and rouge-score take two seconds each to import, so they are imported where they are first needed.

Answers = Sequence[Any]
Labels = Sequence[str]


@dataclass(frozen=True)
class Metric:
    """A metric of LaMP.

    Args:
        name: what reports call it.
        higher_is_better: its direction.
        example: (prediction, gold, labels) to what one example contributes, in the metric's own unit: 0 or 1 for
            accuracy and f1, the absolute error for mae, the squared one for rmse, the f-measure for ROUGE.
        corpus: (predictions, golds, labels) to the official value over all of them.
        score: (prediction, gold, labels) to the task score in [0, 1], higher is better, for rewards and composites.
            Metrics of one task share it: 0 or 1 for labels; 1 - |prediction - gold| / (best - worst rating) for
            ratings, and 0 for what is no number; the mean of the ROUGE-1 and ROUGE-L f-measures for texts, and 1 for
            the gold itself.
        rows: (predictions, golds, labels) to an array (examples, d) and
        total: the mean of such rows, (..., d), to the metric's value (...): every metric is a function of a mean, and
            by that can be resampled all at once (see `intervals`).

    A prediction or gold is anything that `str` turns into the answer; None is the empty answer. `labels` are the
    task's full list of labels, in its order; of ratings, the lowest and the highest count (LaMP's 1 and 5 without
    labels); texts leave it aside.

    Raises (each function):
        ValueError: for no examples, for unequal numbers, where labels are needed and missing, and for a gold rating
            that is no number.
    """

    name: str
    higher_is_better: bool
    example: Callable[[Any, Any, Labels], float]
    corpus: Callable[[Answers, Answers, Labels], float]
    score: Callable[[Any, Any, Labels], float]
    rows: Callable[[Answers, Answers, Labels], np.ndarray]
    total: Callable[[np.ndarray], np.ndarray]

    @property
    def is_mean(self) -> bool:
        """Whether the official value is the mean of what the examples contribute; F1 and RMSE are no means."""
        return self.total is _mean


def _text(answer: Any) -> str:
    return "" if answer is None else str(answer).strip()


def _paired(predictions: Answers, golds: Answers) -> list[tuple[Any, Any]]:
    if len(predictions) != len(golds):
        raise ConfigError(f"{len(predictions)} predictions for {len(golds)} golds; give one for each")
    if not len(golds):
        raise ConfigError("a metric needs at least one example")
    return list(zip(predictions, golds, strict=True))


def _each(example: Callable[[Any, Any, Labels], float]) -> Callable[[Answers, Answers, Labels], np.ndarray]:
    def rows(predictions: Answers, golds: Answers, labels: Labels = ()) -> np.ndarray:
        return np.array([[example(one, gold, labels)] for one, gold in _paired(predictions, golds)])

    return rows


def _mean(rows: np.ndarray) -> np.ndarray:
    return rows[..., 0]


# Labels


def _index(answer: Any, labels: Labels) -> int:
    """The label's place in the list; -1 for what is not in it (LaMP, `create_mapping`)."""
    if not labels:
        raise ConfigError("accuracy and f1 need the task's labels")
    known, text = list(labels), _text(answer)
    return known.index(text) if text in known else -1


def _hit(prediction: Any, gold: Any, labels: Labels = ()) -> float:
    return float(_index(prediction, labels) == _index(gold, labels))


def _sound_hit(prediction: Any, gold: Any, labels: Labels = ()) -> float:
    # Officially -1 equals -1; a reward must not be had for an answer outside the list, whatever the gold.
    return _hit(prediction, gold, labels) if _index(prediction, labels) >= 0 else 0.0


def _indexes(predictions: Answers, golds: Answers, labels: Labels) -> tuple[list[int], list[int]]:
    pairs = _paired(predictions, golds)
    return [_index(one, labels) for one, _ in pairs], [_index(gold, labels) for _, gold in pairs]


def _accuracy(predictions: Answers, golds: Answers, labels: Labels = ()) -> float:
    from sklearn.metrics import accuracy_score

    given, wanted = _indexes(predictions, golds, labels)
    return float(accuracy_score(wanted, given))


def _f1(predictions: Answers, golds: Answers, labels: Labels = ()) -> float:
    from sklearn.metrics import f1_score

    given, wanted = _indexes(predictions, golds, labels)
    # Macro over the full list: a label that occurs nowhere counts as 0, as LaMP's script has it.
    return float(f1_score(wanted, given, labels=list(range(len(labels))), average="macro", zero_division=0))


def _f1_rows(predictions: Answers, golds: Answers, labels: Labels = ()) -> np.ndarray:
    """For each example and label: was it hit, and how often was it given or wanted."""
    given, wanted = (np.array(one)[:, None] == np.arange(len(labels)) for one in _indexes(predictions, golds, labels))
    return np.hstack([given & wanted, given.astype(float) + wanted])


def _f1_total(rows: np.ndarray) -> np.ndarray:
    hits, uses = np.split(rows, 2, axis=-1)
    return (2 * np.divide(hits, uses, out=np.zeros_like(hits), where=uses > 0)).mean(axis=-1)


# Ratings


def _gold_rating(gold: Any) -> float:
    value = _number(gold)
    if value is None:
        raise ConfigError(f"the gold rating {gold!r} is no number")
    return value


def _number(answer: Any) -> float | None:
    try:
        with np.errstate(over="ignore"):
            value = float(np.float32(float(_text(answer))))  # the `evaluate` package computes with these
    except ValueError:
        return None
    return value if math.isfinite(value) else None  # on nan and inf LaMP's script fails; here they are no numbers


def _scale(labels: Labels) -> tuple[float, float]:
    """The lowest and the highest rating; LaMP's where the labels do not say it."""
    known = {value for value in map(_number, labels) if value is not None}
    return (min(known), max(known)) if len(known) > 1 else (1.0, 5.0)


def _rating(prediction: Any, gold: float, labels: Labels) -> float:
    """The rating given; for what is no number, the end of the scale that is farther from the gold (a tie: the top)."""
    value = _number(prediction)
    if value is not None:
        return value
    low, high = _scale(labels)
    return low if abs(low - gold) > abs(high - gold) else high


def _error(prediction: Any, gold: Any, labels: Labels = ()) -> float:
    wanted = _gold_rating(gold)
    return abs(_rating(prediction, wanted, labels) - wanted)


def _squared(prediction: Any, gold: Any, labels: Labels = ()) -> float:
    return _error(prediction, gold, labels) ** 2


def _closeness(prediction: Any, gold: Any, labels: Labels = ()) -> float:
    wanted, given = _gold_rating(gold), _number(prediction)
    low, high = _scale(labels)
    return 0.0 if given is None else max(0.0, 1 - abs(given - wanted) / (high - low))


def _ratings(predictions: Answers, golds: Answers, labels: Labels) -> tuple[list[float], list[float]]:
    wanted = [_gold_rating(gold) for gold in golds]
    return [_rating(one, gold, labels) for one, gold in _paired(predictions, wanted)], wanted


def _mae(predictions: Answers, golds: Answers, labels: Labels = ()) -> float:
    from sklearn.metrics import mean_absolute_error

    given, wanted = _ratings(predictions, golds, labels)
    return float(mean_absolute_error(wanted, given))


def _rmse(predictions: Answers, golds: Answers, labels: Labels = ()) -> float:
    from sklearn.metrics import root_mean_squared_error

    given, wanted = _ratings(predictions, golds, labels)
    return float(root_mean_squared_error(wanted, given))


# Texts


@cache
def _scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rouge1", "rougeL"], use_stemmer=False)


@lru_cache(maxsize=4096)  # one answer is asked for by both metrics and by the reward
def _rouge(prediction: str, gold: str) -> dict[str, float]:
    return {name: score.fmeasure for name, score in _scorer().score(gold, prediction).items()}


def _overlap(name: str) -> Callable[[Any, Any, Labels], float]:
    def example(prediction: Any, gold: Any, labels: Labels = ()) -> float:
        return _rouge(_text(prediction), _text(gold))[name]

    return example


def _likeness(prediction: Any, gold: Any, labels: Labels = ()) -> float:
    if _text(prediction) == _text(gold):
        return 1.0  # ROUGE knows but a-z and digits, and gives nothing to "你好", not even against itself
    parts = _rouge(_text(prediction), _text(gold))
    return (parts["rouge1"] + parts["rougeL"]) / 2


def _rouge_metric(name: str) -> Metric:
    rows = _each(_overlap(name))

    def corpus(predictions: Answers, golds: Answers, labels: Labels = ()) -> float:
        # The official script reports the median of unseeded bootstrap means; this is the mean, within about 1e-3.
        return float(rows(predictions, golds, labels).mean())

    return Metric(name, True, _overlap(name), corpus, _likeness, rows, _mean)


def _root(rows: np.ndarray) -> np.ndarray:
    return np.sqrt(rows[..., 0])


METRICS: dict[str, Metric] = {
    "accuracy": Metric("accuracy", True, _hit, _accuracy, _sound_hit, _each(_hit), _mean),
    "f1": Metric("f1", True, _hit, _f1, _sound_hit, _f1_rows, _f1_total),
    "mae": Metric("mae", False, _error, _mae, _closeness, _each(_error), _mean),
    "rmse": Metric("rmse", False, _squared, _rmse, _closeness, _each(_squared), _root),
    "rouge1": _rouge_metric("rouge1"),
    "rougeL": _rouge_metric("rougeL"),
}
