"""One row of LaMP's files: an example, or everything that is wrong with it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dspy

from programs.data.lamp.row_errors import DUPLICATE, MALFORMED, OLD_LAMP_2, RowError, key_names
from programs.data.values import item_date, repair_text, row_id
from programs.tasks.task import Task
from programs.text import short_repr
from r2p_dspy.profile import Item, Profile

# The labels of the task that first had the name LaMP_2. They tell its files, which still circulate, from the movies.
_NEWS = "food & drink|sports|education|parents|religion|travel|business|crime|science & technology|culture & arts"
_NEWS += "|entertainment|politics|women|style & beauty|healthy living"


@dataclass
class LampRow:
    """A row of a task's file."""

    task: Task
    file: Path
    id: str  # or its place in the file if it has none
    errors: list[RowError] = field(default_factory=list)
    example: dspy.Example | None = None  # if nothing is wrong

    def add_error(self, where: str, what: str, remedy: str, kind: str = MALFORMED, clue: Any = None) -> None:
        """Add an error; `clue` is the value that may show that the row is of the old LaMP_2."""
        if self.task.lamp == "LaMP_2" and is_news(clue):
            kind = OLD_LAMP_2
            remedy = "these are news categories, the old LaMP_2; the movies are in the folder LaMP_2/new"
        self.errors.append(RowError(self.file, self.id, where, what, remedy, kind))

    def read(self, data: dict[str, Any], golds: Sequence[Any] | None, outputs: Path) -> None:
        """Read a row of the questions, and its gold: its example or its errors are set.

        Args:
            data: the row.
            golds: the outputs with its id, exactly one in good data; None if the golds are not public.
            outputs: the file of the golds.
        """
        question, items = self._question(data), self.items(data)
        known: dict[str, Any] = {"id": self.id}
        if golds is not None:
            gold = LampRow(self.task, outputs, self.id)
            known[self.task.answer] = gold._gold(golds)
            self.errors += gold.errors
        user = row_id({"id": data.get("user_id")})
        if user is not None:
            known["user"] = user
        if not self.errors:
            values = {self.task.question: question, self.task.profile: Profile(items=items)}
            self.example = dspy.Example(**known, **values).with_inputs(*values)
        elif old := [error for error in self.errors if error.kind == OLD_LAMP_2]:
            self.errors = old[:1]  # the others follow from it

    def _question(self, data: dict[str, Any]) -> str:
        where, text = f"question {self.id}", data.get("input")
        if not isinstance(text, str) or not text.strip():
            self.add_error(where, f"its input is {short_repr(text)}, not a text", "correct it")
            return ""
        question = repair_text(self.task.query(text))
        if (self.task.worded and question == repair_text(text.strip())) or not question:
            what = f"its input lacks the task's wording, or has nothing after it: {short_repr(text)}"
            wording = short_repr(self.task.wording("…"), 400)
            self.add_error(where, what, f"{self.task.shape} has {wording}", clue=data)
        return question

    def items(self, data: dict[str, Any]) -> list[Item]:
        """The items of a row's profile, without those that have an error."""
        entries = data.get("profile")
        if not isinstance(entries, list):
            what = f"its profile is {short_repr(entries)}, not a list of items"
            self.add_error(f"question {self.id}", what, "correct it")
            return []
        items: dict[str, Item | None] = {}
        for number, entry in enumerate(entries, start=1):
            key = row_id(entry)
            where = f"question {self.id}, item {number if key is None else key}"
            if key is None:
                self.add_error(where, f"it has no id: {short_repr(entry)}", "give it a unique id")
            elif key in items:
                self.add_error(where, "the profile has this id twice", "keep one of the two", DUPLICATE)
            else:
                items[key] = self._item(where, key, entry)
        return [item for item in items.values() if item is not None]

    def _item(self, where: str, key: str, entry: dict[str, Any]) -> Item | None:
        errors_before = len(self.errors)
        fields = self.task.item_fields(entry)
        for name, value in fields.items():
            if not isinstance(value, str):
                remedy = f"{self.task.shape} needs one, and the item has {key_names(entry)}"
                self.add_error(where, f"its {name} is {short_repr(value)}, not a text", remedy, clue=entry)
        if not any(str(value).strip() for value in fields.values()):
            self.add_error(where, f"it has no text in {', '.join(fields)}", "leave the item out")
        label_key = self.task.label
        label = None if label_key is None else self._label(where, label_key, entry.get(label_key))
        if len(self.errors) > errors_before:
            return None
        texts = {name: repair_text(value) for name, value in fields.items()}
        return Item(id=key, fields=texts, label=label, date=item_date(entry.get("date")))

    def _gold(self, golds: Sequence[Any]) -> str:
        where = f"gold {self.id}"
        if not golds:
            self.add_error(f"question {self.id}", f"it has no gold in {self.file.name}", "add it")
            return ""
        if len(golds) > 1:
            self.add_error(where, "the file has this id twice", "keep one of the two", DUPLICATE)
        value = golds[0]
        if self.task.labels:
            return self._label(where, "output", value)
        if not isinstance(value, str) or not value.strip():
            self.add_error(where, f"its output is {short_repr(value)}, not a text", "correct it")
        return value

    def _label(self, where: str, key: str, value: Any) -> str:
        text = str(value).strip() if isinstance(value, str | int | float) else ""
        if text in self.task.labels:
            return text
        number = _without_fraction(text)  # some copies of the ratings have "4.0"
        if number in self.task.labels:
            return number
        remedy = f"{self.task.shape} has only {', '.join(self.task.labels)}"
        self.add_error(where, f"its {key} is {short_repr(value)}, not a label of the task", remedy, clue=value)
        return text


def is_news(clue: Any) -> bool:
    """Whether a row, an item or a label is of the LaMP_2 that had news categories."""
    if isinstance(clue, dict):
        return "category" in clue or (isinstance(text := clue.get("input"), str) and "article:" in text)
    return isinstance(clue, str) and clue.strip() in _NEWS.split("|")


def _without_fraction(text: str) -> str:
    """The text "4" for "4.0"; any other text as it is."""
    try:
        number = float(text)
    except ValueError:
        return text
    return str(int(number)) if number.is_integer() else text
