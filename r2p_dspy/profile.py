"""A user's history: the profile and its items, written into a prompt and read back."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import (
    BaseModel,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from r2p_dspy.errors import ConfigError
from r2p_dspy.values.neutral import Neutral, json_line, neutralize
from r2p_dspy.values.rows import columns_of, is_missing, rows_of, text_of, without_fraction

_EMPTY = "(empty)"
_OWN = ("id", "label", "date", "fields")  # what a row has of an item's own; `ref` is no row's


class Item(BaseModel, extra="forbid"):
    """One entry of a profile.

    Values are turned into text: numbers, dates (ISO), enums (their value), lists and dicts (JSON). Fields that are None
    or NaN are left out.

    Args:
        id: the item's id, unique in its profile.
        fields: text fields by name, in order, at least one of them not blank.
        label: the user's own label or rating of it, where the task has them.
        date: when the user wrote or chose it, where known; `Recency` reads the usual formats.
        ref: for an item in a prompt, its id in the full profile; `Profile.local` sets it.

    Any other key is a text field, so LaMP's own rows are items. No field can be named `item`: prompts use that name
    for the id.

    Examples:
        >>> Item(id="7", title="Rain", text="It rained.").fields
        {'title': 'Rain', 'text': 'It rained.'}
        >>> Item(id=7, text="It rained.", stars=4, label=4.0).label
        '4'
    """

    id: str
    fields: dict[str, str]
    label: str | None = None
    date: str | None = None
    ref: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        if "id" not in data:  # as rendered in a prompt
            data = {("id" if key == "item" else key): value for key, value in data.items()}
        known = {key: data[key] for key in _OWN if key in data}
        others = {key: value for key, value in data.items() if key not in _OWN}
        if isinstance(fields := known.get("fields", {}), Mapping):
            known["fields"] = {**fields, **others}
        return known

    @field_validator("id", "label", "date", mode="before")
    @classmethod
    def _text(cls, value: Any, info: ValidationInfo) -> str | None:
        try:
            return text_of(without_fraction(value))
        except ConfigError as error:
            raise ConfigError(f"its {info.field_name} {error}") from None

    @field_validator("fields", mode="before")
    @classmethod
    def _texts(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise ConfigError(f"its fields are a {type(value).__name__}, not a dict of texts by name")
        if taken := {*_OWN, "item"} & set(value):
            raise ConfigError(f"a text field cannot be named {min(taken)!r}, which means something else; rename it")
        texts = {}
        for name, entry in value.items():
            try:
                text = text_of(entry)
            except ConfigError as error:
                raise ConfigError(f"its field {name!r} {error}") from None
            if text is not None:
                texts[name] = text
        return texts

    @field_validator("fields")
    @classmethod
    def _some_text(cls, value: dict[str, str]) -> dict[str, str]:
        if not any(text.strip() for text in value.values()):
            raise ConfigError("an item needs at least one field with text")
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

    `Profile.of` makes one from what programs and databases hold; docs/composing.md lists it. Prompts and demos hold a
    profile as one JSON object a line; it accepts that text, so a saved demo reads back unchanged.

    Args:
        items: the entries, with unique ids. One without an id gets its place, from 1, as its id. One without any text
            is left out.
        dropped: the number of entries that were left out.

    Raises:
        pydantic.ValidationError: ids are not unique, an entry is no item, or a text is not one JSON object a line.
            `Profile.of` raises a `ConfigError` of one line instead.

    Examples:
        >>> profile = Profile.model_validate([{"id": "a", "text": "rain again", "label": "sad"}])
        >>> print(profile.local())
        {"item": "1", "text": "rain again", "label": "sad"}
        >>> Profile.model_validate(str(profile.local()))[0].label
        'sad'
    """

    items: list[Item] = Field(default_factory=list)
    dropped: int = 0

    @model_validator(mode="before")
    @classmethod
    def _read(cls, data: Any) -> Any:
        if isinstance(data, Profile):
            return data
        given, dropped = data, 0
        if isinstance(data, Mapping) and isinstance(data.get("items", []), list) and {*data} <= {"items", "dropped"}:
            given, dropped = data.get("items", []), data.get("dropped", 0)
        entries = rows_of(_json_rows(given) if isinstance(given, str) else given)
        items = _items(entries)
        return {"items": items, "dropped": dropped + len(entries) - len(items)}

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
            ).model_copy(update={"ref": item.id if item.ref is None else item.ref})
            for index, item in enumerate(self.items, start=1)
        ]
        return Profile(items=items)

    @classmethod
    def of(cls, value: Any) -> "Profile":
        """A profile from a user's history as a program or a database holds it.

        Args:
            value: a profile, its text, a list (or any iterable) of entries, one entry, a data frame, or None for the
                empty profile. An entry is an `Item`, a text, or a row: a dict, a dataclass, a pydantic model, a
                `dspy.Example`, a named tuple or a row of a database.

        Raises:
            ConfigError: one line: which entry cannot be used, and why.

        Examples:
            >>> print(Profile.of(["rain again", None, {"title": "Sea", "label": True}]))
            {"item": "1", "text": "rain again"}
            {"item": "3", "title": "Sea", "label": "True"}
        """
        if isinstance(value, Profile):
            return value
        try:
            return cls.model_validate(value if value is not None else [])
        except ValidationError as error:
            raise ConfigError(_reason(error)) from None


def _json_rows(text: str) -> list[Any]:
    """The rows of a profile's text: one JSON object a line, or one JSON list."""
    text = text.strip()
    if text in ("", _EMPTY):
        return []
    rows = []
    for number, line in enumerate([text] if text.startswith("[") else text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except (ValueError, RecursionError):
            what = f"a profile's text is one JSON object a line, and line {number} is none"
            raise ConfigError(f"{what}; give texts of another kind as a list") from None
    return rows[0] if isinstance(rows[0], list) and len(rows) == 1 else rows


def _items(entries: list[Any]) -> list[Item]:
    """The entries as items, without those that have no text. A ConfigError names the entry by its place."""
    items: dict[str, Item] = {}
    places: dict[str, int] = {}
    for place, entry in enumerate(entries, start=1):
        try:
            item = entry if isinstance(entry, Item) else _item(entry, place)
        except (ConfigError, ValidationError) as error:
            reason = _reason(error) if isinstance(error, ValidationError) else error
            raise ConfigError(f"item {place} of the history: {reason}") from None
        if item is None:
            continue
        if item.id in items:
            what = f"items {places[item.id]} and {place} have the same id {item.id!r}"
            raise ConfigError(f"{what}; keep one of them, or give each its own")
        items[item.id], places[item.id] = item, place
    return list(items.values())


def _item(entry: Any, place: int) -> Item | None:
    """One entry as an item; None if it has no text."""
    columns = columns_of(entry)
    if _is_blank(columns.get("id")):
        own = columns.pop("item", None)  # as rendered in a prompt
        columns["id"] = str(place) if _is_blank(own) else own
    nested = columns.get("fields")
    texts = [value for name, value in columns.items() if name not in _OWN]
    texts += nested.values() if isinstance(nested, Mapping) else [nested]
    return None if all(map(_is_blank, texts)) else Item.model_validate(columns)


def _is_blank(value: Any) -> bool:
    return is_missing(value) or (isinstance(value, str) and not value.strip())


def _reason(error: ValidationError) -> str:
    """The first fault that pydantic reports, in one line."""
    fault = error.errors()[0]
    reason = fault.get("ctx", {}).get("error") or f"its {'.'.join(map(str, fault['loc']))} is no text"
    return " ".join(str(reason).split())
