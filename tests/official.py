"""What LaMP's official script computes, in our words (`eval/evaluation.py`, and the `evaluate` package below it)."""

import numpy as np
from rouge_score.rouge_scorer import RougeScorer
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error, mean_squared_error

LABELS = {"LaMP_1": ("[1]", "[2]"), "LaMP_3": ("1", "2", "3", "4", "5")}


def classified(answers, labels):
    """Each answer's place in the list, -1 for what is not in it."""
    stripped = [str(answer).strip() for answer in answers]
    return [list(labels).index(answer) if answer in labels else -1 for answer in stripped]


def rated(answer, gold):
    """The number, else whichever of 1 and 5 is farther; in single precision, as `evaluate` hands numbers on."""
    wanted = float(str(gold).strip())
    try:
        number = float(str(answer).strip())
    except ValueError:
        number = 1.0 if abs(1 - wanted) > abs(5 - wanted) else 5.0
    with np.errstate(over="ignore"):
        return float(np.float32(number))


def rouge(answer, gold):
    """The F-measures, without stemmer."""
    scores = RougeScorer(["rouge1", "rougeL"], use_stemmer=False).score(gold.strip(), answer.strip())
    return {name: score.fmeasure for name, score in scores.items()}


def evaluated(predictions, golds, labels=()):
    """The whole script: two files' contents to the metrics.

    scikit-learn raises ValueError for ratings that are not finite, and so does the script. Texts are averaged; the
    script takes the median of bootstrap means.
    """
    assert predictions["task"] == golds["task"]
    given, wanted = ({row["id"]: row["output"] for row in file["golds"]} for file in (predictions, golds))
    assert given.keys() == wanted.keys()
    pairs = [(given[name], gold) for name, gold in wanted.items()]
    labels = labels or LABELS.get(golds["task"], ())
    if golds["task"] in ("LaMP_1", "LaMP_2"):
        ours, theirs = (classified(side, labels) for side in zip(*pairs, strict=True))
        f1 = f1_score(theirs, ours, labels=list(range(len(labels))), average="macro", zero_division=0)
        return {"accuracy": accuracy_score(theirs, ours), "f1": f1}
    if golds["task"] == "LaMP_3":
        ours, theirs = [rated(*pair) for pair in pairs], [rated(gold, gold) for _, gold in pairs]
        return {"mae": mean_absolute_error(theirs, ours), "rmse": np.sqrt(mean_squared_error(theirs, ours))}
    found = [rouge(*pair) for pair in pairs]
    return {name: np.mean([one[name] for one in found]) for name in ("rouge1", "rougeL")}
