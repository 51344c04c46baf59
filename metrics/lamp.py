"""The official metrics of LaMP and LongLaMP: per example, over the corpus, and as a task score for rewards.

>>> METRICS["accuracy"].corpus(["comedy", " classic "], ["comedy", "classic"], ["classic", "comedy"])
1.0
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from metrics.meteor import meteor
from metrics.rubric import coverage
from r2p_dspy.errors import ConfigError
from r2p_dspy.scoring.rouge import Tokenize, rouge1, rouge_l, rouge_words
from r2p_dspy.values.typed import as_text

# scikit-learn and nltk take seconds to import, so they are imported on first use.

Answers = Sequence[Any]  # a program's answer may be of any type that `as_text` turns into text
Labels = Sequence[str]
Floats = npt.NDArray[np.float64]
Corpus = Callable[[Answers, Answers, Labels], float]

TEXT_METRICS = ("rouge1", "rougeL", "meteor")


@dataclass(frozen=True)
class Metric:
    """A metric of LaMP (`eval/evaluation.py` in LaMP's repository) or LongLaMP (`longLaMP/metrics/`).

    Args:
        name: as in reports.
        higher_is_better: its direction.
        example: (prediction, gold, labels) to one example's contribution, in the metric's own unit: 0 or 1 for
            accuracy and f1, the absolute error for mae, the squared error for rmse, the f-measure for ROUGE, METEOR.
        corpus: (predictions, golds, labels) to the official value over all examples.
        score: (prediction, gold, labels) to the task score in [0, 1], higher is better, for rewards and composites.
            Metrics of one task share it: 0 or 1 for labels; 1 - |prediction - gold| / (highest - lowest rating) for
            ratings, and 0 if the prediction is no number; the mean of the ROUGE-1 and ROUGE-L f-measures for texts,
            and 1 for the gold itself.
        rows: (predictions, golds, labels) to an array of shape (examples, d).
        total: the mean of such rows, of shape (..., d), to the metric's value, of shape (...). Every metric is a
            function of a mean, so all bootstrap resamples are computed at once (see `intervals`).

    A prediction or gold is of any type, and is compared as text (`as_text`). None is the empty answer, or the label
    "None" where the task has it. `labels` is the task's full list of labels, in the task's order. Ratings use only the
    lowest and the highest label (LaMP's 1 and 5 if there are none). Text metrics ignore labels.

    Raises (each function):
        ConfigError: for no examples, unequal numbers of predictions and golds, missing labels, or a gold rating that
            is no number.
    """

    name: str
    higher_is_better: bool
    example: Callable[[Any, Any, Labels], float]
    corpus: Corpus
    score: Callable[[Any, Any, Labels], float]
    rows: Callable[[Answers, Answers, Labels], Floats]
    total: Callable[[Floats], Floats]

    @property
    def is_mean(self) -> bool:
        """Whether the official value is the mean of the examples' contributions; F1 and RMSE are not means."""
        return self.total is _mean


def _text(answer: object) -> str:
    return "" if answer is None else as_text(answer).strip()


def _paired(predictions: Answers, golds: Answers) -> list[tuple[Any, Any]]:
    if len(predictions) != len(golds):
        raise ConfigError(f"{len(predictions)} predictions for {len(golds)} golds; give one per gold")
    if not len(golds):
        raise ConfigError("a metric needs at least one example")
    return list(zip(predictions, golds, strict=True))


def _each(example: Callable[[Any, Any, Labels], float]) -> Callable[[Answers, Answers, Labels], Floats]:
    def rows(predictions: Answers, golds: Answers, labels: Labels = ()) -> Floats:
        return np.array([[example(answer, gold, labels)] for answer, gold in _paired(predictions, golds)])

    return rows


def _sklearn(name: str, numbers: Callable[[Answers, Answers, Labels], tuple[Any, Any]]) -> Corpus:
    """The metric of scikit-learn with this name; `numbers` turns predictions and golds into numbers."""

    def corpus(predictions: Answers, golds: Answers, labels: Labels = ()) -> float:
        import sklearn.metrics

        given, wanted = numbers(predictions, golds, labels)
        return float(getattr(sklearn.metrics, name)(wanted, given))

    return corpus


def _mean(rows: Floats) -> Floats:
    mean: Floats = rows[..., 0]
    return mean


# Labels


def _index(answer: object, labels: Labels) -> int:
    """The label's index in the list; -1 if it is not in it (LaMP, `create_mapping`)."""
    if not labels:
        raise ConfigError("accuracy and f1 need the task's labels; pass the full list")
    known, text = list(labels), as_text(answer).strip()
    return known.index(text) if text in known else -1


def _hit(prediction: object, gold: object, labels: Labels = ()) -> float:
    return float(_index(prediction, labels) == _index(gold, labels))


def _sound_hit(prediction: object, gold: object, labels: Labels = ()) -> float:
    # LaMP's script counts -1 as equal to -1; a reward must never go to an answer outside the list.
    return _hit(prediction, gold, labels) if _index(prediction, labels) >= 0 else 0.0


def _indexes(predictions: Answers, golds: Answers, labels: Labels) -> tuple[list[int], list[int]]:
    pairs = _paired(predictions, golds)
    return [_index(answer, labels) for answer, _ in pairs], [_index(gold, labels) for _, gold in pairs]


def _f1(predictions: Answers, golds: Answers, labels: Labels = ()) -> float:
    from sklearn.metrics import f1_score

    given, wanted = _indexes(predictions, golds, labels)
    # Macro over the full list, as in LaMP's script: a label that occurs nowhere counts as 0.
    return float(f1_score(wanted, given, labels=list(range(len(labels))), average="macro", zero_division=0))


def _f1_rows(predictions: Answers, golds: Answers, labels: Labels = ()) -> Floats:
    """For each example and label: whether it was predicted rightly, and how often it was predicted or gold."""
    given, wanted = (np.array(side)[:, None] == np.arange(len(labels)) for side in _indexes(predictions, golds, labels))
    return np.hstack([given & wanted, given.astype(float) + wanted])


def _f1_total(rows: Floats) -> Floats:
    hits, uses = np.split(rows, 2, axis=-1)
    by_label: Floats = 2 * np.divide(hits, uses, out=np.zeros_like(hits), where=uses > 0)
    macro: Floats = by_label.mean(axis=-1)
    return macro


# Ratings


def _gold_rating(gold: object) -> float:
    value = _number(gold)
    if value is None:
        raise ConfigError(f"the gold rating {gold!r} is no number; check the gold file")
    return value


def _number(answer: object) -> float | None:
    try:
        with np.errstate(over="ignore"):
            value = float(np.float32(float(_text(answer))))  # as the `evaluate` package computes
    except ValueError:
        return None
    return value if math.isfinite(value) else None  # LaMP's script fails on nan and inf; here they are no numbers


def _scale(labels: Labels) -> tuple[float, float]:
    """The lowest and the highest rating; LaMP's 1 and 5 if the labels are not ratings."""
    ratings = {value for value in map(_number, labels) if value is not None}
    return (min(ratings), max(ratings)) if len(ratings) > 1 else (1.0, 5.0)


def _rating(prediction: object, gold: float, labels: Labels) -> float:
    """The predicted rating; if it is no number, the end of the scale farther from the gold (on a tie, the highest)."""
    value = _number(prediction)
    if value is not None:
        return value
    low, high = _scale(labels)
    return low if abs(low - gold) > abs(high - gold) else high


def _error(prediction: object, gold: object, labels: Labels = ()) -> float:
    wanted = _gold_rating(gold)
    return abs(_rating(prediction, wanted, labels) - wanted)


def _squared(prediction: object, gold: object, labels: Labels = ()) -> float:
    return _error(prediction, gold, labels) ** 2


def _closeness(prediction: object, gold: object, labels: Labels = ()) -> float:
    wanted, given = _gold_rating(gold), _number(prediction)
    low, high = _scale(labels)
    return 0.0 if given is None else max(0.0, 1 - abs(given - wanted) / (high - low))


def _ratings(predictions: Answers, golds: Answers, labels: Labels) -> tuple[list[float], list[float]]:
    wanted = [_gold_rating(gold) for gold in golds]
    return [_rating(answer, gold, labels) for answer, gold in _paired(predictions, wanted)], wanted


# Texts


@lru_cache(maxsize=4096)  # both metrics and the reward score the same answer
def _rouge(prediction: str, gold: str, tokenize: Tokenize | None) -> dict[str, float]:
    given, wanted = map(tokenize or rouge_words, (prediction, gold))
    return {"rouge1": rouge1(given, wanted), "rougeL": rouge_l(given, wanted)}


def _text_metric(name: str, tokenize: Tokenize | None = None) -> Metric:
    """ROUGE or METEOR, over the words of a tokenizer."""

    def example(prediction: object, gold: object, labels: Labels = ()) -> float:
        texts = _text(prediction), _text(gold)
        return meteor(*texts, tokenize) if name == "meteor" else _rouge(*texts, tokenize)[name]

    def likeness(prediction: object, gold: object, labels: Labels = ()) -> float:
        if _text(prediction) == _text(gold):
            return 1.0  # LaMP's ROUGE sees only a-z and digits: "你好" scores 0 against itself
        parts = _rouge(_text(prediction), _text(gold), tokenize)
        return (parts["rouge1"] + parts["rougeL"]) / 2

    rows = _each(example)

    def corpus(predictions: Answers, golds: Answers, labels: Labels = ()) -> float:
        # LaMP's script reports ROUGE's median of unseeded bootstrap means; this mean is within about 1e-3 of it.
        return float(rows(predictions, golds, labels).mean())

    return Metric(name, True, example, corpus, likeness, rows, _mean)


# Rubrics, which stand in the place of golds


def _coverage(prediction: object, gold: Any, labels: Labels = ()) -> float:
    return coverage(prediction, gold)


def _mean_coverage(predictions: Answers, golds: Answers, labels: Labels = ()) -> float:
    return float(_each(_coverage)(predictions, golds, labels).mean())


def _root(rows: Floats) -> Floats:
    root: Floats = np.sqrt(rows[..., 0])
    return root


METRICS: dict[str, Metric] = {
    "accuracy": Metric("accuracy", True, _hit, _sklearn("accuracy_score", _indexes), _sound_hit, _each(_hit), _mean),
    "f1": Metric("f1", True, _hit, _f1, _sound_hit, _f1_rows, _f1_total),
    "mae": Metric("mae", False, _error, _sklearn("mean_absolute_error", _ratings), _closeness, _each(_error), _mean),
    "rmse": Metric(
        "rmse", False, _squared, _sklearn("root_mean_squared_error", _ratings), _closeness, _each(_squared), _root
    ),
    **{name: _text_metric(name) for name in TEXT_METRICS},
    "coverage": Metric("coverage", True, _coverage, _mean_coverage, _coverage, _each(_coverage), _mean),
}


@cache
def metric(name: str, tokenize: Tokenize | None = None) -> Metric:
    """Return the metric of a name in `METRICS`, with ROUGE and METEOR over the words of another tokenizer.

    Args:
        name: one of `METRICS`.
        tokenize: a function from a text to its list of words, such as `r2p_dspy.values.words.words`; None for the
            official rules, by which ROUGE's words consist of a-z and digits, and METEOR's are nltk's. Metrics of labels
            and ratings ignore it.

    Examples:
        >>> from r2p_dspy.values.words import words
        >>> metric("rouge1").example("雨の街", "雨の街"), metric("rouge1", words).example("雨の街", "雨の街")
        (0.0, 1.0)
    """
    if tokenize is None or name not in TEXT_METRICS:
        return METRICS[name]
    return _text_metric(name, tokenize)
