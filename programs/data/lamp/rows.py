"""The rows of a benchmark's files: LaMP's and LongLaMP's questions with golds, LaMP-QA's questions with rubrics."""

from collections.abc import Iterator
from pathlib import Path

from programs.data.lamp import files
from programs.data.lamp.row import LampRow
from programs.data.lamp_qa import rows as lamp_qa
from programs.tasks.task import Task


def read_rows(task: Task, directory: Path, split: str, golds: bool = True) -> Iterator[LampRow]:
    """Read the rows of one split, one at a time; see `files.read_rows`, and `lamp_qa.rows.read_rows`."""
    return (lamp_qa.read_rows if task.by_rubric else files.read_rows)(task, directory, split, golds)


def questions_file(task: Task, directory: Path, split: str) -> Path:
    """The file with the questions of a split, whether it exists or not."""
    return lamp_qa.file_of(task, directory, split) if task.by_rubric else directory / f"{split}_questions.json"


def golds_file(task: Task, directory: Path, split: str) -> Path:
    """The file with what answers to a split are compared with; LaMP-QA's rubrics stand beside their questions."""
    return lamp_qa.file_of(task, directory, split) if task.by_rubric else directory / f"{split}_outputs.json"
