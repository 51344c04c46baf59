"""Read one row of a user's own file: an example, or what is wrong with it."""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import dspy
from dspy.adapters.utils import get_annotation_name

from programs.data.lamp.row_errors import InvalidDataError, RowError, key_names
from programs.data.values import item_date, repair_text, row_id
from programs.tasks.task import Task
from programs.text import short_repr
from r2p_dspy.profile import Item, Profile
from r2p_dspy.values.typed import as_text, read


@dataclass(frozen=True)
class Reader:
    """Reads one file of rows. Its methods raise InvalidDataError for what cannot be used."""

    task: Task
    file: Path

    def fail(self, where: str, what: str, remedy: str, name: str = "") -> NoReturn:
        """Refuse a row, or the file."""
        raise InvalidDataError(RowError(self.file, name or where.partition(", item")[0], where, what, remedy))

    def lines(self) -> Iterator[tuple[int, str]]:
        """The lines that are not blank, with their numbers from 1."""
        try:
            with self.file.open("rb") as file:  # as bytes, because a text may contain other line separators
                for number, raw in enumerate(file, start=1):
                    line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
                    if line.strip():
                        yield number, line
        except OSError as error:
            self.fail("the file", f"it cannot be read ({error.strerror})", "give the file of the rows")
        except UnicodeDecodeError:
            self.fail("the file", "it is not UTF-8 text", "save it as UTF-8")

    def row(self, where: str, line: str | bytes) -> dict[str, Any]:
        """The row of a line."""
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            self.fail(where, f"it is not valid JSON ({' '.join(str(error).split())[:80]})", "write one row a line")
        if not isinstance(row, dict):
            self.fail(where, f"it is {short_repr(row)}, not an object", 'a row is {"id": …, "profile": […], …}')
        return row

    def id_of(self, row: Any, where: str) -> str:
        """The id of a row or an item."""
        name = row_id(row)
        if name is None:
            self.fail(where, f"it has no id: {short_repr(row)}", "give it a unique id")
        return name

    def example(self, where: str, name: str, row: dict[str, Any]) -> dspy.Example:
        """The row as an example."""
        inputs = self.inputs(where, row)
        known = {"id": name, self.task.answer: self.answer(where, row)}
        if (user := self._user(where, row)) is not None:
            known["user"] = user
        return dspy.Example(**known, **inputs).with_inputs(*inputs)

    def inputs(self, where: str, row: dict[str, Any]) -> dict[str, Any]:
        """The arguments that a program is called with for the row."""
        return {**self.texts(where, row), self.task.profile: self.profile(where, row)}

    def texts(self, where: str, row: dict[str, Any]) -> dict[str, Any]:
        """The arguments without the profile."""
        return {name: self._text(where, name, row) for name in self.task.inputs}

    def profile(self, where: str, row: dict[str, Any]) -> Profile:
        """The history of the row."""
        entries = row.get(self.task.profile)
        if not isinstance(entries, list):
            what = f"its {self.task.profile} is {short_repr(entries)}, not a list of items"
            self.fail(where, what, f"it has {key_names(row)}")
        items: dict[str, Item] = {}
        for number, entry in enumerate(entries, start=1):
            key = self.id_of(entry, f"{where}, item {number}")
            if key in items:
                self.fail(f"{where}, item {key}", "the profile has this id twice", "keep one of the two")
            items[key] = self._item(f"{where}, item {key}", key, entry)
        return Profile(items=list(items.values()))

    def answer(self, where: str, row: dict[str, Any]) -> Any:
        """The answer that is right for the row: a label's text, or a value of the answer's type."""
        name = self.task.answer
        if self.task.labels:
            return self._label(where, name, row)
        if self._annotation is str:
            return self._text(where, name, row)
        try:
            return read(self._annotation, row[name])
        except KeyError:
            self.fail(where, f"it has no {name}", f"it has {key_names(row)}")
        except ValueError:
            kind = get_annotation_name(self._annotation)
            self.fail(where, f"its {name} is {short_repr(row[name])}, not of the type {kind}", "correct it")

    @property
    def _annotation(self) -> Any:
        return self.task.signature.output_fields[self.task.answer].annotation

    def _item(self, where: str, key: str, entry: dict[str, Any]) -> Item:
        values = self.task.item_fields(entry)
        fields = {name: self._text(where, name, {**entry, **values}, blank=True) for name in values}
        if not any(value.strip() for value in fields.values()):
            self.fail(where, f"it has no text in {', '.join(fields)}", "leave the item out")
        label = None if self.task.label is None else self._label(where, self.task.label, entry)
        return Item(id=key, fields=fields, label=label, date=item_date(entry.get("date")))

    def _user(self, where: str, row: dict[str, Any]) -> str | None:
        """The row's user; None if it has none. A table with missing users has NaN there."""
        value = row.get("user")
        if value is None or value == "" or value != value:
            return None
        name = row_id({"id": _without_fraction(value)})
        if name is None:
            what = f"its user is {short_repr(value)}, neither a name nor a number"
            self.fail(where, what, "name the user, or leave the user out")
        return name

    def _text(self, where: str, name: str, row: dict[str, Any], blank: bool = False) -> str:
        value = row.get(name)
        if not isinstance(value, str) or not (blank or value.strip()):
            self.fail(where, f"its {name} is {short_repr(value)}, not a text", f"it has {key_names(row)}")
        return repair_text(value)

    def _label(self, where: str, name: str, row: dict[str, Any]) -> str:
        value = row.get(name)
        text = as_text(value).strip() if name in row else ""
        if text not in self.task.labels:
            with suppress(ValueError):
                text = as_text(read(self._annotation, value))  # such as "true", or the name of an Enum's member
        if text not in self.task.labels:
            remedy = f"the task has only {', '.join(self.task.labels)}"
            self.fail(where, f"its {name} is {short_repr(value)}, not a label of the task", remedy)
        return text


def _without_fraction(value: Any) -> Any:
    """4 for 4.0, which tables write for whole numbers; any other value as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
