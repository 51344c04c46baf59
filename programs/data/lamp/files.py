"""LaMP's files, row by row: `{split}_questions.json` and `{split}_outputs.json`.

questions: [{"id": "110", "input": "Generate a headline …", "profile": [{"id": "1100", "title": …, "text": …}]}]
outputs:   {"task": "LaMP_4", "golds": [{"id": "110", "output": "Council Approves New Park"}]}
"""

import json
from codecs import BOM_UTF8
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

import ijson

from programs.data.lamp.row import Row, identity
from programs.data.lamp.row_errors import DUPLICATE, UNUSABLE, FlawError, RowError
from programs.tasks.task import Task
from programs.text import short_repr

_DEEPEST = 1000  # brackets more that are opened than closed in one block; LaMP's files have three


def rows(task: Task, directory: Path, split: str, golds: bool = True) -> Iterator[Row]:
    """The rows of one split, one at a time: the questions with their golds, then the golds that have no question.

    Args:
        task: says how LaMP's rows become examples.
        directory: holds the split's two files.
        split: "train" or "dev", or what else the files' names begin with.
        golds: whether the split has outputs, which LaMP's test set has not.

    Returns:
        Rows, each with an example or with flaws. Of the questions no more than one row is in memory.

    Raises:
        FlawError: for a file that is of no use as a whole: missing, truncated, empty, or another task's.
    """
    questions, outputs = (File(task, directory / f"{split}_{kind}.json") for kind in ("questions", "outputs"))
    known: dict[str, list[Any]] = {}
    for number, data in enumerate(outputs.golds() if golds else (), start=1):
        name = identity(data)
        if name is None:
            yield outputs.nameless(f"gold {number}", data)
        else:
            known.setdefault(name, []).append(data.get("output"))
    asked: set[str] = set()
    number = 0
    for number, data in enumerate(questions.stream(), start=1):
        name = identity(data)
        if name is None:
            yield questions.nameless(f"row {number}", data)
            continue
        row = Row(task, questions.path, name)
        if name in asked:
            row.add(f"question {name}", "the id stands twice", "keep one of the two", DUPLICATE)
        else:
            asked.add(name)
            row.read(data, known.get(name, ()) if golds else None, outputs.path)
        yield row
    if not number:
        questions.fail("the file", "it holds no questions", "LaMP's is a list of {id, input, profile}")
    for name in known:
        if name not in asked:
            row = Row(task, outputs.path, name)
            row.add(f"gold {name}", f"it has no question in {questions.path.name}", "take both from the same download")
            yield row


@dataclass(frozen=True)
class File:
    """One file of a task, and how to say that it is of no use."""

    task: Task
    path: Path

    def stream(self) -> Iterator[Any]:
        """The rows of the file's list, one at a time."""
        try:
            with self.path.open("rb") as stream:
                if stream.read(len(BOM_UTF8)) != BOM_UTF8:  # as some editors begin a file
                    stream.seek(0)
                yield from ijson.items(_Shallow(stream), "item", use_float=True)
        except OSError as error:
            self._unreadable(error)
        except (ijson.JSONError, UnicodeDecodeError) as error:
            self._broken(error)

    def golds(self) -> list[Any]:
        """The rows of the golds."""
        data = self.read()
        if not isinstance(data, dict) or not isinstance(data.get("golds"), list):
            self.fail("the file", "it holds no golds", 'LaMP\'s is {"task": …, "golds": [{"id": …, "output": …}]}')
        if data.get("task") != self.task.lamp:
            remedy = f"name the directory of {self.task.lamp}, or the task that these files are of"
            self.fail("task", f"the golds are of {short_repr(data.get('task'))}, not of {self.task.lamp}", remedy)
        if not data["golds"]:
            self.fail("golds", "the list is empty", "take the split whose golds are public")
        return data["golds"]

    def read(self) -> Any:
        """The file's JSON as a whole."""
        try:
            return json.loads(self.path.read_bytes())
        except OSError as error:
            self._unreadable(error)
        except (ValueError, RecursionError) as error:
            self._broken(error)

    def nameless(self, where: str, data: Any) -> Row:
        """The row that a row without an id comes to."""
        row = Row(self.task, self.path, where)
        row.add(where, f"it has no id: {short_repr(data)}", "give it one that is its own")
        return row

    def fail(self, where: str, what: str, remedy: str) -> NoReturn:
        """Refuse the file as a whole."""
        raise FlawError(RowError(self.path, "", where, what, remedy, UNUSABLE))

    def _unreadable(self, error: OSError) -> NoReturn:
        remedy = f"put {self.task.lamp}'s there, or name another directory"
        self.fail("the file", f"it cannot be read ({error.strerror})", remedy)

    def _broken(self, error: Exception) -> NoReturn:
        reason = " ".join(str(error).split())
        self.fail("the file", f"it is no whole JSON ({reason[:120]})", "it may be cut short: download it again")


@dataclass(frozen=True)
class _Shallow:
    """A stream that stops at a heap of brackets: ijson keeps the way to where it is, and that would take all memory."""

    stream: IO[bytes]

    def read(self, size: int) -> bytes:
        block = self.stream.read(size)
        for opening, closing in (b"[]", b"{}"):
            if block.count(opening) - block.count(closing) > _DEEPEST:
                raise ijson.JSONError("brackets in brackets in brackets")
        return block
