"""A user's own JSONL rows as DSPy examples. A row's keys are the names of the task's fields.

{"id": "m1", "mail": "Hi all, …", "profile": [{"id": "e1", "subject": "…", "text": "…"}], "subject": "…", "user": "ada"}
"""

from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import dspy

from programs.data.dataset import FEW, Data, DataConfig
from programs.data.jsonl_rows import Reader
from programs.data.lamp.row_errors import InvalidDataError, RowError, summarize
from programs.data.splits import check_apart, split, users
from programs.data.stored import in_memory, stored
from programs.tasks.task import Task
from r2p_dspy.errors import DataError

_TEST_SHARE = 0.25  # of the rows of a single file
_SPLITS = ("train", "dev", "test")


def is_jsonl(path: Path) -> bool:
    """Whether the path is a file, or a directory with a JSONL file that is named after a split."""
    return path.is_file() or bool(jsonl_files(path))


def jsonl_files(directory: Path) -> list[Path]:
    """The JSONL files of a directory that are named after a split: train, dev, test."""
    return [path for name in _SPLITS if (path := directory / f"{name}.jsonl").exists()]


def jsonl(task: Task, path: Path, config: DataConfig) -> Data:
    """A user's own rows, from one file or from a directory.

    One file is split by user: a quarter is reported, and the rest is halved into train and dev. Of a directory,
    `test.jsonl` is reported, or without one `dev.jsonl`, as with LaMP. If no file is left for dev, `train.jsonl` is
    split. Flawed rows, rows of a single user that need a split, and a question that is both trained and evaluated on
    are a DataError.
    """
    skipped: dict[str, list[str]] = {}

    def rows(file: Path) -> list[dspy.Example]:
        errors: list[RowError] = []
        left_out = errors.append if config.skip_bad else None
        examples = stored(iter_examples(task, file, skip=config.skip, left_out=left_out))
        if errors:
            skipped[file.stem] = [error.id for error in errors]
        return examples

    if path.is_file():
        train, test = _split(path, rows(path), config.seed, _TEST_SHARE)
        files: dict[str, list[dspy.Example]] = {"train": train, "test": test}
    else:
        files = {file.stem: rows(file) for file in jsonl_files(path)}
    reported = "test" if "test" in files else "dev"
    if reported not in files or (config.trains and "train" not in files):
        needed = f"dev.jsonl or test.jsonl{', and train.jsonl' if config.trains else ''}"
        raise DataError(f"{path} is neither a file of rows nor a directory with {needed}; docs/your-task.md shows both")
    train, test = files.get("train", []), files[reported]
    dev = files.get("dev", []) if reported == "test" else []
    shared = check_apart([*train, *dev], test)
    if dev:
        check_apart(train, dev)
    elif config.trains or len(set(users(train))) > 1:
        train, dev = _split(path, train, config.seed, min(0.5, FEW / max(len(train), 1)) if config.many else 0.5)
    few = FEW if config.limit is None else min(FEW, max(config.limit, 10))
    train = train[: config.train] if config.many else in_memory(train[:few])
    return Data(train, in_memory(dev[:few]), test[: config.limit], str(path), reported, shared, skipped)


def iter_examples(
    task: Task, file: Path, *, skip: Collection[str] = (), left_out: Callable[[RowError], None] | None = None
) -> Iterator[dspy.Example]:
    """Read the examples of one file, one after another. Flawed rows are raised after the last example.

    Args:
        task: the names of a row's inputs, answer and item fields.
        file: the file, with one JSON object a line. Blank lines are skipped.
        skip, left_out: see `lamp.reading.iter_examples`.

    Yields:
        Examples in the file's order: the inputs, the profile (each item's id, the task's text fields, date and label),
        the answer as a label's text or as a value of its type, the row's `id`, and `user` if the row has one.

    Raises:
        DataError: for a file that cannot be read, and for flawed rows. A row is flawed if it is not a JSON object, has
            a duplicate id, lacks an input, the profile or the answer, has an item that lacks one of the task's fields
            or has no text in them, or has a label that the task does not have.

    Examples:
        >>> import json, tempfile
        >>> from programs.tasks.lamp4 import TASK
        >>> row = {"id": "1", "article": "It rained.", "profile": [{"id": "a", "title": "Wet", "text": "Rain in May."}]}
        >>> file = Path(tempfile.mkdtemp()) / "rows.jsonl"
        >>> _ = file.write_text(json.dumps({**row, "headline": "Rain Again"}))
        >>> next(iter_examples(TASK, file)).headline
        'Rain Again'
    """
    reader = Reader(task, file)
    seen: set[str] = set()
    errors: list[RowError] = []
    for number, line in reader.lines():
        try:
            row = reader.row(f"line {number}", line)
            name = reader.id_of(row, f"line {number}")
            where = f"line {number}, row {name}"
            if name in skip:
                continue
            if name in seen:
                reader.fail(where, "an earlier row has the same id", "keep one of the two", name)
            example = reader.example(where, name, row)
        except InvalidDataError as error:
            (errors.append if left_out is None else left_out)(error.row_error)
        else:
            seen.add(name)
            yield example
    if errors:
        raise DataError(summarize(file, errors))
    if not seen:
        what = "it has no rows except skipped ones" if skip or left_out else "it has no rows"
        reader.fail("the file", what, "write one row a line")


def _split(
    path: Path, examples: list[dspy.Example], seed: int, share: float
) -> tuple[list[dspy.Example], list[dspy.Example]]:
    try:
        return split(examples, seed, share)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
