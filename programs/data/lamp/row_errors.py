"""What can be wrong with a row of data, and the one line that says so, whatever characters the data has."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from programs.text import one_line, truncate
from r2p_dspy.errors import DataError

# The kinds of errors: of a file, of a row, and those that only a look at all rows can tell.
UNUSABLE = "unusable file"
MALFORMED, DUPLICATE, OLD_LAMP_2 = "malformed", "duplicate id", "old LaMP_2"
LEAK, DATE, SHARED, REPEATED = "gold in the profile", "date missing", "user in two splits", "question in two splits"

_NAMED = 3  # flawed rows that an error names
_LONGEST = 200  # characters that are shown of an id or of a row's keys


@dataclass(frozen=True)
class RowError:
    """An error in a row, or in a file as a whole.

    Examples:
        >>> print(RowError(Path("dev_questions.json"), "110", "question 110", "its input is None", "correct it"))
        dev_questions.json: question 110: its input is None; correct it
    """

    file: Path
    id: str  # or the row's place in the file if it has none; empty for the file as a whole
    where: str  # the row, or the part of it, that is wrong
    what: str
    remedy: str
    kind: str = MALFORMED
    note: bool = False  # whether this is only worth knowing, and not wrong

    def __str__(self) -> str:
        return one_line(f"{self.file}: {'note: ' if self.note else ''}{self.brief}; {self.remedy}")

    @property
    def brief(self) -> str:
        """The error without its file and remedy."""
        return one_line(f"{truncate(self.where, _LONGEST)}: {self.what}")


class InvalidDataError(DataError):
    """A row or a file that cannot be used; `row_error` has the parts of the message."""

    def __init__(self, row_error: RowError):
        super().__init__(str(row_error))
        self.row_error = row_error


def summarize(files: Path, errors: Sequence[RowError], advice: str = "") -> str:
    """One line about the flawed rows of a file, from one error of each: their number, the first few, what to do."""
    if len(errors) == 1:
        return f"{errors[0]}; --skip-bad leaves it out"
    few = "; ".join(error.brief for error in errors[:_NAMED])
    more = "; …" if len(errors) > _NAMED else ""
    if len({error.remedy for error in errors}) == 1:
        more += f"; {errors[0].remedy}"
    return one_line(f"{files}: {len(errors)} flawed rows: {few}{more}; {advice}--skip-bad leaves these rows out")


def key_names(row: Mapping[str, Any]) -> str:
    """The names of an object's keys, shortened."""
    return truncate(", ".join(row), _LONGEST)
