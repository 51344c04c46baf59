"""Data sets of the Hugging Face hub: download the Parquet files of a split, and read their rows."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from programs.data.lamp.download import DownloadError, download
from r2p_dspy.errors import DataError

HUB = "https://huggingface.co"
_PARTS = ".parts"  # the folder of files that are not converted yet
_ROWS = 64  # read at once: a row may hold a history of megabytes

Progress = Callable[[str, int, int | None], None]  # a file's name, its bytes so far, its size


def fetch(
    dataset: str, config: str, split: str, output: Path, base: str = "", progress: Progress | None = None
) -> Path:
    """Download the Parquet files of a split that are not there yet.

    Args:
        dataset, config, split: their names on the hub.
        output: the directory of the data; the files go into a folder of it.
        base: the address of a mirror; empty for the hub.
        progress: is called with a file's name, its bytes downloaded so far, and its size if known.

    Returns:
        The folder with the files, to be read with `rows`.

    Raises:
        DownloadError: see `download`; also for an answer of the hub that is no list of files.
    """
    folder = output / _PARTS / f"{config}-{split}"
    folder.mkdir(parents=True, exist_ok=True)
    listed = folder / "files.json"
    if not listed.exists():
        url = f"{base or HUB}/api/datasets/{dataset}/parquet/{config}/{split}"
        download(url, listed, partial(_check_list, url))
    for number, url in enumerate(json.loads(listed.read_text(encoding="utf-8"))):
        name = f"{number:04}.parquet"
        if not (folder / name).exists():
            tell = partial(progress, f"{split} {name}") if progress else (lambda done, total: None)
            download(url, folder / name, _check_parquet, tell)
    return folder


def rows(folder: Path) -> Iterator[dict[str, Any]]:
    """The rows of a split's files, in order, a few in memory at a time."""
    parquet = _parquet()
    for path in sorted(folder.glob("*.parquet")):
        for batch in parquet.ParquetFile(path).iter_batches(batch_size=_ROWS):
            yield from batch.to_pylist()


def remove(folder: Path) -> None:
    """Remove a split's files after they were converted, and the folder around them if it is empty."""
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    if not any(folder.parent.iterdir()):
        folder.parent.rmdir()


@contextmanager
def written(path: Path) -> Iterator[TextIO]:
    """A text file that gets its name when it is complete."""
    part = path.with_name(f"{path.name}.part")
    with part.open("w", encoding="utf-8") as file:
        yield file
    part.replace(path)


def write_list(file: TextIO, entries: Iterable[Any]) -> int:
    """Write a JSON list, an entry a line, without holding it in memory; return the number of entries."""
    count = 0
    file.write("[")
    for count, entry in enumerate(entries, start=1):
        file.write(",\n" if count > 1 else "\n")
        file.write(json.dumps(entry, ensure_ascii=False, allow_nan=False))
    file.write("\n]\n")
    return count


def _check_list(url: str, path: Path) -> None:
    try:
        files = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        files = None
    if not (isinstance(files, list) and files and all(isinstance(file, str) for file in files)):
        raise DownloadError(f"{url} lists no files; the hub may be converting them: try again later")


def _check_parquet(path: Path) -> None:
    try:
        _parquet().ParquetFile(path).close()
    except (OSError, ValueError) as error:
        raise DownloadError(
            f"{path.name} is no Parquet file ({str(error)[:80]}); give the same command again"
        ) from None


def _parquet() -> Any:  # pyarrow has no types
    try:
        from pyarrow import parquet
    except ImportError:
        raise DataError("pyarrow is not installed, which reads the hub's files: pip install pyarrow") from None
    return parquet
