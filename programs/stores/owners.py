"""Whose the rows of runs are: of the user whom a row names, or else of the one whom its id stands for."""

import json
import re
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import Any

from programs.data.values import row_id
from programs.runs.directory import FAILED, RESULTS, TRANSCRIPTS

_SUBMISSIONS = "submissions"
SUBMITTED = ".submission.json"  # how `predict` ends the name of a benchmark's official file


class Owned:
    """Tells the rows of one user.

    A row that names a user is of that user. Of a row that names none, the id counts: judgements, submissions and failed
    rows of earlier versions are the user's if a measured row of the same run with that id is. In a run whose rows name
    no users, each row is of a user of its own, who is named by the row's id.

    Args:
        user: the user's name.
        files: the JSONL files that will be asked about.

    Attributes:
        naming: those of the files that name the user.
        nameless: runs, and files outside of runs, whose rows name no users.
    """

    def __init__(self, user: str, files: Iterable[Path]):
        self.user = user
        forms = [json.dumps(user), json.dumps(user, ensure_ascii=False), *([user] if user.isdecimal() else [])]
        any_form = b"|".join(re.escape(form.encode(errors="backslashreplace")) for form in forms)
        self._named = re.compile(rb'"user":\s*(?:' + any_form + rb")(?=[\s,}]|$)")
        self._ids: dict[Path, set[str]] = defaultdict(set)  # of the user's measured rows, by run
        self.naming: set[Path] = set()
        with_rows, naming_any = set[Path](), set[Path]()
        for path in files:
            run = _run_of(path)
            for row in _rows(path):
                with_rows.add(run)
                if (name := _user(row)) is not None:
                    naming_any.add(run)
                if name == user:
                    self.naming.add(path)
                    if _is_measured(path) or run == path:
                        self._ids[run].add(str(row_id(row)))
        self.nameless = with_rows - naming_any

    def is_users(self, row: Any, ids: Container[str]) -> bool:
        """Whether a row is the user's; `ids` are those of its file."""
        if not isinstance(row, dict):
            return False
        name = _user(row)
        return row_id(row) in ids if name is None else name == self.user

    def ids(self, path: Path) -> set[str]:
        """The ids by which rows of a file are the user's, where they name no user."""
        run = _run_of(path)
        if path.name.endswith(SUBMITTED):  # of `predict`, whose answers stand beside it
            run = path.with_name(f"{path.name.removesuffix(SUBMITTED)}.jsonl")
        if run in self.nameless:
            return {self.user}
        if path.name.endswith(SUBMITTED):
            return self._ids[run]
        of_measured = _is_measured(path) or path.name == FAILED or path.parent.name == _SUBMISSIONS
        return self._ids[run] if of_measured else set()

    def is_submission(self, path: Path) -> bool:
        """Whether a file has the answers of a program as a benchmark's script takes them."""
        return path.parent.name == _SUBMISSIONS or path.name.endswith(SUBMITTED)

    def names(self, line: bytes) -> bool:
        """Whether a line that is no whole row, since a run was killed while it wrote, names the user."""
        return self._named.search(line) is not None


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open("rb") as file:
            for line in file:
                try:
                    row = json.loads(line)
                except ValueError:  # half a line
                    continue
                if isinstance(row, dict) and "id" in row:
                    yield row
    except OSError:  # which is told when it is to be cleaned
        return


def _user(row: dict[str, Any]) -> str | None:
    return row_id({"id": row.get("user")})


def _is_measured(path: Path) -> bool:
    return not {RESULTS, TRANSCRIPTS}.isdisjoint(part.name for part in path.parents)


def _run_of(path: Path) -> Path:
    """The directory of the run that a file is of, or the file itself."""
    return next((folder for folder in path.parents if _is_run(folder)), path)


def _is_run(folder: Path) -> bool:
    return (folder / "config.json").is_file() and any((folder / name).exists() for name in (".lock", "report.json"))
