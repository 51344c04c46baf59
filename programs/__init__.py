"""Tasks, their data, and ready programs; `load("lamp2")` is the short way to one."""

from typing import TYPE_CHECKING

from programs import lamp1, lamp2, lamp3, lamp4, lamp5, lamp6, lamp7

if TYPE_CHECKING:
    from r2p_dspy import R2P

TASKS = {one.TASK.name: one.TASK for one in (lamp1, lamp2, lamp3, lamp4, lamp5, lamp6, lamp7)}


def load(task: str, path: str | None = None) -> "R2P":
    """A ready R2P program for a task.

    Args:
        task: a name from `TASKS`, or the path of a task file (see `task_file.task_of`).
        path: a compiled program's artifact, with the settings that it is to be built with; None for the uncompiled
            program.

    Returns:
        The program, with no LM bound: `dspy.configure(lm=r2p_dspy.connect())` or the like is the caller's.

    Raises:
        ValueError: for an unknown task, or a task file that is at fault.
        r2p_dspy.ArtifactError: for a file that does not fit.

    Example:
        >>> load("lamp2").reason.answers
        ('tag',)
    """
    from programs.settings import Settings, build
    from programs.task_file import task_of
    from r2p_dspy.artifact import load_program

    found = task_of(task)
    if path is None:
        return build(found, Settings())
    program = build(found, Settings.of(path))
    load_program(program, path, task=found.name)
    return program
