"""What a check sees: the inputs as the model saw them, and the outcome, typed, on either carrier."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, TypeVar, cast

from pydantic_core import from_json, to_json

from r2p_dspy.profile import Profile
from r2p_dspy.values.media import without_media


class _Record:
    """A record whose attributes are first the user's fields, then its own."""

    fields: dict[str, Any]  # values of any type: the user's signature decides

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("_"):
            fields = self.__dict__.get("fields", {})
            if name in fields:
                return fields[name]
        return object.__getattribute__(self, name)

    def _names(self) -> str:
        return ", ".join(self.__dict__.get("fields", {})) or "none"

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"

    def to_json(self) -> str:
        """The record as one JSON object; `from_json` reads it back, with typed values as plain JSON, without media."""
        return without_media(to_json(vars(self), inf_nan_mode="null").decode())


AnyRecord = TypeVar("AnyRecord", bound=_Record)


def unshadowed(record: AnyRecord) -> AnyRecord:
    """The record's own attributes, also those that a field of the user's signature hides.

    Examples:
        >>> outcome = Outcome(fields={"error": "404"})
        >>> outcome.error, unshadowed(outcome).error
        ('404', None)
    """
    return cast(AnyRecord, SimpleNamespace(**vars(record)))


@dataclass(frozen=True, eq=False, repr=False)
class Inputs(_Record):
    """What the model was given.

    Every field is an attribute. A field named `fields`, `items` or `labels` hides the attribute of that name, which
    `unshadowed(inputs)` still shows.

    Args:
        fields: the signature's input fields by name.
        items: the items *as rendered* (see `Profile.local`).
        labels: the answers that the signature allows, or () for free text.
    """

    fields: dict[str, Any]
    items: Profile = field(default_factory=Profile)
    labels: tuple[str, ...] = ()

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"there is no input {name!r}; the inputs are {self._names()}")

    @classmethod
    def from_json(cls, text: str) -> Inputs:
        """Inputs written by `to_json`. A profile among the fields stays text."""
        data = from_json(text)
        return cls(data["fields"], Profile.of(data["items"]), tuple(data["labels"]))


@dataclass(frozen=True, eq=False, repr=False)
class Outcome(_Record):
    """What a call produced.

    Every field and every stage is an attribute. A field wins over an attribute of the same name, which
    `unshadowed(outcome)` still shows, and an attribute wins over a stage, which `stages` still holds.

    Args:
        fields: the signature's own output fields by name.
        stages: the template's stages by name, typed.
        order: the stages' names in the order in which they were written; empty where the order is unknown.
        answers: the names of the signature's output fields.
        predictors: for a program of several predictors, the last outputs of each by its name; empty for a template.
        error: why the text could not be read, or None.

    Examples:
        >>> Outcome(fields={"tag": "comedy"}, stages={"draft": "comedy"}, answers=("tag",)).draft
        'comedy'
    """

    fields: dict[str, Any] = field(default_factory=dict)
    stages: dict[str, Any] = field(default_factory=dict)
    order: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    predictors: dict[str, dict[str, Any]] = field(default_factory=dict)
    error: str | None = None

    def __getattr__(self, name: str) -> Any:
        known = self.__dict__.get("stages", {})
        if name in known:
            return known[name]
        stages = ", ".join(known) or "none"
        raise AttributeError(
            f"the outcome has no field and no stage {name!r}; its fields are {self._names()}, its stages {stages}"
        )

    @classmethod
    def from_json(cls, text: str) -> Outcome:
        """An outcome written by `to_json`."""
        data = from_json(text)
        return cls(**{**data, "order": tuple(data["order"]), "answers": tuple(data["answers"])})


@dataclass(frozen=True, eq=False, repr=False)
class RunningOutcome(Outcome):
    """The outcome of an answer that is still being written: an output that is due raises an AttributeError.

    Else a check that reads an output named `order` or `error` would get the attribute of that name instead.

    Args:
        due: the names of the signature's outputs.

    Examples:
        >>> RunningOutcome(stages={"draft": "comedy"}, due=("order",)).order
        Traceback (most recent call last):
        AttributeError: the output 'order' is not written yet; check it at the end, without `after`
    """

    due: tuple[str, ...] = ()

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("_") and name in self.__dict__.get("due", ()):
            raise AttributeError(name)  # `__getattr__` says why
        return super().__getattribute__(name)

    def __getattr__(self, name: str) -> Any:
        if name in self.__dict__.get("due", ()):
            raise AttributeError(f"the output {name!r} is not written yet; check it at the end, without `after`")
        return super().__getattr__(name)
