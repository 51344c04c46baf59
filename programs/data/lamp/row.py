"""One row of LaMP's files: an example, or everything that is wrong with it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dspy

from programs.data.lamp.row_errors import DUPLICATE, MALFORMED, NEWS, RowError, keys
from programs.tasks.task import Task
from programs.text import short_repr
from r2p_dspy.profile import Item, Profile

# The labels of the task that first was LaMP_2; they tell its files, which are still about, from those of the movies.
_NEWS = "food & drink|sports|education|parents|religion|travel|business|crime|science & technology|culture & arts"
_NEWS += "|entertainment|politics|women|style & beauty|healthy living"
_HALVES = re.compile(r"[\ud800-\udfff]")


def readable(text: str) -> str:
    """A text with halves of characters replaced, which broken JSON has and no model takes.

    Example:
        >>> readable("so\\ud83d it rained")
        'so� it rained'
    """
    return _HALVES.sub("\ufffd", text)


def identity(data: Any) -> str | None:
    """The id of a row, a gold or an item: LaMP writes text, a number will do; None where there is none."""
    name = data.get("id") if isinstance(data, dict) else None
    return None if isinstance(name, bool) or not isinstance(name, str | int) or name == "" else str(name)


def date(data: Any) -> str | None:
    """The date of an item; None for "None" and the like, which some files have where no date is known."""
    text = str(data) if isinstance(data, str | int | float) else ""
    return text if any(map(str.isdigit, text)) else None


@dataclass
class Row:
    """A row of a task's file.

    Args:
        task: says how LaMP's rows become examples.
        file: where the row stands.
        id: its id, or its place in the file where it has none.
        flaws: what is wrong with it.
        example: what it says, where nothing is wrong.
    """

    task: Task
    file: Path
    id: str
    flaws: list[RowError] = field(default_factory=list)
    example: dspy.Example | None = None

    def add(self, where: str, what: str, remedy: str, kind: str = MALFORMED, sign: Any = None) -> None:
        """Note a flaw; `sign` is what may give away that the row is of the old LaMP_2."""
        if self.task.lamp == "LaMP_2" and _of_news(sign):
            kind, remedy = NEWS, "these are news categories, the old LaMP_2; the movies are in the folder LaMP_2/new"
        self.flaws.append(RowError(self.file, self.id, where, what, remedy, kind))

    def read(self, data: dict[str, Any], golds: Sequence[Any] | None, outputs: Path) -> "Row":
        """Read a row of the questions, and its gold.

        Args:
            data: the row.
            golds: the outputs of its id: exactly one in good data; None where golds are not public.
            outputs: the file that they stand in.

        Returns:
            This row, with its example, or with its flaws.
        """
        question, items = self._question(data), self._items(data)
        known: dict[str, Any] = {"id": self.id}
        if golds is not None:
            row = Row(self.task, outputs, self.id)
            known[self.task.answer] = row._gold(golds)
            self.flaws += row.flaws
        user = identity({"id": data.get("user_id")})
        if user is not None:
            known["user"] = user
        if not self.flaws:
            values = {self.task.question: question, self.task.profile: Profile(items=items)}
            self.example = dspy.Example(**known, **values).with_inputs(*values)
        elif old := [flaw for flaw in self.flaws if flaw.kind == NEWS]:
            self.flaws = old[:1]  # which says it all: no text and no label is as it should be
        return self

    def _question(self, data: dict[str, Any]) -> str:
        where, text = f"question {self.id}", data.get("input")
        if not isinstance(text, str) or not text.strip():
            self.add(where, f"its input is {short_repr(text)}, not a text", "mend it")
            return ""
        question = readable(self.task.query(text))
        if question == readable(text.strip()) or not question:
            what = f"its input lacks the task's wording or what follows it: {short_repr(text)}"
            self.add(where, what, f"{self.task.lamp} has {short_repr(self.task.wording('…'), 400)}", sign=data)
        return question

    def _items(self, data: dict[str, Any]) -> list[Item]:
        entries = data.get("profile")
        if not isinstance(entries, list):
            self.add(f"question {self.id}", f"its profile is {short_repr(entries)}, not a list of items", "mend it")
            return []
        items: dict[str, Item | None] = {}
        for number, entry in enumerate(entries, start=1):
            key = identity(entry)
            where = f"question {self.id}, item {number if key is None else key}"
            if key is None:
                self.add(where, f"it has no id: {short_repr(entry)}", "give it one that is its own")
            elif key in items:
                self.add(where, "the id stands twice in the profile", "keep one of the two", DUPLICATE)
            else:
                items[key] = self._item(where, key, entry)
        return [item for item in items.values() if item is not None]

    def _item(self, where: str, key: str, entry: dict[str, Any]) -> Item | None:
        flaws = len(self.flaws)
        fields: dict[str, Any] = {name: entry.get(name) for name in self.task.fields}
        for name, value in fields.items():
            if not isinstance(value, str):
                remedy = f"{self.task.lamp} needs one, and the item has {keys(entry)}"
                self.add(where, f"its {name} is {short_repr(value)}, not a text", remedy, sign=entry)
        if not any(str(value).strip() for value in fields.values()):
            self.add(where, f"it has no text in {', '.join(fields)}", "leave the item out")
        key_of_label = self.task.label
        label = None if key_of_label is None else self._label(where, key_of_label, entry.get(key_of_label))
        if len(self.flaws) > flaws:
            return None
        texts = {name: readable(value) for name, value in fields.items()}
        return Item(id=key, fields=texts, label=label, date=date(entry.get("date")))

    def _gold(self, golds: Sequence[Any]) -> str:
        where = f"gold {self.id}"
        if not golds:
            self.add(f"question {self.id}", f"it has no gold in {self.file.name}", "add it")
            return ""
        if len(golds) > 1:
            self.add(where, "the id stands twice", "keep one of the two", DUPLICATE)
        value = golds[0]
        if self.task.labels:
            return self._label(where, "output", value)
        if not isinstance(value, str) or not value.strip():
            self.add(where, f"its output is {short_repr(value)}, not a text", "mend it")
        return value

    def _label(self, where: str, key: str, value: Any) -> str:
        text = str(value).strip() if isinstance(value, str | int | float) else ""
        if text in self.task.labels:
            return text
        whole = _whole(text)  # "4.0", as some copies of the ratings have it
        if whole in self.task.labels:
            return whole
        legal = f"{self.task.lamp} has only {', '.join(self.task.labels)}"
        self.add(where, f"its {key} is {short_repr(value)}, no label of the task", legal, sign=value)
        return text


def _of_news(sign: Any) -> bool:
    """Whether a row, an item or a label with a flaw is of the LaMP_2 that had news categories."""
    if isinstance(sign, dict):
        return "category" in sign or (isinstance(text := sign.get("input"), str) and "article:" in text)
    return isinstance(sign, str) and sign.strip() in _NEWS.split("|")


def _whole(text: str) -> str:
    try:
        number = float(text)
    except ValueError:
        return text
    return str(int(number)) if number.is_integer() else text
