"""A user's own data as DSPy examples: JSONL, one row a line, in the task's own names.

{"id": "m1", "mail": "Hi all, …", "profile": [{"id": "e1", "subject": "…", "text": "…"}], "subject": "…", "user": "ada"}
"""

import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import dspy

from programs.data import Data
from programs.lamp.flaws import DataError, Flaw, FlawError, refusal, shown
from programs.splits import check_apart, split, users
from programs.stored import in_memory, stored
from programs.task import Task
from r2p_dspy.profile import Item, Profile

_MOST = 60  # examples to train on, and to choose by
_TEST_SHARE = 0.25  # of one file
_SPLITS = ("train", "dev", "test")


def is_jsonl(path: Path) -> bool:
    """Whether it is a file, or a directory with one that is named as a split."""
    return path.is_file() or any((path / f"{name}.jsonl").exists() for name in _SPLITS)


def jsonl(
    task: Task,
    path: Path,
    *,
    seed: int,
    limit: int | None,
    compiling: bool,
    skip: Collection[str] = (),
    skip_bad: bool = False,
    most: int = _MOST,
) -> Data:
    """A user's own rows, from one file or from a directory.

    One file is split by user: a quarter is reported, of the rest one half is to train on and one to choose by. Of a
    directory `test.jsonl` is reported, and where it has none `dev.jsonl`, as with LaMP; `train.jsonl` is split where no
    file is left to choose by.

    Args:
        task: whose data it is.
        path: of the file, or of the directory.
        seed: of the split.
        limit: how many examples of each set at most.
        compiling: whether there must be something to train on.
        skip: ids of rows to leave out.
        skip_bad: leave flawed rows out, and say which.
        most: how many examples to train on at most, as of `data.lamp`.

    Raises:
        DataError: for a missing file, rows that are at fault, rows of one user alone where they are to be split, a
            question that stands on both sides.
    """
    skipped: dict[str, list[str]] = {}

    def rows(file: Path) -> list[dspy.Example]:
        flawed: list[Flaw] = []
        examples = stored(read(task, file, skip=skip, left_out=flawed.append if skip_bad else None))
        if flawed:
            skipped[file.stem] = [flaw.id for flaw in flawed]
        return examples

    if path.is_file():
        train, test = _split(path, rows(path), seed, _TEST_SHARE)
        files: dict[str, list[dspy.Example]] = {"train": train, "test": test}
    else:
        present = [path / f"{name}.jsonl" for name in _SPLITS if (path / f"{name}.jsonl").exists()]
        files = {file.stem: rows(file) for file in present}
    reported = "test" if "test" in files else "dev"
    if reported not in files or (compiling and "train" not in files):
        needed = f"dev.jsonl or test.jsonl{', and train.jsonl' if compiling else ''}"
        raise DataError(f"{path}: it is no file of rows, and no directory with {needed}; docs/your-task.md shows both")
    train, test = files.get("train", []), files[reported]
    dev = files.get("dev", []) if reported == "test" else []
    shared = check_apart([*train, *dev], test)
    if dev:
        check_apart(train, dev)
    elif compiling or len(set(users(train))) > 1:
        train, dev = _split(path, train, seed, 0.5 if most <= _MOST else min(0.5, _MOST / max(len(train), 1)))
    few = _MOST if limit is None else min(_MOST, max(limit, 10))
    train = train[:most] if most > _MOST else in_memory(train[:few])
    return Data(train, in_memory(dev[:few]), test[:limit], str(path), reported, shared, skipped)


def load(
    task: Task, file: Path, *, skip: Collection[str] = (), left_out: Callable[[Flaw], None] | None = None
) -> list[dspy.Example]:
    """The examples of one file.

    Args:
        task: says what a row and an item have.
        file: one JSON object a line; blank lines are passed over.
        skip: ids of rows to leave out.
        left_out: is told the flaw of each flawed row, which is left out; None refuses the file for one.

    Returns:
        Examples in the file's order, as of `lamp_data.load`: inputs, profile (of every item its id, the task's text
        fields, date and label), the answer as a string, the row's `id`, and `user`, where the row has one.

    Raises:
        DataError: for a file that cannot be read, a line that is no JSON object, duplicate ids, a row without one of
            the inputs, without profile or without answer, an item without one of the task's fields or with no text in
            them, a label that the task does not have.

    Example:
        >>> import tempfile
        >>> from programs.lamp4 import TASK
        >>> row = {"id": "1", "article": "It rained.", "profile": [{"id": "a", "title": "Wet", "text": "Rain in May."}]}
        >>> file = Path(tempfile.mkdtemp()) / "rows.jsonl"
        >>> _ = file.write_text(json.dumps({**row, "headline": "Rain Again"}))
        >>> load(TASK, file)[0].headline
        'Rain Again'
    """
    return list(read(task, file, skip=skip, left_out=left_out))


def read(
    task: Task, file: Path, *, skip: Collection[str] = (), left_out: Callable[[Flaw], None] | None = None
) -> Iterator[dspy.Example]:
    """As `load`, one example after another; that rows are flawed is said behind the last one."""
    reader = Reader(task, file)
    seen: set[str] = set()
    flawed: list[Flaw] = []
    for number, line in reader.lines():
        try:
            row = reader.row(f"line {number}", line)
            name = reader.id_of(row, f"line {number}")
            where = f"line {number}, row {name}"
            if name in skip:
                continue
            if name in seen:
                reader.fail(where, "the id stands twice", "keep one of the two", name)
            example = reader.example(where, name, row)
        except FlawError as error:
            (flawed.append if left_out is None else left_out)(error.flaw)
        else:
            seen.add(name)
            yield example
    if flawed:
        raise DataError(refusal(file, flawed, ""))
    if not seen:
        reader.fail("the file", "it holds no rows" + " but skipped ones" * bool(skip or left_out), "give one a line")


@dataclass(frozen=True)
class Reader:
    """One file of rows, and how to say what is wrong in it."""

    task: Task
    file: Path

    def fail(self, where: str, what: str, remedy: str, name: str = "") -> NoReturn:
        """Refuse a row, or the file."""
        raise FlawError(Flaw(self.file, name or where.partition(", item")[0], where, what, remedy))

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
            self.fail(where, f"it is {shown(row)}, not an object", 'a row is {"id": …, "profile": […], …}')
        return row

    def id_of(self, row: Any, where: str) -> str:
        """The id of a row or an item: a text, or a number."""
        name = row.get("id") if isinstance(row, dict) else None
        if isinstance(name, bool) or not isinstance(name, str | int) or name == "":
            self.fail(where, f"it has no id: {shown(row)}", "give it one that is its own")
        return str(name)

    def example(self, where: str, name: str, row: dict[str, Any]) -> dspy.Example:
        """A row as an example."""
        inputs = self.inputs(where, row)
        known = {"id": name, self.task.answer: self.answer(where, row)}
        if row.get("user") is not None:
            known["user"] = str(row["user"])
        return dspy.Example(**known, **inputs).with_inputs(*inputs)

    def inputs(self, where: str, row: dict[str, Any]) -> dict[str, Any]:
        """What a program is called with."""
        texts = {name: self._text(where, name, row) for name in self.task.inputs}
        entries = row.get(self.task.profile)
        if not isinstance(entries, list):
            self.fail(where, f"its {self.task.profile} is {shown(entries)}, not a list of items", _has(row))
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
        date = str(entry.get("date"))
        known = any(map(str.isdigit, date))  # "None" and the like are no dates
        return Item(id=key, fields=fields, label=label, date=date if known else None)

    def _text(self, where: str, name: str, row: dict[str, Any], blank: bool = False) -> str:
        value = row.get(name)
        if not isinstance(value, str) or not (blank or value.strip()):
            self.fail(where, f"its {name} is {shown(value)}, not a text", _has(row))
        return value

    def _label(self, where: str, name: str, row: dict[str, Any]) -> str:
        value = row.get(name)
        whole = int(value) if isinstance(value, float) and value.is_integer() else value  # 4.0, as tables are written
        text = "" if value is None else str(whole).strip()
        if text not in self.task.labels:
            legal = f"the task has only {', '.join(self.task.labels)}"
            self.fail(where, f"its {name} is {shown(value)}, no label of the task", legal)
        return text


def _split(
    path: Path, examples: list[dspy.Example], seed: int, share: float
) -> tuple[list[dspy.Example], list[dspy.Example]]:
    try:
        return split(examples, seed, share)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None


def _has(row: dict[str, Any]) -> str:
    return f"it has {', '.join(map(str, row))}"
