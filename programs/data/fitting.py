"""The task of a command as its data need it."""

from collections.abc import Callable
from pathlib import Path

import yaml

from programs.data.lamp.labels import own_labels
from programs.tasks.own_labels import with_labels
from programs.tasks.task import Task
from programs.tasks.task_file import task_of
from programs.text import one_line
from r2p_dspy.files import write_atomic

TASK_FILE = "task.yaml"
_OWN = "-own-labels"  # the end of the name of a task whose labels come from its data


def task_for(name: str, source: str | None, tell: Callable[[str], None] = lambda line: None) -> Task:
    """The task that a command line names, with the labels of its data if these have labels of their own.

    Args:
        name: see `task_of`.
        source: what `--data` names.
        tell: takes a line about labels that were found in the data.

    Raises:
        TaskError: see `task_of`.
        DataError: see `own_labels`.
    """
    task = task_of(name)
    labels = () if source is None else own_labels(task, Path(source))
    if not labels:
        return task
    own = with_labels(task, labels, task.name + _OWN)
    tell(one_line(f"{source} has {len(labels)} labels of its own ({', '.join(labels[:5])}, …); the task is {own.name}"))
    return own


def write_task_file(task: Task, directory: Path) -> None:
    """Write `task.yaml`, for commands that do not read the data that a task's labels came from, such as `predict`.

    A task whose labels are its own needs no file.
    """
    if task.name.endswith(_OWN):
        keys = {"task": task.name, "base": task.name.removesuffix(_OWN), "labels": [*task.labels]}
        write_atomic(directory / TASK_FILE, yaml.safe_dump(keys, sort_keys=False, allow_unicode=True))
