"""Find directories with LaMP's files. The golds say which task a directory is of, not its name."""

import json
from pathlib import Path

from programs.data.lamp_qa.rows import file_of
from programs.tasks.task import Task
from r2p_dspy.files import read_bounded

ROOTS = (Path("lamp"), Path("data"))  # where `python cli.py data get` puts files, and where people do
_DEPTHS = ("", "*/", "*/*/")  # LaMP's own folders are up to two deep: LaMP_2/new


def folders(task: Task, *roots: Path) -> list[Path]:
    """The directories with the dev set of a benchmark's task, sorted; the roots and two levels below are searched."""
    if task.by_rubric:
        name = file_of(task, Path(), "dev").name
        return sorted({path.parent for root in roots for depth in _DEPTHS for path in root.glob(f"{depth}{name}")})
    outputs = {path for root in roots for depth in _DEPTHS for path in root.glob(f"{depth}dev_outputs.json")}
    complete = [path for path in sorted(outputs) if path.with_name("dev_questions.json").exists()]
    return [path.parent for path in complete if task.shape and _lamp_name(path) == task.shape]


def _lamp_name(path: Path) -> str | None:
    """The task that an outputs file names; None if it names none."""
    try:
        data = json.loads(read_bounded(path))
    except (OSError, ValueError, RecursionError):
        return None
    return data.get("task") if isinstance(data, dict) else None
