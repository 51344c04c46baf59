"""Tasks, their data, and ready programs; `load("lamp2")` is the short way to one."""

from pathlib import Path
from typing import TYPE_CHECKING

from r2p_dspy.errors import ConfigError

if TYPE_CHECKING:
    import dspy

    from r2p_dspy import R2P

COMPILED = Path(__file__).with_name("compiled")  # the artifacts that ship, as `make compiled` writes them


def load(
    task: str, path: "str | Path | None" = None, *, compiled: bool = True, lm: "dspy.BaseLM | None" = None
) -> "R2P":
    """A ready R2P program for a task.

    Args:
        task: a name from `TASKS`, or the path of a task file (see `task_file.task_of`).
        path: a compiled program's artifact, with the settings that it is to be built with; None for the one that ships
            (`programs/compiled/TASK.json`), which was compiled for the pocket model on the persona world; a task that
            has none gets the uncompiled program.
        compiled: False for the uncompiled program.
        lm: what to bind to the program; any will do, whichever it was compiled for. None leaves that to
            `dspy.configure(lm=r2p_dspy.connect())` or the like.

    Returns:
        The program.

    Raises:
        ValueError: for an unknown task, a task file that is at fault, or a path for an uncompiled program.
        r2p_dspy.ArtifactError: for a file that does not fit.

    Example:
        >>> load("lamp2").reason.answers
        ('tag',)
    """
    from programs.tasks import TASKS
    from programs.tasks.program import R2PConfig, build
    from programs.tasks.task_file import task_of
    from r2p_dspy.artifact import load_program

    if path is not None and not compiled:
        raise ConfigError(f"compiled=False is the uncompiled program; leave out {path}, or leave out compiled")
    found = task_of(task)
    shipped = COMPILED / f"{found.name}.json"
    if path is None and compiled and found.name in TASKS and shipped.exists():
        path = shipped
    program = build(found, R2PConfig() if path is None else R2PConfig.of(path))
    if path is not None:
        load_program(program, path, task=found.name)
    if lm is not None:
        program.set_lm(lm)
    return program
