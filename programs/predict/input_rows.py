"""Reading the rows of a JSONL file that `predict` answers, one at a time.

{"id": "7", "description": "A diver finds …", "profile": [{"id": "m1", "description": "…", "tag": "romance"}]}
"""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from programs.data.jsonl_rows import Reader
from programs.data.values import row_id
from programs.tasks.task import Task
from r2p_dspy.errors import DataError
from r2p_dspy.files import digest


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
    reader, seen = Reader(task, source), dict[str, int]()
    with source.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            where, name, fields, fault = f"line {number}", None, dict[str, Any](), None
            try:
                fields = reader.row(where, line)
                name = reader.id_of(fields, where)
                if name in seen:
                    reader.fail(where, f"the id {name} stands in line {seen[name]} too", "keep one of the two")
                if name in skip:
                    reader.fail(where, f"row {name} is left out", "--skip says so")
            except DataError as error:
                fault = _why(source, error)
            if name is not None:
                seen.setdefault(name, number)
            yield InputRow(number, name, fields, fault)


def user_of(row: InputRow) -> str:
    """The user that a row is of; a row that names none is of a user of its own."""
    return row_id({"id": row.fields.get("user")}) or str(row.id)


def arguments(task: Task, source: Path, row: InputRow) -> dict[str, Any]:
    """The arguments that a program is called with for a row; raises `DataError` for a flawed one.

    A row of LaMP's may have the question in LaMP's wording, as `input`.
    """
    if row.fault is not None:
        raise DataError(row.fault)
    fields = row.fields
    if task.lamp and task.question not in fields and isinstance(fields.get("input"), str):
        fields = {**fields, task.question: task.query(fields["input"])}
    try:
        return Reader(task, source).inputs(f"line {row.line}", fields)
    except DataError as error:
        raise DataError(_why(source, error)) from None


def survey(source: Path) -> tuple[int, str]:
    """The number of a file's rows, and sixteen hex digits that change with its contents."""
    if source.exists() and not source.is_file():
        raise DataError(f"{source} is no file; give --input a file of rows")
    try:
        with source.open("rb") as file:
            rows = sum(1 for line in file if line.strip())
        contents = digest(source)
    except OSError as error:
        raise DataError(f"{source} cannot be read ({error.strerror}); give --input a file of rows") from None
    if not rows:
        raise DataError(f'{source} holds no rows; a row is {{"id": …, "profile": […], …}} on a line')
    return rows, contents


def _why(source: Path, error: DataError) -> str:
    return str(error).removeprefix(f"{source}: ")
