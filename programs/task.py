"""What a task is: a signature, and how LaMP's rows become its examples."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import dspy

from r2p_dspy.profile import Item


@dataclass(frozen=True)
class Task:
    """A personalization task in LaMP's format.

    Args:
        name: what the command line calls it, such as `lamp2`.
        lamp: what LaMP's output files call it, such as `LaMP_2`.
        signature: inputs, among them one `Profile`; outputs, among them `answer`.
        question: the input field that holds what is asked now.
        answer: the output field that is scored.
        query: takes a row's `input` text and returns the part that is asked about.
        wording: the inverse of `query`: LaMP's input text for a question.
        fields: the profile's text fields, as LaMP's retrieval joins them.
        label: the profile's field that holds the item's label, or None.
        labels: the legal answers, or () for free text.
        metrics: the names of its metrics, the first one is the task's own (see `metrics`).
        threshold: the task score from which an answer passes the gate of demos, in [0, 1].
        match: takes a question and returns what retrieval matches with (LaMP's `generate_query`); None: the question.
    """

    name: str
    lamp: str
    signature: type[dspy.Signature]
    question: str
    answer: str
    query: Callable[[str], str]
    wording: Callable[[str], str]
    fields: tuple[str, ...]
    metrics: tuple[str, ...]
    label: str | None = None
    labels: tuple[str, ...] = ()
    threshold: float = 1.0
    match: Callable[[str], str] | None = None
    profile: str = field(default="profile")

    def query_text(self, inputs: Mapping[str, Any]) -> str:
        """What LaMP's official retrieval matches with, from a program's inputs."""
        question = inputs[self.question]
        return question if self.match is None else self.match(question)

    def item_text(self, item: Item) -> str:
        """An item's text as LaMP's official retrieval indexes it."""
        return " ".join(item.fields.get(name, "") for name in self.fields)


def after(marker: str) -> Callable[[str], str]:
    """A `query`: what follows the first `marker` of a row's input, stripped; the whole input where there is none."""

    def query(text: str) -> str:
        _, found, rest = text.partition(marker)
        return (rest if found else text).strip()

    return query
