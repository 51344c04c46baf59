"""Reading the histories of files, to be loaded into a profile store.

rows of users:  {"user": "ada", "profile": [{"id": "m1", "description": "A diver finds …", "tag": "romance"}]}
rows of items:  {"user": "ada", "id": "m1", "description": "A diver finds …", "tag": "romance", "date": "2024-05-01"}
"""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from programs.data.jsonl import is_jsonl, jsonl_files
from programs.data.jsonl_rows import Reader
from programs.data.lamp.rows import read_rows
from programs.data.values import row_id
from programs.predict.input_rows import history, with_profile
from programs.tasks.task import Task
from r2p_dspy.errors import DataError
from r2p_dspy.profile import Item, Profile

_HISTORIES = ("profile", "history")
_QUESTIONS = "_questions.json"


def histories(source: Path, task: Task) -> Iterator[tuple[str, Profile]]:
    """The histories in LaMP's files or in JSONL rows, one after another: the user's name and the items.

    A row of LaMP's without a `user_id`, and a row of users without a `user`, is of a user who is named by the row's id.

    Args:
        source: a folder with LaMP's `*_questions.json`, a file of JSONL rows, or a folder with `train.jsonl`,
            `dev.jsonl` or `test.jsonl`.
        task: the names of an item's texts and label.

    Raises:
        DataError: what cannot be read, with file and row.
    """
    if questions := sorted(source.glob(f"*{_QUESTIONS}")):
        for path in questions:
            yield from _of_lamp(task, source, path.name.removesuffix(_QUESTIONS))
    elif is_jsonl(source):
        for path in [source] if source.is_file() else jsonl_files(source):
            yield from _of_rows(Reader(task, path))
    else:
        raise DataError(
            f"{source} holds no histories: give a folder with LaMP's *{_QUESTIONS}, or a file of JSONL rows"
        )


def _of_lamp(task: Task, folder: Path, split: str) -> Iterator[tuple[str, Profile]]:
    for row in read_rows(task, folder, split, golds=False):
        if row.example is None:
            raise DataError(f"{row.errors[0]}; `python cli.py data check {folder}` lists all flaws")
        yield row.example.get("user") or row.example.id, row.example[task.profile]


def _of_rows(reader: Reader) -> Iterator[tuple[str, Profile]]:
    """Rows of users as they are, and consecutive rows of items of one user as one history."""
    rows = ((f"line {number}", reader.row(f"line {number}", line)) for number, line in reader.lines())
    pieces = (_user_and_items(reader, where, row) for where, row in rows)
    for user, group in groupby(pieces, key=lambda piece: piece[0]):
        for items in _joined(items for _, items in group):
            yield user, Profile(items=items)


def _user_and_items(reader: Reader, where: str, row: dict[str, Any]) -> tuple[str, list[Item]]:
    user = row_id({"id": row.get("user")})
    if any(name in row for name in (reader.task.profile, *_HISTORIES)):
        return user or reader.id_of(row, where), list(history(reader, where, with_profile(reader.task, row)))
    if user is None:
        reader.fail(where, "it names no user", 'a row is {"user": …, "profile": […]} or {"user": …, "id": …, TEXT: …}')
    return user, list(history(reader, where, {reader.task.profile: [row]}))


def _joined(parts: Iterator[list[Item]], most: int = 1000) -> Iterator[list[Item]]:
    """Parts of one history as lists of about so many items, in which no id stands twice."""
    items: dict[str, Item] = {}
    for part in parts:
        if len(items) >= most or any(item.id in items for item in part):
            yield [*items.values()]
            items = {}
        items |= {item.id: item for item in part}
    if items:
        yield [*items.values()]
