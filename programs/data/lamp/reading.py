"""LaMP's own files as DSPy examples."""

from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import dspy

from programs.data.lamp.row_errors import RowError, summarize
from programs.data.lamp.rows import questions_file, read_rows
from programs.tasks.task import Task
from r2p_dspy.errors import ConfigError, DataError


def iter_examples(
    task: Task,
    directory: Path | str,
    split: str,
    *,
    limit: int | None = None,
    skip: Collection[str] = (),
    left_out: Callable[[RowError], None] | None = None,
) -> Iterator[dspy.Example]:
    """Read the examples of one split of a LaMP task, one after another. Flawed rows are raised after the last example.

    Args:
        task: how LaMP's rows become examples.
        directory: the folder with `{split}_questions.json` and `{split}_outputs.json`.
        split: "train" or "dev", or another text that the files' names begin with.
        limit: the most examples to read, at least 1; None for all. Later questions are not checked.
        skip: ids of rows to leave out, for files with known errors (row 110 of LaMP-2's dev set).
        left_out: is called with the first error of each flawed row, and the row is left out. If it is None, a flawed
            row is an error.

    Yields:
        Examples in the file's order, with the task's question, its profile (each item's id, the task's text fields,
        date and label, and nothing else), the gold as a string under the task's answer, the row's `id`, and `user` if
        the row has a `user_id`. Question and profile are marked as inputs. "4.0" is read as the label "4" if the task
        has that label.

    Raises:
        DataError: for a missing, truncated, invalid or empty file, and for another task's; without `left_out` also for
            flawed rows, with their number and the first few. A row is flawed if it has a duplicate id, a question
            without gold, a gold without question, an input without the task's wording, an item without text, or a
            label that the task does not have.
        ConfigError: for a limit below 1.

    Examples:
        >>> import json, tempfile
        >>> from programs.tasks.lamp4 import TASK
        >>> item = {"id": "a", "title": "Wet", "text": "Rain in May."}
        >>> rows = [{"id": "1", "input": TASK.wording("It rained."), "profile": [item]}]
        >>> golds = {"task": "LaMP_4", "golds": [{"id": "1", "output": "Rain Again"}]}
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "dev_questions.json").write_text(json.dumps(rows))
        >>> _ = (folder / "dev_outputs.json").write_text(json.dumps(golds))
        >>> next(iter_examples(TASK, folder, "dev")).headline
        'Rain Again'
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"limit is the most examples to read, at least 1, not {limit}")
    directory = Path(directory)
    if not directory.is_dir():
        raise DataError(f"{directory}: no such directory; name the one with {task.shape}'s files")
    errors: list[RowError] = []  # the first of each flawed row
    count = skipped = 0
    for row in read_rows(task, directory, split):
        if row.id in skip:
            skipped += 1
        elif row.example is not None:
            count += 1
            yield row.example
        elif left_out is None:
            errors.append(row.errors[0])
        else:
            left_out(row.errors[0])
        if count == limit:
            break
    if errors:
        advice = f"`python cli.py data check {directory}` names every flaw, "
        raise DataError(summarize(_files(task, directory, split), errors, advice))
    if not count:
        why = "all its questions are skipped; skip fewer" if skipped else "all its rows are flawed; download it again"
        raise DataError(f"{questions_file(task, directory, split)}: {why}")


def _files(task: Task, directory: Path, split: str) -> Path:
    """What an error names that may be of the questions or of the golds."""
    return questions_file(task, directory, split) if task.by_rubric else directory / f"{split}_*.json"
