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

from programs.data.lamp.row import LampRow
from programs.data.lamp.row_errors import DUPLICATE, UNUSABLE, InvalidDataError, RowError
from programs.data.values import row_id
from programs.tasks.task import Task
from programs.text import short_repr
from r2p_dspy.files import read_bounded

_MAX_DEPTH = 1000  # brackets that a block may open and not close; LaMP's files have three


def read_rows(task: Task, directory: Path, split: str, golds: bool = True) -> Iterator[LampRow]:
    """Read the rows of one split, one at a time: the questions with their golds, then the golds without a question.

    Each row has an example or errors. A file that cannot be used as a whole is an InvalidDataError: it is missing,
    truncated, empty, or another task's. Without `golds`, the split has no outputs, as LaMP's test set has none.
    """
    questions, outputs = (LampFile(task, directory / f"{split}_{kind}.json") for kind in ("questions", "outputs"))
    known: dict[str, list[Any]] = {}
    for number, data in enumerate(outputs.golds() if golds else (), start=1):
        name = row_id(data)
        if name is None:
            yield outputs.row_without_id(f"gold {number}", data)
        else:
            known.setdefault(name, []).append(data.get("output"))
    seen: set[str] = set()
    for row, data in questions.questions("LaMP's is a list of {id, input, profile}"):
        if data is not None:
            seen.add(row.id)
            row.read(data, known.get(row.id, ()) if golds else None, outputs.path)
        yield row
    for name in known:
        if name not in seen:
            row = LampRow(task, outputs.path, name)
            remedy = "take both files from the same download"
            row.add_error(f"gold {name}", f"it has no question in {questions.path.name}", remedy)
            yield row


@dataclass(frozen=True)
class LampFile:
    """One file of a task. Its methods raise InvalidDataError if the file cannot be used."""

    task: Task
    path: Path

    def stream(self) -> Iterator[Any]:
        """The rows of the file's list, one at a time."""
        try:
            with self.path.open("rb") as stream:
                if stream.read(len(BOM_UTF8)) != BOM_UTF8:  # some editors begin a file with it
                    stream.seek(0)
                yield from ijson.items(_DepthLimited(stream), "item", use_float=True)
        except OSError as error:
            self._fail_unreadable(error)
        except (ijson.JSONError, UnicodeDecodeError) as error:
            self._fail_invalid(error)

    def questions(self, wanted: str) -> Iterator[tuple[LampRow, Any]]:
        """The rows of the questions, each with what is to be read.

        That is None for a row that has an error already: it has no id, or one that was there before. `wanted` says
        what a file without rows should hold.
        """
        seen: set[str] = set()
        number = 0
        for number, data in enumerate(self.stream(), start=1):
            name = row_id(data)
            if name is None:
                yield self.row_without_id(f"row {number}", data), None
                continue
            row = LampRow(self.task, self.path, name)
            if name in seen:
                row.add_error(f"question {name}", "the file has this id twice", "keep one of the two", DUPLICATE)
            yield row, None if name in seen else data
            seen.add(name)
        if not number:
            self.fail("the file", "it has no questions", wanted)

    def golds(self) -> list[Any]:
        """The rows of the golds."""
        data = self.read()
        if not isinstance(data, dict) or not isinstance(data.get("golds"), list):
            self.fail("the file", "it has no golds", 'LaMP\'s is {"task": …, "golds": [{"id": …, "output": …}]}')
        if data.get("task") != self.task.shape:
            remedy = f"name the directory of {self.task.shape}, or the task of these files"
            self.fail("task", f"the golds are of {short_repr(data.get('task'))}, not of {self.task.shape}", remedy)
        if not data["golds"]:
            self.fail("golds", "the list is empty", "take a split with public golds")
        return data["golds"]

    def read(self) -> Any:
        """The file's JSON as a whole."""
        try:
            return json.loads(read_bounded(self.path))
        except OSError as error:
            self._fail_unreadable(error)
        except (ValueError, RecursionError) as error:
            self._fail_invalid(error)

    def row_without_id(self, where: str, data: Any) -> LampRow:
        """A row that has the error that it has no id."""
        row = LampRow(self.task, self.path, where)
        row.add_error(where, f"it has no id: {short_repr(data)}", "give it a unique id")
        return row

    def fail(self, where: str, what: str, remedy: str) -> NoReturn:
        """Refuse the file as a whole."""
        raise InvalidDataError(RowError(self.path, "", where, what, remedy, UNUSABLE))

    def _fail_unreadable(self, error: OSError) -> NoReturn:
        remedy = f"put {self.task.shape}'s there, or name another directory"
        self.fail("the file", f"it cannot be read ({error.strerror})", remedy)

    def _fail_invalid(self, error: Exception) -> NoReturn:
        reason = " ".join(str(error).split())
        self.fail("the file", f"it is not valid JSON ({reason[:120]})", "it may be truncated: download it again")


@dataclass(frozen=True)
class _DepthLimited:
    """A stream that stops at deep nesting: ijson keeps the path to where it is, which would take all memory."""

    stream: IO[bytes]

    def read(self, size: int) -> bytes:
        block = self.stream.read(size)
        for opening, closing in (b"[]", b"{}"):
            if block.count(opening) - block.count(closing) > _MAX_DEPTH:
                raise ijson.JSONError("too many nested brackets")
        return block
