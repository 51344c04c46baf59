"""Tasks, their data, compiling, evaluating, predicting; `load("lamp2")` gives a ready program."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from programs import moved

if TYPE_CHECKING:
    import dspy

    from r2p_dspy import R2P

COMPILED = Path(__file__).with_name("compiled")  # the artifacts that ship; `make compiled` writes them

moved.install()


def load(
    task: str,
    path: str | Path | None = None,
    *,
    compiled: bool = True,
    retriever: str | None = None,
    lm: dspy.BaseLM | None = None,
) -> R2P:
    """Load a ready R2P program for a task.

    Args:
        task: a name from `programs.tasks.TASKS`, or the path of a task file (see `task_file.task_of`).
        path: a compiled program's artifact, which also holds the settings to build it with. Default: the artifact that
            ships (`programs/compiled/TASK.json`, compiled for the pocket model on the persona world); a task without
            one gets the uncompiled program.
        compiled: False for the uncompiled program.
        retriever: a name from `programs.tasks.retrievers.RETRIEVERS`; default: the artifact's, or BM25. One that uses
            an embedding model is named here, because no file may choose a model.
        lm: the language model to bind to the program. It may be another than the program was compiled for. Default: the
            configured one, as from `dspy.configure(lm=r2p_dspy.connect())`.

    Returns:
        The program.

    Raises:
        ConfigError: the task is unknown, its file has an error, or a path is given for an uncompiled program.
        ArtifactError: the artifact does not fit the task, or names a retriever that you have to name.

    Examples:
        >>> load("lamp2").reason.answers
        ('tag',)
    """
    from programs.tasks import TASKS
    from programs.tasks.program import build, resolve
    from programs.tasks.task_file import task_of
    from r2p_dspy.artifact import load_program
    from r2p_dspy.errors import ConfigError

    if path is not None and not compiled:
        raise ConfigError(f"compiled=False means the uncompiled program; leave out {path}, or leave out compiled")
    chosen = task_of(task)
    shipped = COMPILED / f"{chosen.name}.json"
    if path is None and compiled and chosen.name in TASKS and shipped.exists():
        path = shipped
    program = build(chosen, resolve({"retriever": retriever}, path, task))
    if path is not None:
        load_program(program, path, task=chosen.name)
    if lm is not None:
        program.set_lm(lm)
    return program


def __getattr__(name: str) -> Any:
    if name != "TASKS":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from programs.tasks import TASKS

    warnings.warn("programs.TASKS has moved; import programs.tasks.TASKS", DeprecationWarning, stacklevel=2)
    return TASKS
