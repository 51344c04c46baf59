"""Write files whole or not at all, and tell contents apart by a digest."""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

_MOST_BYTES = 256 << 20  # of a file that is held in memory as a whole; parsed JSON takes several times that


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; move it to `path` when the block succeeds, remove it when the block fails.

    Write a file or make a directory there. The folder of `path` must exist.

    Examples:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "answer.txt"
        >>> with atomic_path(target) as part:
        ...     _ = part.write_text("42")
        >>> target.read_text(), part.exists()
        ('42', False)
    """
    part = path.with_name(f".{path.name}.part")
    _remove(part)
    try:
        yield part
        if part.is_dir():
            _remove(path)  # a directory takes the place of nothing but an empty one
        elif part.exists():
            with part.open("rb") as file:
                os.fsync(file.fileno())  # else a power failure may leave an empty file under the name
        part.replace(path)
    except BaseException:
        _remove(part)
        raise


def write_atomic(path: Path, text: str, *, private: bool = False) -> None:
    """Write a file, whole or not at all. Half of a surrogate pair, which models do write, becomes its escape.

    Only its owner can read a private file.
    """
    with atomic_path(path) as part:
        if private:
            part.touch(0o600)
        part.write_text(text, "utf-8", "backslashreplace", "\n")


def read_bounded(path: Path, most: int = _MOST_BYTES) -> bytes:
    """The bytes of a file that is to be held in memory; OSError (EFBIG) if there are more than `most`.

    Examples:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "golds.json"
        >>> _ = file.write_text("[1, 2]")
        >>> read_bounded(file)
        b'[1, 2]'
    """
    with path.open("rb") as file:  # a size that a pipe or a device tells means nothing
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"larger than {most >> 20} MB", str(path))
    return content


def digest(content: str | bytes | Path | Iterable[bytes]) -> str:
    """The first sixteen hex digits of the SHA-256 of a text, bytes, a file, or pieces of bytes that are taken as one.

    Examples:
        >>> digest("rain") == digest(b"rain") == digest([b"ra", b"in"])
        True
    """
    if isinstance(content, Path):
        with content.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    if isinstance(content, str):
        content = content.encode(errors="backslashreplace")
    total = hashlib.sha256()
    for piece in [content] if isinstance(content, bytes) else content:
        total.update(piece)
    return total.hexdigest()[:16]


def size_of(directory: Path) -> int:
    """The bytes of all files in a directory."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
