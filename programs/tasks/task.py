"""What a task is: a signature, and how rows of data become its examples."""

import difflib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin

import dspy

from metrics.lamp import METRICS
from r2p_dspy.checks import Check
from r2p_dspy.errors import ConfigError
from r2p_dspy.profile import Item, Profile
from r2p_dspy.retrieval.retriever import item_text

# Names that a signature's field cannot have: those of a row, what DSPy takes for itself, what a report reads.
_TAKEN = {"id", "user", "blind", "self", "signature", "new_signature", "demos", "config", "lm", "completed"}
_TAKEN |= {"reasoning", "attempts", "violations", "interventions", "outcome", "retrieved"}
_OF_ITEMS = {"id", "item", "label", "date", "ref", "fields"}  # what an item has beside its texts


class TaskError(ConfigError):
    """A task that cannot be.

    Args:
        message: in one line, what is wrong and what to do.
        where: the argument of `Task` that is wrong, and its entry.
    """

    def __init__(self, message: str, *where: str | int):
        super().__init__(message)
        self.where = where


@dataclass(frozen=True)
class Task:
    """A personalization task.

    Args:
        name: what the command line calls it, such as `lamp2`.
        signature: inputs, among them one `Profile`; outputs, among them `answer`.
        question: the input field that holds what is asked now.
        answer: the output field that is scored.
        fields: the profile's text fields, in order.
        metrics: the names of its metrics, the first one is the task's own (see `metrics`).
        label: the profile's field that holds the item's label, or None.
        labels: the legal answers, or () for free text.
        threshold: the task score from which an answer passes the gate of demos, in [0, 1].
        match: takes a question and returns what retrieval matches with (LaMP's `rank_profiles.py`); None: the question.
        matched: those of `fields` that retrieval matches it with; () for all.
        profile: the input field that holds the history.
        checks: the program's own, beside the built-in ones.
        lamp: what LaMP's output files call it, such as `LaMP_2`; "" for a task that is none of LaMP's.
        query: takes the `input` text of LaMP's rows and returns the part that is asked about.
        wording: the inverse of `query`: LaMP's input text for a question.

    Raises:
        TaskError: for a field or metric that does not exist (with the nearest one that does), fields or labels that
            cannot be, metrics that the labels do not fit.
    """

    name: str
    signature: type[dspy.Signature]
    question: str
    answer: str
    fields: tuple[str, ...]
    metrics: tuple[str, ...]
    label: str | None = None
    labels: tuple[str, ...] = ()
    threshold: float = 1.0
    match: Callable[[str], str] | None = None
    profile: str = field(default="profile")
    matched: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    lamp: str = ""
    query: Callable[[str], str] = str.strip
    wording: Callable[[str], str] = str

    def __post_init__(self) -> None:
        if not self.name.replace("-", "").replace("_", "").isalnum():
            raise TaskError(f"a task's name is letters, digits, - and _, not {self.name!r}", "name")
        for several in ("fields", "matched", "metrics", "labels", "checks"):
            if isinstance(one := getattr(self, several), str):
                raise TaskError(f"{several} is a text; write a tuple of one, ({one!r},)", several)
        self._check_signature()
        self._check_profile()
        self._check_labels()
        self._check_metrics()
        for number, check in enumerate(self.checks):
            if not isinstance(check, Check):
                raise TaskError(f"{check!r} is no check; wrap it in Assert(...) or Suggest(...)", "checks", number)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The signature's inputs beside the profile, which every row has as texts."""
        return tuple(name for name in self.signature.input_fields if name != self.profile)

    def query_text(self, inputs: Mapping[str, Any]) -> str:
        """What LaMP's official retrieval matches with, from a program's inputs."""
        question = inputs[self.question]
        return question if self.match is None else self.match(question)

    def item_text(self, item: Item) -> str:
        """An item's text as LaMP's official retrieval indexes it, there without `--use_date`."""
        return item_text(item, self.searched)

    @property
    def searched(self) -> tuple[str, ...]:
        """The fields of an item that retrieval matches."""
        return self.matched or self.fields

    def _check_signature(self) -> None:
        inputs, outputs = self.signature.input_fields, self.signature.output_fields
        for name in self.signature.fields:
            check_name(name, "signature", name)
        if [name for name, info in inputs.items() if info.annotation is Profile] != [self.profile]:
            raise TaskError(f"the signature needs one input of type Profile, named {self.profile!r}", "signature")
        if self.question not in self.inputs:
            raise TaskError(unknown("input", self.question, self.inputs), "question")
        if self.answer not in outputs:
            raise TaskError(unknown("output", self.answer, outputs), "answer")

    def _check_profile(self) -> None:
        if not self.fields:
            raise TaskError("the profile needs at least one field with text", "fields")
        for number, name in enumerate(self.fields):
            if not name.strip() or name in _OF_ITEMS:
                raise TaskError(f"a field of the profile cannot be named {name!r}; rename it", "fields", number)
        check_once("field", self.fields, "fields")
        if self.label in self.fields:
            raise TaskError(f"{self.label!r} is a field already; an item shows its label anyway", "label")
        if self.label is not None and not self.labels:
            raise TaskError("an item's label is one of the task's labels; give them, or make it a field", "label")

    def _check_labels(self) -> None:
        for number, label in enumerate(self.labels):
            if label != label.strip() or not label:
                raise TaskError(f"a label is a text without space around it, not {label!r}", "labels", number)
        check_once("label", self.labels, "labels")
        if len(self.labels) == 1:
            raise TaskError("one label leaves nothing to choose; give more, or none for free text", "labels")
        annotation = self.signature.output_fields[self.answer].annotation
        if get_origin(annotation) is Literal and {*map(str, get_args(annotation))} != {*self.labels}:
            raise TaskError(f"the labels are not those that the signature gives {self.answer!r}", "labels")

    def _check_metrics(self) -> None:
        if not self.metrics:
            raise TaskError(f"a task needs a metric; the metrics are {', '.join(METRICS)}", "metrics")
        for number, name in enumerate(self.metrics):
            if name not in METRICS:
                raise TaskError(unknown("metric", name, METRICS), "metrics", number)
            if name in ("accuracy", "f1") and not self.labels:
                raise TaskError(f"{name} needs labels; for free text take rouge1 or rougeL", "metrics", number)
            if name in ("mae", "rmse") and not (self.labels and all(map(_is_number, self.labels))):
                raise TaskError(f"{name} needs labels that are numbers; for others take accuracy", "metrics", number)
        check_once("metric", self.metrics, "metrics")


def after(marker: str) -> Callable[[str], str]:
    """A `query`: what follows the first `marker` of a row's input, stripped; the whole input where there is none."""

    def query(text: str) -> str:
        _, found, rest = text.partition(marker)
        return (rest if found else text).strip()

    return query


def check_name(name: str, *where: str | int) -> None:
    """Refuse what cannot be a field of a task's signature.

    Raises:
        TaskError: with `where`.
    """
    if not name.isidentifier() or name.startswith("_"):
        raise TaskError(f"a field's name is one word of letters, digits and _, not {name!r}", *where)
    if name in _TAKEN or hasattr(dspy.Signature, name):
        raise TaskError(f"a field cannot be named {name!r}, which means something else; rename it", *where)


def check_once(what: str, names: Collection[str], *where: str | int) -> None:
    """Refuse a name that stands twice.

    Raises:
        TaskError: with `where`, and the name's place.
    """
    seen: set[str] = set()
    for number, name in enumerate(names):
        if name in seen:
            raise TaskError(f"the {what} {name!r} stands twice; keep one of the two", *where, number)
        seen.add(name)


def unknown(what: str, name: str, known: Collection[str]) -> str:
    """Says that there is no such name, and which one is the nearest, or all where none is near.

    Example:
        >>> unknown("metric", "rouge", ["accuracy", "rouge1"])
        "unknown metric 'rouge'; did you mean 'rouge1'?"
    """
    lower = {one.lower(): one for one in known}
    near = difflib.get_close_matches(name.lower(), lower, n=1)
    advice = f"did you mean {lower[near[0]]!r}?" if near else f"there is {', '.join(known)}"
    return f"unknown {what} {name!r}; {advice}"


def _is_number(label: str) -> bool:
    try:
        return float(label) - float(label) == 0  # neither inf nor nan
    except ValueError:
        return False
