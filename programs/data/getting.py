"""Get a benchmark's official files."""

from collections.abc import Callable
from pathlib import Path

from programs.data.lamp import official as lamp
from programs.data.lamp.official import By
from programs.data.lamp_qa import official as lamp_qa
from programs.data.longlamp import official as longlamp
from programs.tasks.task import Task
from r2p_dspy.errors import ConfigError

Progress = Callable[[str, int, int | None], None]


def get(task: Task, by: By | None, output: Path, *, test: bool, progress: Progress) -> list[str]:
    """Download the official files of a task that are not in the directory yet.

    Args:
        task: a task of LaMP, LongLaMP or LaMP-QA.
        by: the split, by time or by user; None for LaMP-QA, which has one.
        output, test, progress: see `programs.data.lamp.official.get`.

    Returns:
        The names of the files that this call made.

    Raises:
        ConfigError: for a split that the benchmark does not have, and for none where it has two.
        DataError: see the benchmarks' own modules.
    """
    if task.by_rubric:
        if by is not None:
            raise ConfigError(f"LaMP-QA has one split; leave out --split {by}")
        return lamp_qa.get(task, output, test=test, progress=progress)
    if by is None:
        raise ConfigError("LaMP and LongLaMP are split by time and by user; give --split time or --split user")
    benchmark = longlamp if task.lamp.startswith("LongLaMP") else lamp
    return benchmark.get(task, by, output, test=test, progress=progress)
