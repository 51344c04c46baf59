"""LaMP's own files as DSPy examples: `{split}_questions.json` and `{split}_outputs.json`.

questions: [{"id": "110", "input": "Generate a headline …", "profile": [{"id": "1100", "title": …, "text": …}]}]
outputs:   {"task": "LaMP_4", "golds": [{"id": "110", "output": "Council Approves New Park"}]}
"""

import json
from codecs import BOM_UTF8
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import dspy
import ijson

from programs.task import Task
from r2p_dspy.profile import Item, Profile

# The labels of the task that first was LaMP_2; they tell its files, which are still about, from those of the movies.
_NEWS = "food & drink|sports|education|parents|religion|travel|business|crime|science & technology|culture & arts"
_NEWS += "|entertainment|politics|women|style & beauty|healthy living"


class DataError(ValueError):
    """A data file that cannot be used; one line says which, where in it, and what to do."""


def load(
    task: Task, directory: Path | str, split: str, *, limit: int | None = None, skip: Collection[str] = ()
) -> list[dspy.Example]:
    """The examples of one split of a LaMP task.

    The questions are read as a stream, so that a `limit` reads no more than it needs.

    Args:
        task: says how LaMP's rows become examples.
        directory: holds `{split}_questions.json` and `{split}_outputs.json`.
        split: "train" or "dev", or what else the files' names begin with.
        limit: how many examples at most, at least 1; with it, what stands behind in the file is not checked.
        skip: ids of rows to leave out, for files with known flaws (row 110 of LaMP-2's dev set).

    Returns:
        Examples in the file's order, with the task's question, its profile (of every item its id, the task's text
        fields, date and label; anything else is left out), the gold as a string under the task's answer, the row's
        `id`, and `user`, where the row has a `user_id`. Question and profile are marked as inputs. Whole numbers
        written as "4.0" are read as the label "4" where that is one.

    Raises:
        DataError: for a missing, truncated or otherwise invalid file, another task's, an empty one, duplicate ids, a
            question without gold or a gold without question, an input without the task's wording, an item without
            text, a label that the task does not have.
        ValueError: for a limit below 1.

    Example:
        >>> import json, tempfile
        >>> from programs.lamp4 import TASK
        >>> item = {"id": "a", "title": "Wet", "text": "Rain in May."}
        >>> rows = [{"id": "1", "input": TASK.wording("It rained."), "profile": [item]}]
        >>> golds = {"task": "LaMP_4", "golds": [{"id": "1", "output": "Rain Again"}]}
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "dev_questions.json").write_text(json.dumps(rows))
        >>> _ = (folder / "dev_outputs.json").write_text(json.dumps(golds))
        >>> load(TASK, folder, "dev")[0].headline
        'Rain Again'
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit is how many examples to load, at least 1, not {limit}")
    directory = Path(directory)
    if not directory.is_dir():
        raise DataError(f"{directory}: there is no such directory; name the one with {task.lamp}'s files")
    outputs = _Reader(task, directory / f"{split}_outputs.json")
    golds = outputs.golds(skip)
    questions = _Reader(task, directory / f"{split}_questions.json")
    examples: dict[str, dspy.Example] = {}
    rows = 0
    for rows, row in enumerate(questions.stream(), start=1):
        name = questions.id_of(row, f"row {rows}")
        if name in skip:
            continue
        if name in examples:
            questions.fail(f"question {name}", "the id stands twice", "keep one of the two")
        if name not in golds:
            questions.fail(f"question {name}", f"it has no gold in {outputs.file.name}", "add it, or give --skip")
        examples[name] = questions.example(name, row, golds[name])
        if len(examples) == limit:
            break
    if not rows:
        questions.fail("the file", "it holds no questions", "LaMP's is a list of {id, input, profile}")
    if not examples:
        questions.fail("the file", "all its questions are skipped", "skip fewer")
    unasked = [] if limit else [name for name in golds if name not in examples]
    if unasked:
        what = f"it has no question in {questions.file.name} ({len(unasked)} such golds)"
        outputs.fail(f"gold {unasked[0]}", what, "take both files from the same download")
    return list(examples.values())


@dataclass(frozen=True)
class _Reader:
    """One file of a task, and how to say what is wrong in it."""

    task: Task
    file: Path

    def fail(self, where: str, what: str, remedy: str) -> NoReturn:
        raise DataError(" ".join(f"{self.file}: {where}: {what}; {remedy}".splitlines()))

    def stream(self) -> Iterator[Any]:
        """The rows of the file's list, one at a time."""
        try:
            with self.file.open("rb") as stream:
                if stream.read(len(BOM_UTF8)) != BOM_UTF8:  # as some editors begin a file
                    stream.seek(0)
                yield from ijson.items(stream, "item", use_float=True)
        except OSError as error:
            self._unreadable(error)
        except (ijson.JSONError, UnicodeDecodeError) as error:
            self._broken(error)

    def golds(self, skip: Collection[str]) -> dict[str, str]:
        """The right answers by id."""
        try:
            data = json.loads(self.file.read_bytes())
        except OSError as error:
            self._unreadable(error)
        except (ValueError, RecursionError) as error:
            self._broken(error)
        if not isinstance(data, dict) or not isinstance(data.get("golds"), list):
            self.fail("the file", "it holds no golds", 'LaMP\'s is {"task": …, "golds": [{"id": …, "output": …}]}')
        if data.get("task") != self.task.lamp:
            remedy = f"name the directory of {self.task.lamp}, or the task that these files are of"
            self.fail("task", f"the golds are of {_show(data.get('task'))}, not of {self.task.lamp}", remedy)
        if not data["golds"]:
            self.fail("golds", "the list is empty", "take the split whose golds are public")
        found: dict[str, str] = {}
        for number, row in enumerate(data["golds"], start=1):
            name = self.id_of(row, f"gold {number}")
            if name in found:
                self.fail(f"gold {name}", "the id stands twice", "keep one of the two")
            if name not in skip:
                found[name] = self._gold(name, row.get("output"))
        return found

    def id_of(self, row: Any, where: str) -> str:
        """A row's id; LaMP writes text, a number will do."""
        name = row.get("id") if isinstance(row, dict) else None
        if isinstance(name, bool) or not isinstance(name, str | int) or name == "":
            self.fail(where, f"it has no id: {_show(row)}", "give it one that is its own")
        return str(name)

    def example(self, name: str, row: dict[str, Any], gold: str) -> dspy.Example:
        """A row of the questions and its gold as an example."""
        where = f"question {name}"
        text = row.get("input")
        if not isinstance(text, str) or not text.strip():
            self.fail(where, f"its input is {_show(text)}, not a text", "mend it, or give --skip")
        question = self.task.query(text)
        if question == text.strip() or not question:
            what = f"its input lacks the task's wording or what follows it: {_show(text)}"
            self.fail(where, what, f"{self.task.lamp} has {_show(self.task.wording('…'), 400)}" + self._hint(row))
        rows = row.get("profile")
        if not isinstance(rows, list):
            self.fail(where, f"its profile is {_show(rows)}, not a list of items", "mend it, or give --skip")
        items: dict[str, Item] = {}
        for number, entry in enumerate(rows, start=1):
            key = self.id_of(entry, f"{where}, item {number}")
            if key in items:
                self.fail(f"{where}, item {key}", "the id stands twice in the profile", "keep one of the two")
            items[key] = self._item(f"{where}, item {key}", key, entry)
        values = {self.task.question: question, self.task.profile: Profile(items=list(items.values()))}
        known = {"id": name, self.task.answer: gold} | ({"user": str(row["user_id"])} if "user_id" in row else {})
        return dspy.Example(**known, **values).with_inputs(*values)

    def _item(self, where: str, key: str, entry: dict[str, Any]) -> Item:
        fields: dict[str, str] = {}
        for name in self.task.fields:
            value = entry.get(name)
            if not isinstance(value, str):
                remedy = f"{self.task.lamp} needs one, and the item has {', '.join(entry)}"
                self.fail(where, f"its {name} is {_show(value)}, not a text", remedy + self._hint(entry))
            fields[name] = value
        if not any(value.strip() for value in fields.values()):
            self.fail(where, f"it has no text in {', '.join(fields)}", "leave the item out")
        label = None
        if self.task.label is not None:
            label = self._label(where, self.task.label, entry.get(self.task.label))
        date = entry.get("date")
        return Item(id=key, fields=fields, label=label, date=None if date is None else str(date))

    def _gold(self, name: str, value: Any) -> str:
        if self.task.labels:
            return self._label(f"gold {name}", "output", value)
        if isinstance(value, str) and value.strip():
            return value
        self.fail(f"gold {name}", f"its output is {_show(value)}, not a text", "mend it, or give --skip")

    def _label(self, where: str, key: str, value: Any) -> str:
        text = "" if value is None else str(value).strip()
        if text in self.task.labels:
            return text
        whole = _whole(text)  # "4.0", as some copies of the ratings have it
        if whole in self.task.labels:
            return whole
        legal = f"{self.task.lamp} has only {', '.join(self.task.labels)}"
        self.fail(where, f"its {key} is {_show(value)}, no label of the task", legal + self._hint(value))

    def _hint(self, found: Any) -> str:
        """What to add where a row, an item or a label gives away the old LaMP_2."""
        if isinstance(found, dict):
            old = "category" in found or "article:" in str(found.get("input"))
        else:
            old = str(found).strip() in _NEWS.split("|")
        if self.task.lamp != "LaMP_2" or not old:
            return ""
        return "; this is the old LaMP_2 of news categories, the movies are in the folder LaMP_2/new"

    def _unreadable(self, error: OSError) -> NoReturn:
        remedy = f"put {self.task.lamp}'s there, or name another directory"
        self.fail("the file", f"it cannot be read ({error.strerror})", remedy)

    def _broken(self, error: Exception) -> NoReturn:
        reason = " ".join(str(error).split())
        self.fail("the file", f"it is no whole JSON ({reason[:120]})", "it may be cut short: download it again")


def _whole(text: str) -> str | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return str(int(number)) if number.is_integer() else None


def _show(value: Any, most: int = 60) -> str:
    """A value on one line, shortened."""
    shown = repr(value)
    return shown if len(shown) <= most else f"{shown[:most]}…"
