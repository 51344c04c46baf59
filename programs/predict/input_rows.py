"""Reading the rows that `predict` answers, one at a time: of a JSONL file, or of a benchmark's own questions.

{"id": "7", "description": "A diver finds …", "profile": [{"id": "m1", "description": "…", "tag": "romance"}]}
"""

import json
from codecs import BOM_UTF8
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from programs.data.jsonl_rows import Reader
from programs.data.lamp.files import LampFile
from programs.data.values import row_id
from programs.tasks.task import Task
from r2p_dspy.errors import DataError
from r2p_dspy.files import digest
from r2p_dspy.profile import Profile

_HISTORY = "history"  # what users call the profile


class InputRow(NamedTuple):
    """A row of the input."""

    line: int  # its number in the file, from 1
    id: str | None  # the row's own
    fields: dict[str, Any]
    fault: str | None = None  # why it cannot be asked


def read(task: Task, source: Path, skip: Collection[str] = ()) -> Iterator[InputRow]:
    """The rows of a file, in order. A flawed row, and one whose id is in `skip`, comes with its fault.

    Examples:
        >>> import tempfile
        >>> from programs.tasks.lamp2 import TASK
        >>> file = Path(tempfile.mkdtemp()) / "rows.jsonl"
        >>> _ = file.write_text('{"id": 7, "description": "A storm.", "profile": []}' + chr(10) + "[]")
        >>> [(row.line, row.id, row.fault) for row in read(TASK, file)]
        [(1, '7', None), (2, None, 'line 2: it is [], not an object; a row is {"id": …, "profile": […], …}')]
    """
    yield from read_lines(task, source, _lines(task, source), skip)


def is_official(task: Task, source: Path) -> bool:
    """Whether an input is a benchmark's own file of questions: a JSON list, and no rows on lines."""
    if not task.shape or source.suffix != ".json" or not source.is_file():
        return False
    with source.open("rb") as file:
        return file.read(64).removeprefix(BOM_UTF8).lstrip().startswith(b"[")


def _lines(task: Task, source: Path) -> Iterator[tuple[int, bytes]]:
    """The rows of the input as JSON, each with the number of its line, or of its place in a list."""
    if is_official(task, source):
        for number, row in enumerate(LampFile(task, source).stream(), start=1):
            yield number, json.dumps(row).encode()
        return
    with source.open("rb") as file:
        yield from enumerate(file, start=1)


class KnownIds:
    """Where the ids of the rows stand that were read before."""

    def __init__(self) -> None:
        self._places = dict[str, str]()

    def place(self, name: str) -> str | None:
        """Where the row of an id stands, in words; None if none was read."""
        return self._places.get(name)

    def add(self, name: str, place: str) -> None:
        """A row with an id stands in a place, unless one with this id stands in another place before it."""
        self._places.setdefault(name, place)


def read_lines(
    task: Task,
    source: Path,
    lines: Iterable[tuple[int, bytes]],
    skip: Collection[str] = (),
    known: KnownIds | None = None,
) -> Iterator[InputRow]:
    """As `read`, of numbered lines of a file; `known` are the ids of the rows before them."""
    reader, known = Reader(task, source), known or KnownIds()
    for number, line in lines:
        if not line.strip():
            continue
        where, name, fields, fault = f"line {number}", None, dict[str, Any](), None
        try:
            fields = reader.row(where, line)
            name = reader.id_of(fields, where)
            if (place := known.place(name)) is not None:
                reader.fail(where, f"the id {name} stands in {place} too", "keep one of the two")
            if name in skip:
                reader.fail(where, f"row {name} is left out", "--skip says so")
        except DataError as error:
            fault = _why(source, error)
        if name is not None:
            known.add(name, where)
        yield InputRow(number, name, fields, fault)


def user_of(row: InputRow) -> str:
    """The user that a row is of; a row that names none is of a user of its own."""
    return named_user(row) or str(row.id)


def arguments(task: Task, source: Path, row: InputRow, stored: bool = False) -> dict[str, Any]:
    """The arguments that a program is called with for a row; raises `DataError` for a flawed one.

    A row may have other names for what the task names: `history` for the profile, an item's `label` for its label, and
    LaMP's rows the question in LaMP's wording, as `input`. Items without an id are numbered, and blank items are left
    out, which the answer's warnings tell. Where histories are `stored`, a row may name its user in place of a profile.
    """
    if row.fault is not None:
        raise DataError(row.fault)
    fields = with_profile(task, row.fields)
    if task.shape and task.question not in fields and isinstance(fields.get("input"), str):
        fields[task.question] = task.query(fields["input"])
    reader, where = Reader(task, source), f"line {row.line}"
    try:
        texts = reader.texts(where, fields)
        if stored and fields.get(task.profile) is None and (user := named_user(row)) is not None:
            return {**texts, "user": user}
        return {**texts, task.profile: history(reader, where, fields)}
    except DataError as error:
        raise DataError(_why(source, error)) from None


def named_user(row: InputRow) -> str | None:
    """The user that a row names, or None."""
    return row_id({"id": row.fields.get("user")})


def with_profile(task: Task, fields: dict[str, Any]) -> dict[str, Any]:
    """A row's fields with its history under the task's name of the profile."""
    if task.profile in fields or _HISTORY not in fields:
        return {**fields}
    return {(task.profile if name == _HISTORY else name): value for name, value in fields.items()}


def history(reader: Reader, where: str, fields: dict[str, Any]) -> Profile:
    """The profile of a row, in the task's names; raises `DataError` for a flawed one."""
    name, dropped = reader.task.profile, 0
    if isinstance(entries := fields.get(name), list):
        items = [_item(reader.task, entry, place) for place, entry in enumerate(entries, start=1)]
        fields = {**fields, name: [item for item in items if item is not None]}
        dropped = items.count(None)
    return reader.profile(where, fields).model_copy(update={"dropped": dropped})


def _item(task: Task, entry: Any, place: int) -> Any:
    """An item in the task's names; None for a blank one. Anything else is left to the reader, which refuses it."""
    if isinstance(entry, str) and len(task.fields) == 1 and task.label is None:
        entry = {task.fields[0]: entry}
    if entry is None:
        return None
    if not isinstance(entry, dict):
        return entry
    entry = {**{name: entry[key] for key, name in task.aliases if key in entry}, **entry}
    texts = {name: "" if entry[name] is None else entry[name] for name in task.fields if name in entry}
    complete = texts.keys() >= {*task.fields}.difference(task.optional)
    if complete and not any(str(text).strip() for text in texts.values()):
        return None
    item = {**entry, **texts}
    if item.get("id") in (None, ""):
        item["id"] = str(place)
    if task.label is not None and task.label not in item and "label" in item:
        item[task.label] = item["label"]
    return item


def survey(task: Task, source: Path) -> tuple[int, str]:
    """The number of a file's rows, and sixteen hex digits that change with its contents."""
    if source.exists() and not source.is_file():
        raise DataError(f"{source} is no file; give --input a file of rows")
    try:
        rows = sum(1 for _, line in _lines(task, source) if line.strip())
        contents = digest(source)
    except OSError as error:
        raise DataError(f"{source} cannot be read ({error.strerror}); give --input a file of rows") from None
    if not rows:
        raise DataError(f'{source} holds no rows; a row is {{"id": …, "profile": […], …}} on a line')
    return rows, contents


def _why(source: Path, error: DataError) -> str:
    return str(error).removeprefix(f"{source}: ")
