"""Find a task by its name, or load it from a user's file: YAML, which is only read, or Python, which is run."""

import re
import sys
import traceback
from dataclasses import fields
from functools import cache
from pathlib import Path
from types import ModuleType

from programs.tasks import TASKS
from programs.tasks.task import Task, TaskError, unknown
from programs.tasks.yaml_files.task_yaml import from_yaml

SUFFIXES = (".yaml", ".yml", ".py")


def task_of(name: str) -> Task:
    """The task that a command line names.

    Args:
        name: a name in `TASKS`, or the path of a task file: `.yaml` or `.yml` (see docs/your-task.md), or `.py`, which
            is run and must bind `TASK`.

    Raises:
        TaskError: one line, for an unknown name, a file that cannot be read, and an error in the file. It has the line
            in the file, and for an unknown key, field, metric or check the nearest known one. If Python code in the
            file raised, `traceback` has the user's own frames.

    Examples:
        >>> task_of("lamp2").metrics
        ('accuracy', 'f1')
    """
    path = Path(name)
    if path.suffix.lower() not in SUFFIXES:
        if name not in TASKS:
            own = "a task of your own is a .yaml or .py file (docs/your-task.md)"
            raise TaskError(f"unknown task {name!r}; the tasks are {', '.join(TASKS)}; {own}")
        return TASKS[name]
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise TaskError(f"{path}: it cannot be read ({error.strerror}); give a task file") from None
    except UnicodeDecodeError:
        raise TaskError(f"{path}: it is not UTF-8 text; save it as UTF-8") from None
    task = (_from_python if path.suffix.lower() == ".py" else from_yaml)(path, text)
    if task.name in TASKS:
        raise TaskError(f"{path}: {task.name!r} is a built-in task; give yours another name")
    return task


def file_module(name: str) -> ModuleType | None:
    """The module that the Python file of a task was run as by `task_of`; None for other tasks."""
    path = Path(name)
    return sys.modules[_module_name(path)] if path.suffix.lower() == ".py" else None


@cache  # a command looks up its task more than once, and the file is run once
def _from_python(path: Path, text: str) -> Task:
    module = ModuleType(_module_name(path))
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # postponed annotations are looked up here
    try:
        exec(compile(text, str(path), "exec", dont_inherit=True), module.__dict__)  # nosec B102  # the user's own code
    except (Exception, SystemExit) as error:
        fault = _task_error(path, error)
        raise fault from (error if fault.traceback else None)
    task = getattr(module, "TASK", None)
    if not isinstance(task, Task):
        raise TaskError(f"{path}: it does not bind TASK; write TASK = Task(…), as docs/your-task.md shows")
    return task


def _module_name(path: Path) -> str:
    return f"task_file_{path.stem}"


def _task_error(path: Path, error: BaseException) -> TaskError:
    """An error in a user's Python file in one line, with the user's traceback if the user's own code raised it."""
    message, own = f"{type(error).__name__}: {error}", True
    if isinstance(error, TaskError):
        message, own = str(error), False
    elif argument := re.search(r"Task\.__init__\(\) got an unexpected keyword argument '(\w+)'", message):
        message, own = unknown("argument of Task", argument[1], [field.name for field in fields(Task)]), False
    result = TaskError(f"{path}: line {_line(path, error)}: {' '.join(message.split())}")
    result.traceback = _user_traceback(path, error) if own else ""
    return result


def _user_traceback(path: Path, error: BaseException) -> str:
    """The traceback as Python prints it, from the first frame in the user's file on."""
    frame = error.__traceback__
    while frame is not None and frame.tb_frame.f_code.co_filename != str(path):
        frame = frame.tb_next
    return "".join(traceback.format_exception(type(error), error, frame))


def _line(path: Path, error: BaseException) -> int:
    """The last line of the file that ran, or the line with the syntax error."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno or 1
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return (lines or [1])[-1] or 1
