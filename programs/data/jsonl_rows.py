"""A row of a user's own file: an example, or what is wrong with it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import dspy

from programs.data.lamp.row import date, identity, readable
from programs.data.lamp.row_errors import FlawError, RowError, keys
from programs.tasks.task import Task
from programs.text import short_repr
from r2p_dspy.profile import Item, Profile


@dataclass(frozen=True)
class Reader:
    """One file of rows, and how to say what is wrong in it."""

    task: Task
    file: Path

    def fail(self, where: str, what: str, remedy: str, name: str = "") -> NoReturn:
        """Refuse a row, or the file."""
        raise FlawError(RowError(self.file, name or where.partition(", item")[0], where, what, remedy))

    def lines(self) -> Iterator[tuple[int, str]]:
        """The lines that are not blank, numbered."""
        try:
            with self.file.open("rb") as file:  # as bytes, for a text may hold other line separators
                for number, raw in enumerate(file, start=1):
                    line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
                    if line.strip():
                        yield number, line
        except OSError as error:
            self.fail("the file", f"it cannot be read ({error.strerror})", "give the rows' file")
        except UnicodeDecodeError:
            self.fail("the file", "it is no text in UTF-8", "save it as one")

    def row(self, where: str, line: str | bytes) -> dict[str, Any]:
        """A line's row."""
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            self.fail(where, f"it is no JSON ({' '.join(str(error).split())[:80]})", "give a row a line")
        if not isinstance(row, dict):
            self.fail(where, f"it is {short_repr(row)}, not an object", 'a row is {"id": …, "profile": […], …}')
        return row

    def id_of(self, row: Any, where: str) -> str:
        """The id of a row or an item: a text, or a number."""
        name = identity(row)
        if name is None:
            self.fail(where, f"it has no id: {short_repr(row)}", "give it one that is its own")
        return name

    def example(self, where: str, name: str, row: dict[str, Any]) -> dspy.Example:
        """A row as an example."""
        inputs = self.inputs(where, row)
        known = {"id": name, self.task.answer: self.answer(where, row)}
        if (user := self._user(where, row)) is not None:
            known["user"] = user
        return dspy.Example(**known, **inputs).with_inputs(*inputs)

    def inputs(self, where: str, row: dict[str, Any]) -> dict[str, Any]:
        """What a program is called with."""
        texts = {name: self._text(where, name, row) for name in self.task.inputs}
        entries = row.get(self.task.profile)
        if not isinstance(entries, list):
            self.fail(where, f"its {self.task.profile} is {short_repr(entries)}, not a list of items", _has(row))
        items: dict[str, Item] = {}
        for number, entry in enumerate(entries, start=1):
            key = self.id_of(entry, f"{where}, item {number}")
            if key in items:
                self.fail(f"{where}, item {key}", "the id stands twice in the profile", "keep one of the two")
            items[key] = self._item(f"{where}, item {key}", key, entry)
        return {**texts, self.task.profile: Profile(items=list(items.values()))}

    def answer(self, where: str, row: dict[str, Any]) -> str:
        """What a program should answer."""
        if self.task.labels:
            return self._label(where, self.task.answer, row)
        return self._text(where, self.task.answer, row)

    def _item(self, where: str, key: str, entry: dict[str, Any]) -> Item:
        fields = {name: self._text(where, name, entry, blank=True) for name in self.task.fields}
        if not any(value.strip() for value in fields.values()):
            self.fail(where, f"it has no text in {', '.join(fields)}", "leave the item out")
        label = None if self.task.label is None else self._label(where, self.task.label, entry)
        return Item(id=key, fields=fields, label=label, date=date(entry.get("date")))

    def _user(self, where: str, row: dict[str, Any]) -> str | None:
        """Whose row it is; None where it does not say: a table that lacks some users has NaN there."""
        value = row.get("user")
        if value is None or value == "" or value != value:
            return None
        name = identity({"id": _whole(value)})
        if name is None:
            self.fail(
                where, f"its user is {short_repr(value)}, no name and no number", "name the user, or leave it out"
            )
        return name

    def _text(self, where: str, name: str, row: dict[str, Any], blank: bool = False) -> str:
        value = row.get(name)
        if not isinstance(value, str) or not (blank or value.strip()):
            self.fail(where, f"its {name} is {short_repr(value)}, not a text", _has(row))
        return readable(value)

    def _label(self, where: str, name: str, row: dict[str, Any]) -> str:
        value = row.get(name)
        text = str(_whole(value)).strip() if isinstance(value, str | int | float) else ""
        if text not in self.task.labels:
            legal = f"the task has only {', '.join(self.task.labels)}"
            self.fail(where, f"its {name} is {short_repr(value)}, no label of the task", legal)
        return text


def _whole(value: Any) -> Any:
    """4 for 4.0, as tables are written; anything else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _has(row: dict[str, Any]) -> str:
    return f"it has {keys(row)}"
