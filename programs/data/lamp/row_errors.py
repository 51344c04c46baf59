"""What can be wrong with data, and how that is said: in one line, whatever stands in the data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from programs.text import one_line, truncate
from r2p_dspy.errors import DataError

# What sorts of flaws there are: those of a file, those of a row, and what only a look at all rows can tell.
UNUSABLE = "file of no use"
MALFORMED, DUPLICATE, NEWS = "malformed", "id given twice", "of the old LaMP_2"
LEAK, DATE, SHARED, REPEATED = "gold in the profile", "date missing", "user in two splits", "question in two splits"

_NAMED = 3  # so many flawed rows an error names
_LONGEST = 200  # characters of an id or of a row's keys that are shown


@dataclass(frozen=True)
class RowError:
    """Something that is wrong with a row, or with a file.

    Args:
        file: where it stands.
        id: the row's id, its place in the file where it has none; empty for the file as a whole.
        where: the row, or what of it is wrong.
        what: what is wrong.
        remedy: what to do.
        kind: which sort of flaw it is, to count by.
        note: whether it only is something to know.

    Example:
        >>> print(RowError(Path("dev_questions.json"), "110", "question 110", "its input is None", "mend it"))
        dev_questions.json: question 110: its input is None; mend it
    """

    file: Path
    id: str
    where: str
    what: str
    remedy: str
    kind: str = MALFORMED
    note: bool = False

    def __str__(self) -> str:
        return one_line(f"{self.file}: {'note: ' if self.note else ''}{self.brief}; {self.remedy}")

    @property
    def brief(self) -> str:
        """The flaw without its file and remedy."""
        return one_line(f"{truncate(self.where, _LONGEST)}: {self.what}")


class FlawError(DataError):
    """A flaw that whoever reads on must deal with, such as a file that is of no use as a whole."""

    def __init__(self, flaw: RowError):
        super().__init__(str(flaw))
        self.flaw = flaw


def refusal(files: Path, flawed: Sequence[RowError], every: str) -> str:
    """What is said of the flawed rows of a file: how many, the first few, and where to see them all.

    Args:
        files: where they stand.
        flawed: at least one.
        every: how to see every flaw; "" where there is no way but to mend these.
    """
    if len(flawed) == 1:
        return f"{flawed[0]}; --skip-bad leaves it out"
    few = "; ".join(flaw.brief for flaw in flawed[:_NAMED])
    more = "; …" if len(flawed) > _NAMED else ""
    if len({flaw.remedy for flaw in flawed}) == 1:
        more += f"; {flawed[0].remedy}"
    return one_line(f"{files}: {len(flawed)} flawed rows: {few}{more}; {every}--skip-bad leaves these rows out")


def keys(row: Mapping[str, Any]) -> str:
    """What an object has, by name, shortened."""
    return truncate(", ".join(row), _LONGEST)
