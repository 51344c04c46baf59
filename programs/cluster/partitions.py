"""Partitions of an input: ranges of rows of JSONL and Parquet files, which workers read by themselves."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from programs.tasks.task import Task
from r2p_dspy.errors import DataError
from r2p_dspy.files import digest

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

_SUFFIXES = (".jsonl", ".parquet")
_BATCH = 64  # rows of a Parquet file that are in memory at once


@dataclass(frozen=True)
class Partition:
    """A range of the rows of one file.

    Args:
        number: its place in the input, from 0.
        file: the file's path.
        first: the number of its first line in the file, from 1; rows of a Parquet file count as lines.
        rows: how many rows it has.
        begin, end: of a JSONL file, its bytes; of a Parquet file, its row groups.
        named: whether the file is one of several.
    """

    number: int
    file: str
    first: int
    rows: int
    begin: int
    end: int
    named: bool = False

    @property
    def name(self) -> str:
        """The name of its files in a run's directory."""
        return f"part-{self.number:05}"

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Partition":
        return cls(**json.loads(text))

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """The numbered lines of its rows, as JSON."""
        return _parquet_lines(self) if self.file.endswith(".parquet") else _jsonl_lines(self)


@dataclass(frozen=True)
class Input:
    """An input that is cut into partitions.

    Args:
        partitions: all of them, in order.
        fingerprint: sixteen hex digits that change with the contents of its files.
    """

    partitions: list[Partition]
    fingerprint: str

    @property
    def rows(self) -> int:
        """The number of its rows."""
        return sum(partition.rows for partition in self.partitions)


def partitioned(task: Task, source: Path, rows: int, stored: bool = False) -> Input:
    """Cut an input into partitions.

    Args:
        task: of the rows.
        source: a `.jsonl` or `.parquet` file, or a folder of them, which are read in the order of their names.
        rows: of a partition. One of a Parquet file has whole row groups, and so may have more.
        stored: whether a row may name its user in place of a profile.

    Raises:
        DataError: one line, for a file that cannot be read, has no rows, or, of Parquet, lacks a column of the task.
    """
    files, ranges = _files(source), list[tuple[Path, tuple[int, int, int, int]]]()
    try:
        for file in files:
            if file.suffix == ".parquet":
                with _opened(file) as parquet:
                    _check_columns(task, file, parquet.schema_arrow.names, stored)
                    ranges += [(file, part) for part in _row_groups(parquet, rows)]
            else:
                ranges += [(file, part) for part in _byte_ranges(file, rows)]
        contents = "".join(f"{file.name} {digest(file)}\n" for file in files)
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read ({error.strerror}); give --input a file of rows") from None
    if not ranges:
        raise DataError(f'{source} holds no rows; a row is {{"id": …, "profile": […], …}} on a line')
    numbered = (
        Partition(number, str(file.absolute()), *part, named=len(files) > 1)
        for number, (file, part) in enumerate(ranges)
    )
    return Input([*numbered], digest(files[0]) if len(files) == 1 else digest(contents))


def _files(source: Path) -> list[Path]:
    if not source.is_dir():
        if source.exists() and not source.is_file():
            raise DataError(f"{source} is no file; give --input a file of rows, or a folder of them")
        return [source]
    files = sorted(path for path in source.iterdir() if path.suffix in _SUFFIXES)
    if not files:
        raise DataError(f"{source} holds no {' and no '.join(_SUFFIXES)} file; give --input a file of rows")
    return files


def _byte_ranges(file: Path, rows: int) -> Iterator[tuple[int, int, int, int]]:
    """First line, number of rows, first byte and last of each range of a JSONL file."""
    first, count, begin, end = 1, 0, 0, 0
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            end += len(line)
            count += bool(line.strip())
            if count == rows:
                yield first, count, begin, end
                first, count, begin = number + 1, 0, end
    if count:
        yield first, count, begin, end


def _jsonl_lines(partition: Partition) -> Iterator[tuple[int, bytes]]:
    with Path(partition.file).open("rb") as file:
        file.seek(partition.begin)
        number = partition.first
        while file.tell() < partition.end:
            yield number, file.readline()
            number += 1


def _row_groups(parquet: "ParquetFile", rows: int) -> Iterator[tuple[int, int, int, int]]:
    """First row, number of rows, first row group and the one after the last of each range of a Parquet file."""
    first, count, begin = 1, 0, 0
    for group in range(parquet.num_row_groups):
        count += parquet.metadata.row_group(group).num_rows
        if count >= rows or (count and group + 1 == parquet.num_row_groups):
            yield first, count, begin, group + 1
            first, count, begin = first + count, 0, group + 1


def _parquet_lines(partition: Partition) -> Iterator[tuple[int, bytes]]:
    with _opened(Path(partition.file)) as parquet:
        number = partition.first
        for batch in parquet.iter_batches(_BATCH, [*range(partition.begin, partition.end)]):
            for row in batch.to_pylist():
                yield number, json.dumps(_without_nulls(row), default=str).encode()
                number += 1


def _without_nulls(value: Any) -> Any:
    """A value of Parquet, whose rows all have the same keys, without the keys that have no value."""
    if isinstance(value, dict):
        return {key: _without_nulls(entry) for key, entry in value.items() if entry is not None}
    return [_without_nulls(entry) for entry in value] if isinstance(value, list) else value


def _opened(file: Path) -> "ParquetFile":
    from pyarrow import ArrowInvalid
    from pyarrow.parquet import ParquetFile

    try:
        return ParquetFile(file)
    except ArrowInvalid as error:
        reason = " ".join(str(error).split())[:100]
        raise DataError(f"{file} is no Parquet file ({reason}); give --input a file of rows") from None


def _check_columns(task: Task, file: Path, names: list[str], stored: bool) -> None:
    """Refuse a file without the columns of a row, before any row is read."""
    question = [{name} | ({"input"} if task.shape and name == task.question else set()) for name in task.inputs]
    needed = [{"id"}, *question, {task.profile, "history"} | ({"user"} if stored else set())]
    missing = [" or ".join(sorted(wanted)) for wanted in needed if not wanted & {*names}]
    if missing:
        raise DataError(
            f"{file} has the columns {', '.join(names)[:200]}; it lacks {', '.join(missing)}, which rows of "
            f"{task.name} need"
        )
