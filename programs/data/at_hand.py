"""LaMP's files that lie about: what a directory holds is told by its golds, not by its name."""

import json
from pathlib import Path

from programs.tasks.task import Task

ROOTS = (Path("lamp"), Path("data"))  # where `python cli.py data get` puts them, and where people do
_DEPTHS = ("", "*/", "*/*/")  # LaMP's own folders go as deep as LaMP_2/new


def folders(task: Task, *roots: Path) -> list[Path]:
    """The directories with the dev set of a task of LaMP's, which `--data` takes.

    Args:
        task: whose files to look for.
        roots: where to look: in these directories and two levels below.

    Returns:
        The directories, sorted; none for a task that is not LaMP's.

    Example:
        >>> import tempfile
        >>> from programs.tasks.lamp4 import TASK
        >>> root = Path(tempfile.mkdtemp())
        >>> (root / "mine").mkdir()
        >>> _ = (root / "mine" / "dev_outputs.json").write_text('{"task": "LaMP_4", "golds": []}')
        >>> _ = (root / "mine" / "dev_questions.json").write_text("[]")
        >>> [folder.name for folder in folders(TASK, root)]
        ['mine']
    """
    outputs = {path for root in roots for depth in _DEPTHS for path in root.glob(f"{depth}dev_outputs.json")}
    whole = [path for path in sorted(outputs) if path.with_name("dev_questions.json").exists()]
    return [path.parent for path in whole if task.lamp and _told(path) == task.lamp]


def _told(path: Path) -> str | None:
    """The task that a file's golds are of; None where it does not say."""
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return data.get("task") if isinstance(data, dict) else None
