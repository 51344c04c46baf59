"""Trivial floors: what costs no model, evaluated on the same examples; a program has to beat them."""

from collections import Counter
from collections.abc import Callable, Sequence
from statistics import fmean

from metrics.lamp import METRICS, Metric
from r2p_dspy.errors import ConfigError
from r2p_dspy.profile import Item, Profile
from r2p_dspy.retrieval.bm25 import BM25
from r2p_dspy.retrieval.retriever import Text


def floors(
    questions: Sequence[str],
    profiles: Sequence[Profile],
    golds: Sequence[str],
    metrics: Sequence[str],
    *,
    answer: Callable[[Item], str | None],
    labels: Sequence[str] = (),
    train: Sequence[str] = (),
    match: Callable[[str], str] = str,
    text: Text | None = None,
) -> dict[str, dict[str, float]]:
    """The floors that apply, each by the task's metrics.

    Args:
        questions, profiles, golds: the evaluated examples: what each asks, the user's full history, the right answer.
        metrics: names in `METRICS`.
        answer: what an item would have as answer: its label, or for free text the field that the user wrote as one.
        labels: the task's labels, in its order; () for free text, which has only the last two floors.
        train: the golds of the training set; without them there is no `majority`.
        match: from a question to what BM25 matches items with.
        text: what of an item to match, as for `BM25`.

    Returns:
        For each floor, each metric's value over the corpus:

        - `majority`: always the training golds' most frequent label;
        - `best_constant`: always one label, for each metric the one that does best on these very examples, so no
          constant answer can do better;
        - `user_majority`: the label that is most frequent in the user's own history;
        - `user_mean` (labels that are whole numbers): the mean of the history's labels, rounded to the nearest label,
          halves up;
        - `most_similar`: the answer of the history's item that BM25 ranks first;
        - `input` (free text): the question's own text, which is much of its paraphrase (LaMP-7).

        Where a history cannot tell (it is empty, or bears no label), the three that look at it give the majority label,
        or the task's first label where there are no training golds, or the empty text.

    Raises:
        ValueError: as the metrics do, for no examples or unequal numbers of them.

    Example:
        >>> reviews = (("a dull lamp", "2"), ("a superb lamp", "5"), ("a fair price", "4"))
        >>> history = Profile.of([{"id": text, "text": text, "label": label} for text, label in reviews])
        >>> labels = ("1", "2", "3", "4", "5")
        >>> found = floors(["superb"], [history], ["5"], ["mae"], answer=lambda item: item.label, labels=labels)
        >>> {name: values["mae"] for name, values in found.items()}
        {'best_constant': 0.0, 'user_majority': 3.0, 'user_mean': 1.0, 'most_similar': 0.0}
    """
    if not len(questions) == len(profiles) == len(golds):
        counts = f"{len(questions)} questions, {len(profiles)} profiles and {len(golds)} golds"
        raise ConfigError(f"{counts}; give one for each")
    chosen = [METRICS[name] for name in metrics]
    ranked = _ranked(train, labels)
    default = ranked[0] if ranked else ""
    own: dict[str, Callable[[str, Profile], str]] = {}
    if labels:
        own["user_majority"] = lambda question, profile: user_majority(profile, ranked)
        if all(label.isdecimal() for label in labels):
            own["user_mean"] = lambda question, profile: user_mean(profile, ranked)
    own["most_similar"] = lambda question, profile: most_similar(match(question), profile, answer, text) or default
    if not labels:
        own["input"] = lambda question, profile: question
    # One history after another, since those of large data are read from a file.
    rows = [
        {name: floor(question, profile) for name, floor in own.items()}
        for question, profile in zip(questions, profiles, strict=True)
    ]
    answers = {name: [row[name] for row in rows] for name in own}
    if labels and train:
        answers["majority"] = [default] * len(golds)
    values = {name: _evaluate(given, golds, chosen, labels) for name, given in answers.items()}
    if labels:
        values["best_constant"] = {metric.name: best_constant(golds, metric, labels)[1] for metric in chosen}
    order = ("majority", "best_constant", "user_majority", "user_mean", "most_similar", "input")
    return {name: values[name] for name in order if name in values}


def best_constant(golds: Sequence[str], metric: Metric, labels: Sequence[str]) -> tuple[str, float]:
    """The label that does best as the answer to everything, and how it does; of equals, the first in the list."""
    values = {label: metric.corpus([label] * len(golds), golds, labels) for label in labels}
    best = (max if metric.higher_is_better else min)(values, key=values.__getitem__)
    return best, values[best]


def user_majority(profile: Profile, ranked: Sequence[str]) -> str:
    """The history's most frequent label; of equals, and with no label at all, the first among `ranked`."""
    counts = Counter(item.label for item in profile)
    return max(ranked, key=lambda label: counts[label])


def user_mean(profile: Profile, ranked: Sequence[str]) -> str:
    """The label nearest to the mean of the history's labels, halves up; with no label the first of `ranked`."""
    known = [int(item.label) for item in profile if item.label is not None and item.label in ranked]
    if not known:
        return ranked[0]
    mean = fmean(known)
    return min(ranked, key=lambda label: (abs(int(label) - mean), -int(label)))


def most_similar(
    query: str, profile: Profile, answer: Callable[[Item], str | None], text: Text | None = None
) -> str | None:
    """The answer of the item that BM25 ranks first; None for an empty history."""
    found = BM25(k=1, text=text)(query, profile)
    return answer(found[0]) if found else None


def _ranked(train: Sequence[str], labels: Sequence[str]) -> list[str]:
    """The labels, the most frequent in training first; of equals, as the task lists them."""
    counts = Counter(train)
    return sorted(labels, key=lambda label: -counts[label])


def _evaluate(
    answers: Sequence[str], golds: Sequence[str], metrics: Sequence[Metric], labels: Sequence[str]
) -> dict[str, float]:
    return {metric.name: metric.corpus(answers, golds, labels) for metric in metrics}
