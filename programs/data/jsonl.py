"""A user's own data as DSPy examples: JSONL, one row a line, in the task's own names.

{"id": "m1", "mail": "Hi all, …", "profile": [{"id": "e1", "subject": "…", "text": "…"}], "subject": "…", "user": "ada"}
"""

from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import dspy

from programs.data.dataset import FEW, Data, DataConfig
from programs.data.jsonl_rows import Reader
from programs.data.lamp.row_errors import FlawError, RowError, refusal
from programs.data.splits import check_apart, split, users
from programs.data.stored import in_memory, stored
from programs.tasks.task import Task
from r2p_dspy.errors import DataError

_TEST_SHARE = 0.25  # of one file
_SPLITS = ("train", "dev", "test")


def is_jsonl(path: Path) -> bool:
    """Whether it is a file, or a directory with one that is named as a split."""
    return path.is_file() or any((path / f"{name}.jsonl").exists() for name in _SPLITS)


def jsonl(task: Task, path: Path, config: DataConfig) -> Data:
    """A user's own rows, from one file or from a directory.

    One file is split by user: a quarter is reported, of the rest one half is to train on and one to choose by. Of a
    directory `test.jsonl` is reported, and where it has none `dev.jsonl`, as with LaMP; `train.jsonl` is split where no
    file is left to choose by.

    Args:
        task: whose data it is.
        path: of the file, or of the directory.
        config: which of its examples.

    Raises:
        DataError: for a missing file, rows that are at fault, rows of one user alone where they are to be split, a
            question that stands on both sides.
    """
    skipped: dict[str, list[str]] = {}

    def rows(file: Path) -> list[dspy.Example]:
        flawed: list[RowError] = []
        examples = stored(read(task, file, skip=config.skip, left_out=flawed.append if config.skip_bad else None))
        if flawed:
            skipped[file.stem] = [flaw.id for flaw in flawed]
        return examples

    if path.is_file():
        train, test = _split(path, rows(path), config.seed, _TEST_SHARE)
        files: dict[str, list[dspy.Example]] = {"train": train, "test": test}
    else:
        present = [path / f"{name}.jsonl" for name in _SPLITS if (path / f"{name}.jsonl").exists()]
        files = {file.stem: rows(file) for file in present}
    reported = "test" if "test" in files else "dev"
    if reported not in files or (config.trains and "train" not in files):
        needed = f"dev.jsonl or test.jsonl{', and train.jsonl' if config.trains else ''}"
        raise DataError(f"{path}: it is no file of rows, and no directory with {needed}; docs/your-task.md shows both")
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


def load(
    task: Task, file: Path, *, skip: Collection[str] = (), left_out: Callable[[RowError], None] | None = None
) -> list[dspy.Example]:
    """The examples of one file.

    Args:
        task: says what a row and an item have.
        file: one JSON object a line; blank lines are passed over.
        skip: ids of rows to leave out.
        left_out: is told the flaw of each flawed row, which is left out; None refuses the file for one.

    Returns:
        Examples in the file's order, as of `lamp_data.load`: inputs, profile (of every item its id, the task's text
        fields, date and label), the answer as a string, the row's `id`, and `user`, where the row has one.

    Raises:
        DataError: for a file that cannot be read, a line that is no JSON object, duplicate ids, a row without one of
            the inputs, without profile or without answer, an item without one of the task's fields or with no text in
            them, a label that the task does not have.

    Example:
        >>> import json, tempfile
        >>> from programs.tasks.lamp4 import TASK
        >>> row = {"id": "1", "article": "It rained.", "profile": [{"id": "a", "title": "Wet", "text": "Rain in May."}]}
        >>> file = Path(tempfile.mkdtemp()) / "rows.jsonl"
        >>> _ = file.write_text(json.dumps({**row, "headline": "Rain Again"}))
        >>> load(TASK, file)[0].headline
        'Rain Again'
    """
    return list(read(task, file, skip=skip, left_out=left_out))


def read(
    task: Task, file: Path, *, skip: Collection[str] = (), left_out: Callable[[RowError], None] | None = None
) -> Iterator[dspy.Example]:
    """As `load`, one example after another; that rows are flawed is said behind the last one."""
    reader = Reader(task, file)
    seen: set[str] = set()
    flawed: list[RowError] = []
    for number, line in reader.lines():
        try:
            row = reader.row(f"line {number}", line)
            name = reader.id_of(row, f"line {number}")
            where = f"line {number}, row {name}"
            if name in skip:
                continue
            if name in seen:
                reader.fail(where, "the id stands twice", "keep one of the two", name)
            example = reader.example(where, name, row)
        except FlawError as error:
            (flawed.append if left_out is None else left_out)(error.flaw)
        else:
            seen.add(name)
            yield example
    if flawed:
        raise DataError(refusal(file, flawed, ""))
    if not seen:
        reader.fail("the file", "it holds no rows" + " but skipped ones" * bool(skip or left_out), "give one a line")


def _split(
    path: Path, examples: list[dspy.Example], seed: int, share: float
) -> tuple[list[dspy.Example], list[dspy.Example]]:
    try:
        return split(examples, seed, share)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None
