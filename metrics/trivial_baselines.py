"""Trivial baselines: answers that need no model, evaluated on the same examples. A program has to beat them."""

from collections import Counter
from collections.abc import Callable, Sequence
from statistics import fmean

from metrics.lamp import Metric, metric
from r2p_dspy.errors import ConfigError
from r2p_dspy.profile import Item, Profile
from r2p_dspy.retrieval.bm25 import BM25
from r2p_dspy.retrieval.retriever import Text
from r2p_dspy.scoring.rouge import Tokenize


def trivial_baselines(
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
    tokenize: Tokenize | None = None,
) -> dict[str, dict[str, float]]:
    """Evaluate the trivial baselines that apply to a task.

    Args:
        questions, profiles, golds: one of each for every evaluated example; a profile is the user's full history.
        metrics: names in `metrics.lamp.METRICS`.
        answer: the answer that an item stands for: its label, or for free text a field that the user wrote.
        labels: the task's labels, in the task's order; () for free text, which has only the last two baselines.
        train: the golds of the training set; without them there is no `majority`.
        match: from a question to the query for BM25.
        text: the fields of an item to search, as for `BM25`.
        tokenize: from a text to its words, for BM25 and ROUGE; None for LaMP's rules.

    Returns:
        For each baseline, each metric's value over the corpus:

        - `majority`: always the most frequent label of the training golds;
        - `best_constant`: always the same label: for each metric the one that is best on these examples, so no
          constant answer can do better;
        - `user_majority`: the most frequent label of the user's own history;
        - `user_mean` (labels that are whole numbers): the mean of the history's labels, rounded to the nearest label,
          halves up;
        - `most_similar`: the answer of the history's item that BM25 ranks first;
        - `input` (free text): the question's own text, a strong baseline for paraphrasing (LaMP-7).

        If a history is empty or has no labels, the three baselines that read it give the majority label; without
        training golds the task's first label; for free text the empty text.
    """
    if not len(questions) == len(profiles) == len(golds):
        numbers = f"{len(questions)} questions, {len(profiles)} profiles and {len(golds)} golds"
        raise ConfigError(f"{numbers}; give one of each per example")
    chosen = [metric(name, tokenize) for name in metrics]
    counts = Counter(train)
    ranked = sorted(labels, key=lambda label: -counts[label])  # on a tie, in the task's order
    default = ranked[0] if ranked else ""
    by_example: dict[str, Callable[[str, Profile], str]] = {}
    if labels:
        by_example["user_majority"] = lambda question, profile: user_majority(profile, ranked)
        if all(label.isdecimal() for label in labels):
            by_example["user_mean"] = lambda question, profile: user_mean(profile, ranked)
    by_example["most_similar"] = lambda question, profile: (
        most_similar(match(question), profile, answer, text, tokenize) or default
    )
    if not labels:
        by_example["input"] = lambda question, profile: question
    # One history after the other: histories of large data sets are read from a file.
    rows = [
        {name: baseline(question, profile) for name, baseline in by_example.items()}
        for question, profile in zip(questions, profiles, strict=True)
    ]
    answers = {name: [row[name] for row in rows] for name in by_example}
    if labels and train:
        answers["majority"] = [default] * len(golds)
    values = {name: {one.name: one.corpus(given, golds, labels) for one in chosen} for name, given in answers.items()}
    if labels:
        values["best_constant"] = {metric.name: best_constant(golds, metric, labels)[1] for metric in chosen}
    order = ("majority", "best_constant", "user_majority", "user_mean", "most_similar", "input")
    return {name: values[name] for name in order if name in values}


def best_constant(golds: Sequence[str], metric: Metric, labels: Sequence[str]) -> tuple[str, float]:
    """The label that is the best answer to all examples, and the metric's value; on a tie, the first in the list."""
    values = {label: metric.corpus([label] * len(golds), golds, labels) for label in labels}
    best = (max if metric.higher_is_better else min)(values, key=values.__getitem__)
    return best, values[best]


def user_majority(profile: Profile, ranked: Sequence[str]) -> str:
    """The history's most frequent label; on a tie, or without labels, the first of `ranked`."""
    counts = Counter(item.label for item in profile)
    return max(ranked, key=lambda label: counts[label])


def user_mean(profile: Profile, ranked: Sequence[str]) -> str:
    """The label nearest to the mean of the history's labels, halves up; without labels, the first of `ranked`."""
    ratings = [int(item.label) for item in profile if item.label is not None and item.label in ranked]
    if not ratings:
        return ranked[0]
    mean = fmean(ratings)
    return min(ranked, key=lambda label: (abs(int(label) - mean), -int(label)))


def most_similar(
    query: str,
    profile: Profile,
    answer: Callable[[Item], str | None],
    text: Text | None = None,
    tokenize: Tokenize | None = None,
) -> str | None:
    """The answer of the item that BM25 ranks first; None for an empty history."""
    items = BM25(k=1, text=text, tokenize=tokenize or str.split)(query, profile)
    return answer(items[0]) if items else None
