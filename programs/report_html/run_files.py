"""What a run's directory holds, as a page needs it: the page can be made again at any time, from these files alone."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from programs.runs.directory import RESULTS, TRANSCRIPTS, Rows, read_json
from programs.transcripts.reading import Transcripts

Row = Mapping[str, Any]  # of `programs.evaluate.runner`, of this or an earlier version


@dataclass(frozen=True)
class Measured:
    """One task of a run: its report, and the rows and transcripts of its programs by the ids of the examples.

    Args:
        report: what `programs.evaluate.report` made.
        rows: by program, in the report's order.
        same: programs that were not asked themselves, because they are another program, by name.
        folder: where their files stand below `results/` and `transcripts/`.
    """

    report: Mapping[str, Any]
    rows: Mapping[str, Mapping[Any, Row]]
    same: Mapping[str, str]
    path: Path
    folder: str = ""

    @cached_property
    def transcripts(self) -> Mapping[str, Transcripts]:
        """The transcripts of the programs that were asked, by name; empty where the run keeps none."""
        folder = self.path / TRANSCRIPTS / self.folder
        return {name: Transcripts(_file(folder, name)) for name in self.rows if name not in self.same}


def measured(path: Path, report: Mapping[str, Any]) -> Iterator[Measured]:
    """The tasks that a run measured."""
    if "programs" in report:
        yield _measured(path, report, "")
    else:
        for name, of_task in report.get("tasks", {}).items():
            if "programs" in of_task:  # of `finetune`; the cells of a sweep have directories of their own
                yield _measured(path, of_task, name)


def is_redacted(path: Path) -> bool:
    """Whether users' texts are to be left out of what is shown of a run."""
    config = path / "config.json"
    return config.exists() and bool(read_json(config).get("redact"))


def _measured(path: Path, report: Mapping[str, Any], folder: str) -> Measured:
    rows: dict[str, Mapping[Any, Row]] = {}
    same: dict[str, str] = {}
    for name in report["programs"]:
        own = {row["id"]: row for row in _rows(path / RESULTS / folder, name)}
        if not own and (other := _stands_for(name, [*rows])) is not None:  # `compile` found the same program again
            own, same[name] = dict(rows[other]), same.get(other, other)
        rows[name] = own
    return Measured(report, rows, same, path, folder)


def _stands_for(name: str, before: Sequence[str]) -> str | None:
    """The program whose rows a compiled or tuned one has, if it has none of its own."""
    earlier = {"compiled": ("tuned", "r2p"), "tuned": ("r2p",)}.get(name, ())
    return next((other for other in earlier if other in before), None)


def _rows(folder: Path, program: str) -> Iterator[dict[str, Any]]:
    file = _file(folder, program)
    if file.exists():
        yield from (row for row in Rows(file) if isinstance(row, dict) and "id" in row)


def _file(folder: Path, program: str) -> Path:
    return folder / f"{program.replace(':', '-')}.jsonl"
