"""A user's history: the profile and its items, written into a prompt and read back."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, Field, field_validator, model_serializer, model_validator

from r2p_dspy.errors import ConfigError
from r2p_dspy.values.neutral import Neutral, json_line, neutralize

_EMPTY = "(empty)"
_OWN = ("id", "label", "date", "ref", "fields")


class Item(BaseModel, extra="forbid"):
    """One entry of a profile.

    Args:
        id: the item's id, unique in its profile.
        fields: text fields by name, in order, at least one of them not blank.
        label: the user's own label or rating of it, where the task has them.
        date: `YYYY-MM-DD` where known.
        ref: for an item in a prompt, its id in the full profile.

    Any other key is a text field, so LaMP's own rows are items. No field can be named `item`: prompts use that name
    for the id.

    Examples:
        >>> Item(id="7", title="Rain", text="It rained.").fields
        {'title': 'Rain', 'text': 'It rained.'}
    """

    id: str
    fields: dict[str, str]
    label: str | None = None
    date: str | None = None
    ref: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        if "id" not in data:  # as rendered in a prompt
            data = {("id" if key == "item" else key): value for key, value in data.items()}
        known = {key: data[key] for key in _OWN if key in data}
        others = {key: value for key, value in data.items() if key not in _OWN}
        if isinstance(fields := known.get("fields", {}), dict):
            known["fields"] = {**fields, **others}
        return known

    @field_validator("id", "label", mode="before")
    @classmethod
    def _text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int | float) else value

    @field_validator("fields")
    @classmethod
    def _some_text(cls, value: dict[str, str]) -> dict[str, str]:
        if not any(text.strip() for text in value.values()):
            raise ConfigError("an item needs at least one field with text")
        if taken := {*_OWN, "item"} & set(value):
            raise ConfigError(f"a text field cannot be named {min(taken)!r}, which means something else; rename it")
        return value

    @property
    def text(self) -> str:
        """The text fields joined by a space; quotes are looked up in it."""
        return " ".join(self.fields.values())

    def __str__(self) -> str:
        row = {"item": self.id, **self.fields}
        row |= {key: value for key, value in (("label", self.label), ("date", self.date)) if value is not None}
        return json_line(row)


class Profile(BaseModel, extra="forbid"):
    """A user's history: items in order.

    Prompts and demos hold it as one JSON object a line. It accepts that text, a list of items or a list
    of dicts, so a saved demo reads back unchanged.

    Args:
        items: the entries, with unique ids.

    Raises:
        pydantic.ValidationError: ids are not unique, an item has no text, or the text is not one JSON object a line.

    Examples:
        >>> profile = Profile.model_validate([{"id": "a", "text": "rain again", "label": "sad"}])
        >>> print(profile.local())
        {"item": "1", "text": "rain again", "label": "sad"}
        >>> Profile.model_validate(str(profile.local()))[0].label
        'sad'
    """

    items: list[Item] = Field(default_factory=list)

    @model_validator(mode="before")
    @classmethod
    def _read(cls, data: Any) -> Any:
        if isinstance(data, str):
            text = data.strip()
            try:
                rows = [] if text in ("", _EMPTY) else [json.loads(line) for line in text.split("\n")]
            except json.JSONDecodeError as error:
                raise ConfigError(f"a profile's text is one JSON object a line: {error}") from None
            return {"items": rows}
        return {"items": list(data)} if isinstance(data, list | tuple) else data

    @model_validator(mode="after")
    def _unique(self) -> "Profile":
        seen: set[str] = set()
        for item in self.items:
            if item.id in seen:
                raise ConfigError(f"two items have the id {item.id!r}")
            seen.add(item.id)
        return self

    @model_serializer
    def _write(self) -> str:
        return str(self)

    def __str__(self) -> str:
        return "\n".join(map(str, self.items)) or _EMPTY

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Item:
        return self.items[index]

    def __iter__(self) -> Iterator[Item]:  # type: ignore[override]
        return iter(self.items)

    def __bool__(self) -> bool:
        return bool(self.items)

    def get(self, item_id: str) -> Item | None:
        """The item of that id, or None."""
        return next((item for item in self.items if item.id == item_id), None)

    def local(self, neutral: Neutral = str) -> "Profile":
        """The profile as a prompt shows it: ids `1`, `2`, …, texts neutralized, the original ids as `ref`.

        Args:
            neutral: breaks what else could pass for the structure of the program at hand, see `neutralizer`.
        """

        def shown(text: str) -> str:
            return neutral(neutralize(text))

        items = [
            Item(
                id=str(index),
                fields={shown(name): shown(text) for name, text in item.fields.items()},
                label=item.label and shown(item.label),
                date=item.date and shown(item.date),
                ref=item.id if item.ref is None else item.ref,
            )
            for index, item in enumerate(self.items, start=1)
        ]
        return Profile(items=items)

    @classmethod
    def of(cls, value: "Profile | str | Iterable[Any] | None") -> "Profile":
        """A profile from a profile, its text, or rows; None is the empty profile."""
        if isinstance(value, Profile):
            return value
        if isinstance(value, Iterable) and not isinstance(value, str | Mapping):
            value = list(value)
        return cls() if value is None else cls.model_validate(value)
