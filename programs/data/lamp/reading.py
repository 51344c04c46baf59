"""LaMP's own files as DSPy examples."""

from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import dspy

from programs.data.lamp.files import rows
from programs.data.lamp.row_errors import RowError, refusal
from programs.tasks.task import Task
from r2p_dspy.errors import ConfigError, DataError


def load(
    task: Task,
    directory: Path | str,
    split: str,
    *,
    limit: int | None = None,
    skip: Collection[str] = (),
    left_out: Callable[[RowError], None] | None = None,
) -> list[dspy.Example]:
    """The examples of one split of a LaMP task, all in memory.

    Args:
        task: says how LaMP's rows become examples.
        directory: holds `{split}_questions.json` and `{split}_outputs.json`.
        split: "train" or "dev", or what else the files' names begin with.
        limit: how many examples at most, at least 1; with it, what stands behind in the questions is not checked.
        skip: ids of rows to leave out, for files with known flaws (row 110 of LaMP-2's dev set).
        left_out: is told of each flawed row, by its first flaw; these rows are left out. Without it they are an error.

    Returns:
        Examples in the file's order, with the task's question, its profile (of every item its id, the task's text
        fields, date and label; anything else is left out), the gold as a string under the task's answer, the row's
        `id`, and `user`, where the row has a `user_id`. Question and profile are marked as inputs. Whole numbers
        written as "4.0" are read as the label "4" where that is one.

    Raises:
        DataError: for a missing, truncated or otherwise invalid file, another task's, an empty one; and, unless
            `left_out` takes them, for flawed rows, with their count and the first few: duplicate ids, a question
            without gold or a gold without question, an input without the task's wording, an item without text, a
            label that the task does not have.
        ValueError: for a limit below 1.

    Example:
        >>> import json, tempfile
        >>> from programs.tasks.lamp4 import TASK
        >>> item = {"id": "a", "title": "Wet", "text": "Rain in May."}
        >>> rows = [{"id": "1", "input": TASK.wording("It rained."), "profile": [item]}]
        >>> golds = {"task": "LaMP_4", "golds": [{"id": "1", "output": "Rain Again"}]}
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "dev_questions.json").write_text(json.dumps(rows))
        >>> _ = (folder / "dev_outputs.json").write_text(json.dumps(golds))
        >>> load(TASK, folder, "dev")[0].headline
        'Rain Again'
    """
    return list(read(task, directory, split, limit=limit, skip=skip, left_out=left_out))


def read(
    task: Task,
    directory: Path | str,
    split: str,
    *,
    limit: int | None = None,
    skip: Collection[str] = (),
    left_out: Callable[[RowError], None] | None = None,
) -> Iterator[dspy.Example]:
    """As `load`, one example after another; that rows are flawed is said behind the last one.

    The questions are read as a stream, so that a `limit` reads no more than it needs.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"limit is how many examples to load, at least 1, not {limit}")
    directory = Path(directory)
    if not directory.is_dir():
        raise DataError(f"{directory}: there is no such directory; name the one with {task.lamp}'s files")
    flawed: list[RowError] = []  # the first flaw of each flawed row
    count = skipped = 0
    for row in rows(task, directory, split):
        if row.id in skip:
            skipped += 1
        elif row.example is not None:
            count += 1
            yield row.example
        elif left_out is None:
            flawed.append(row.flaws[0])
        else:
            left_out(row.flaws[0])
        if count == limit:
            break
    if flawed:
        every = f"`python cli.py data check {directory}` names every flaw, "
        raise DataError(refusal(directory / f"{split}_*.json", flawed, every))
    if not count:
        why = "all its questions are skipped; skip fewer" if skipped else "all its rows are flawed; get it again"
        raise DataError(f"{directory / f'{split}_questions.json'}: {why}")
