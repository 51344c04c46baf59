"""A task by its name, or from a user's file: YAML, of which nothing is run, or Python, which is."""

import re
import sys
import traceback
from dataclasses import fields
from functools import cache
from pathlib import Path
from types import ModuleType

from programs.tasks import TASKS
from programs.tasks.task import Task, TaskError, unknown
from programs.tasks.task_yaml import from_yaml

SUFFIXES = (".yaml", ".yml", ".py")


def task_of(name: str) -> Task:
    """The task that a command line names.

    Args:
        name: of one of `TASKS`, or the path of a task file: `.yaml` or `.yml` (see docs/your-task.md), or `.py`, which
            is run, and binds `TASK`.

    Returns:
        The task.

    Raises:
        TaskError: in one line, for an unknown name, and for a file that is missing or at fault: in which line, and for
            an unknown key, field, metric or check the nearest one that there is.

    Example:
        >>> task_of("lamp2").metrics
        ('accuracy', 'f1')
    """
    path = Path(name)
    if path.suffix.lower() not in SUFFIXES:
        if name not in TASKS:
            own = "one of your own is a .yaml or .py file (docs/your-task.md)"
            raise TaskError(f"unknown task {name!r}; the tasks are {', '.join(TASKS)}, and {own}")
        return TASKS[name]
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise TaskError(f"{path}: it cannot be read ({error.strerror}); give a task's file") from None
    except UnicodeDecodeError:
        raise TaskError(f"{path}: it is no text in UTF-8; save it as one") from None
    task = (_from_python if path.suffix.lower() == ".py" else from_yaml)(path, text)
    if task.name in TASKS:
        raise TaskError(f"{path}: {task.name!r} is a task of LaMP's; give yours another name")
    return task


@cache  # a command asks for its task more than once, and the file is run once
def _from_python(path: Path, text: str) -> Task:
    module = ModuleType(f"task_file_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # where postponed annotations are looked up
    try:
        exec(compile(text, str(path), "exec", dont_inherit=True), module.__dict__)
    except (Exception, SystemExit) as error:
        message = str(error) if isinstance(error, TaskError) else f"{type(error).__name__}: {error}"
        if found := re.search(r"Task\.__init__\(\) got an unexpected keyword argument '(\w+)'", message):
            message = unknown("argument of Task", found[1], [one.name for one in fields(Task)])
        raise TaskError(f"{path}: line {_line(path, error)}: {' '.join(message.split())}") from None
    task = getattr(module, "TASK", None)
    if not isinstance(task, Task):
        raise TaskError(f"{path}: it binds no TASK; write TASK = Task(…), as docs/your-task.md shows")
    return task


def _line(path: Path, error: BaseException) -> int:
    """The last line of the file that ran, or the one that cannot be read."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno or 1
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return (lines or [1])[-1] or 1
