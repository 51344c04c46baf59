"""The examples of a command, from the persona world or from files."""

from collections.abc import Callable
from dataclasses import replace

from programs.data import dataset as data
from programs.data.dataset import Data, DataConfig
from programs.data.jsonl import is_jsonl, jsonl
from programs.data.makers.sources import GIT, folder_of
from programs.tasks.task import Task
from programs.text import one_line, truncate
from r2p_dspy.errors import DataError


def read_examples(
    task: Task, config: DataConfig, tell: Callable[[str], None] = lambda line: None, least: int = 1
) -> Data:
    """Read the examples of a command. Data that cannot be used, and too few examples, are a DataError.

    Args:
        task, config: which examples.
        tell: takes a line about the rows that are left out.
        least: the fewest training examples, if the command needs any.

    Examples:
        >>> from programs.tasks.lamp2 import TASK
        >>> len(read_examples(TASK, DataConfig(limit=5)).test)
        5
    """
    if config.limit is not None and config.limit < 1:
        raise DataError(f"--limit must be at least 1, not {config.limit}")
    if config.source is None:
        personas = data.personas(task, seed=config.seed, limit=config.limit, train=config.train)
        return personas.without(personas.ids.intersection(config.skip))  # as of files, what is not there is no error
    path = folder_of(task, config.source, tell)
    examples = (jsonl if is_jsonl(path) or not task.shape else data.lamp)(task, path, config)
    if config.source.startswith(GIT):
        examples = replace(examples, source=config.source)  # and not the folder of the cache
    for name, ids in examples.skipped.items():
        few = one_line(", ".join(truncate(name, 60) for name in ids[:5]) + (", …" if len(ids) > 5 else ""))
        tell(f"{name}: {len(ids)} flawed rows are left out ({few}); config.json names them all")
    if config.trains and (len(examples.train) < least or not examples.dev):
        raise DataError(
            f"{path} leaves {len(examples.train)} examples to train on and {len(examples.dev)} to choose by; at least "
            f"{least} and 1 are needed; raise --limit, or give more data"
        )
    return examples
