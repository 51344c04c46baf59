"""A task: a signature, its metrics, and how rows of data become its examples."""

import difflib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import dspy

from metrics.lamp import METRICS, Metric, metric
from r2p_dspy.checks import Check
from r2p_dspy.errors import ConfigError
from r2p_dspy.profile import Item
from r2p_dspy.prompting.item_turns import LABEL
from r2p_dspy.prompting.signature import profile_fields
from r2p_dspy.retrieval.retriever import item_text
from r2p_dspy.scoring.rouge import Tokenize
from r2p_dspy.template import WITH_PLAIN
from r2p_dspy.values.typed import labels_of
from r2p_dspy.values.words import turkish_words, words

# Names that a field of a signature cannot have: a row's own keys, DSPy's arguments, what reports read.
_RESERVED_FIELDS = {"id", "user", "blind", "self", "signature", "new_signature", "demos", "config", "lm", "completed"}
_RESERVED_FIELDS |= {"reasoning", "attempts", "violations", "interventions", "outcome", "retrieved", "supporting_items"}
_ITEM_ATTRIBUTES = {"id", "item", "label", "date", "ref", "fields"}  # an item's own, which no text field can be named


class TaskError(ConfigError):
    """A task, or a task file, that cannot be used.

    Args:
        message: one line: what is wrong, and what to do.
        where: the wrong argument of `Task`, and the position in it.

    Attributes:
        traceback: of an exception in the user's own task file, from the user's frame on; else empty.
    """

    def __init__(self, message: str, *where: str | int):
        super().__init__(message)
        self.where = where
        self.traceback = ""


@dataclass(frozen=True)
class Task:
    """A personalization task.

    Args:
        name: its name on the command line, such as `lamp2`.
        signature: its inputs include one `Profile`, its outputs include `answer`.
        question: the input field with the current question.
        answer: the output field that is scored.
        fields: the text fields of the profile's items, in order.
        metrics: names of its metrics (see `metrics.lamp`); the first one is the task score.
        label: the item field with the item's label, or None.
        labels: the legal answers, or () for free text; where the answer's type has labels (see `labels_of`), its own.
        threshold: the task score from which an answer may become a demo, in [0, 1].
        match: takes a question and returns the query of retrieval (LaMP's `rank_profiles.py`); None for the question.
        matched: the `fields` that retrieval compares with the query; () for all.
        profile: the input field with the history.
        checks: checks of the task's programs, in addition to the built-in ones.
        optional: the `fields` that an item may lack.
        aliases: pairs of another name that an item may have for a field, and the field.
        written: the field of an item that the user wrote; "" for that named as the answer, or the first but `asked`.
        asked: the field to which the user's answer belongs; "" for the only one beside that of the answer, if known.
        gold: where an example holds what answers are compared with: "" for the answer's own field, or a name such as
            `rubric`, where it is a `metrics.rubric.Rubric`.
        quotable: the `fields` that evidence quotes under a grammar, see `R2P`; () for all.
        template: the stages of the task's programs by default, one of `r2p_dspy.template.WITH_PLAIN`.
        lamp: its name in LaMP's or LongLaMP's output files, such as `LaMP_2`; "" for another task.
        shape: the task whose files have the shape of its own, such as `LaMP_6`; "" for `lamp`. In LaMP-QA its category.
        query: takes the `input` text of LaMP's rows and returns the question in it.
        wording: the inverse of `query`: makes LaMP's input text from a question.
        language: the texts' language, such as `ja` or `pt-BR`, or `any`. Words of any script are found either way; only
            Turkish and Azerbaijani must be named, for their capital I. A task of LaMP's keeps LaMP's rules.

    Raises:
        TaskError: for a field or metric that does not exist (with the nearest one that does), fields or labels that
            cannot be used, and metrics that do not fit the labels.
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
    optional: tuple[str, ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()
    written: str = ""
    asked: str = ""
    gold: str = ""
    checks: tuple[Check, ...] = ()
    quotable: tuple[str, ...] = ()
    template: str = "full"
    lamp: str = ""
    shape: str = ""
    query: Callable[[str], str] = str.strip
    wording: Callable[[str], str] = str
    language: str = "any"

    def __post_init__(self) -> None:
        if not self.name.replace("-", "").replace("_", "").isalnum():
            raise TaskError(f"a task's name has only letters, digits, - and _, not {self.name!r}", "name")
        for argument in ("fields", "matched", "metrics", "labels", "checks"):
            if isinstance(value := getattr(self, argument), str):
                raise TaskError(f"{argument} is a text; write a tuple of one, ({value!r},)", argument)
        if not re.fullmatch(r"any|[a-z]{2,3}(-[A-Za-z0-9]+)*", self.language):
            raise TaskError(f"a language is a code such as ja or pt-BR, or any, not {self.language!r}", "language")
        if self.template not in WITH_PLAIN:
            raise TaskError(unknown("template", self.template, WITH_PLAIN), "template")
        object.__setattr__(self, "shape", self.shape or self.lamp)
        object.__setattr__(self, "gold", self.gold or self.answer)
        self._check_signature()
        own = labels_of(self.signature.output_fields[self.answer].annotation)
        object.__setattr__(self, "labels", self.labels or own)
        self._check_profile()
        self._check_labels()
        self._check_metrics()
        for number, check in enumerate(self.checks):
            if not isinstance(check, Check):
                raise TaskError(f"{check!r} is not a check; wrap it in Assert(...) or Suggest(...)", "checks", number)

    def item_fields(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """What an item of a row has as its fields, by their names: a text or whatever is there, or None for nothing.

        A number is read as its text. An optional field that the item lacks is left out.
        """
        known = {name: entry[key] for key, name in self.aliases if key in entry}
        known |= {name: entry[name] for name in self.fields if name in entry}
        names = (name for name in self.fields if name in known or name not in self.optional)
        return {name: _number_text(known.get(name)) for name in names}

    @property
    def by_rubric(self) -> bool:
        """Whether answers are compared with rubrics, and not with an answer that is right."""
        return self.gold != self.answer

    @property
    def turns(self) -> dict[str, str]:
        """How an item reads as an input that the user answered, see `R2P`; empty if the items do not."""
        answered = LABEL if self.label is not None else self.written
        unknown_answer = self.by_rubric or (self.labels and self.label is None)
        return {} if unknown_answer or not self.asked else {self.question: self.asked, self.answer: answered}

    @property
    def worded(self) -> bool:
        """Whether the `input` of LaMP's rows has the question within a wording; else it is the question itself."""
        return self.wording is not str

    @property
    def inputs(self) -> tuple[str, ...]:
        """The signature's inputs without the profile; every row has a text for each."""
        return tuple(name for name in self.signature.input_fields if name != self.profile)

    @property
    def tokenize(self) -> Tokenize | None:
        """What splits texts into words, for retrieval and metrics; None for LaMP's own rules, in a task of LaMP's."""
        if self.lamp:
            return None
        return turkish_words if self.language.split("-")[0] in ("tr", "tur", "az", "aze") else words

    def metric(self, name: str) -> Metric:
        """The metric of that name, over this task's words."""
        return metric(name, self.tokenize)

    def query_text(self, inputs: Mapping[str, Any]) -> str:
        """The query of LaMP's official retrieval, from a program's inputs."""
        question = inputs[self.question]
        return question if self.match is None else self.match(question)

    def item_text(self, item: Item) -> str:
        """An item's text as LaMP's official retrieval indexes it (without `--use_date`)."""
        return item_text(item, self.searched)

    @property
    def searched(self) -> tuple[str, ...]:
        """The fields of an item that retrieval compares with the query."""
        return self.matched or self.fields

    def _check_signature(self) -> None:
        outputs = self.signature.output_fields
        for name in self.signature.fields:
            check_name(name, "signature", name)
        if profile_fields(self.signature) != [self.profile]:
            raise TaskError(f"the signature needs one input of type Profile, named {self.profile!r}", "signature")
        if self.question not in self.inputs:
            raise TaskError(unknown("input", self.question, self.inputs), "question")
        if self.answer not in outputs:
            raise TaskError(unknown("output", self.answer, outputs), "answer")
        if self.by_rubric and self.gold in self.signature.fields:
            raise TaskError(f"the rubrics cannot stand in {self.gold!r}, a field of the signature; rename it", "gold")

    def _check_profile(self) -> None:
        if not self.fields:
            raise TaskError("the profile needs at least one field with text", "fields")
        for number, name in enumerate(self.fields):
            if not name.strip() or name in _ITEM_ATTRIBUTES:
                raise TaskError(f"a field of the profile cannot be named {name!r}; rename it", "fields", number)
        check_unique("field", self.fields, "fields")
        known = self.written or (self.answer if self.answer in self.fields else "")
        written = known or next((name for name in self.fields if name != self.asked), self.asked)
        left = [name for name in self.fields if self.label is not None or name != written]
        asked = self.asked or (left[0] if len(left) == 1 and (known or self.label is not None) else "")
        for argument, name in (("written", written), ("asked", asked)):
            if name and name not in self.fields:
                raise TaskError(unknown("field", name, self.fields), argument)
            object.__setattr__(self, argument, name)  # the dataclass is frozen
        if self.label is None and asked == written:
            raise TaskError(f"{asked!r} is what the user wrote; name the field that it answered", "asked")
        if self.label in self.fields:
            raise TaskError(f"{self.label!r} is a field already; take it out, items show their label", "label")
        if self.label is not None and not self.labels:
            raise TaskError("an item's label is one of the task's labels; give them, or make it a field", "label")

    def _check_labels(self) -> None:
        for number, label in enumerate(self.labels):
            if label != label.strip() or not label:
                raise TaskError(f"a label is a text without spaces around it, not {label!r}", "labels", number)
        check_unique("label", self.labels, "labels")
        if len(self.labels) == 1:
            raise TaskError("one label leaves nothing to choose; give more, or none for free text", "labels")
        of_type = {*labels_of(self.signature.output_fields[self.answer].annotation)}
        if of_type and {*self.labels} not in (of_type, of_type - {"None"}):
            raise TaskError(f"the labels differ from those of {self.answer!r} in the signature", "labels")

    def _check_metrics(self) -> None:
        if not self.metrics:
            raise TaskError(f"a task needs a metric; the metrics are {', '.join(METRICS)}", "metrics")
        for number, name in enumerate(self.metrics):
            if name not in METRICS:
                raise TaskError(unknown("metric", name, METRICS), "metrics", number)
            if name in ("accuracy", "f1") and not self.labels:
                raise TaskError(f"{name} needs labels; for free text use rouge1 or rougeL", "metrics", number)
            if (name == "coverage") != self.by_rubric:
                raise TaskError(
                    f"{name} does not fit: coverage, and nothing else, is computed of rubrics", "metrics", number
                )
            if name in ("mae", "rmse") and not (self.labels and all(map(_is_number, self.labels))):
                raise TaskError(f"{name} needs labels that are numbers; for others use accuracy", "metrics", number)
        check_unique("metric", self.metrics, "metrics")


def after(marker: str) -> Callable[[str], str]:
    """Make a `query` that returns the stripped text after the first `marker`, or the whole input without a marker."""

    def query(text: str) -> str:
        _, separator, rest = text.partition(marker)
        return (rest if separator else text).strip()

    return query


def check_name(name: str, *where: str | int) -> None:
    """Check that a name can be a field of a task's signature; the TaskError has `where`."""
    if not name.isidentifier() or name.startswith("_"):
        raise TaskError(f"a field's name is one word of letters, digits and _, not {name!r}", *where)
    if name in _RESERVED_FIELDS or hasattr(dspy.Signature, name):
        raise TaskError(f"a field cannot be named {name!r}, which is reserved; rename it", *where)


def check_unique(what: str, names: Collection[str], *where: str | int) -> None:
    """Check that no name is a duplicate; the TaskError has `where` and the position of the duplicate."""
    seen: set[str] = set()
    for number, name in enumerate(names):
        if name in seen:
            raise TaskError(f"duplicate {what} {name!r}; keep one of the two", *where, number)
        seen.add(name)


def unknown(what: str, name: str, known: Collection[str]) -> str:
    """The message for an unknown name, with the nearest known name, or with all of them if none is near.

    Examples:
        >>> unknown("metric", "rouge", ["accuracy", "rouge1"])
        "unknown metric 'rouge'; did you mean 'rouge1'?"
    """
    lower = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(name.lower(), lower, n=1)
    advice = f"did you mean {lower[near[0]]!r}?" if near else f"known: {', '.join(known)}"
    return f"unknown {what} {name!r}; {advice}"


def _number_text(value: Any) -> Any:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _is_number(label: str) -> bool:
    try:
        return float(label) - float(label) == 0  # neither inf nor nan
    except ValueError:
        return False
