"""Write files whole or not at all, and tell contents apart by a digest."""

import hashlib
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

_CHUNK = 1 << 20  # bytes


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; move it to `path` when the block succeeds, remove it when the block fails.

    Args:
        path: the file or directory to write. Its folder must exist. What is there is replaced only at the end.

    Yields:
        A path in the same folder, where nothing is yet. Write a file or make a directory there.

    Example:
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
        part.replace(path)
    except BaseException:
        _remove(part)
        raise


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file, whole or not at all.

    Args:
        path: the file. Its folder must exist.
        content: bytes, or text, which is written as UTF-8. Half of a surrogate pair, which models do write, becomes its
            backslash escape.

    Raises:
        OSError: when the file cannot be written.
    """
    with atomic_path(path) as part:
        part.write_bytes(_bytes(content))


def digest(content: str | bytes | Path | Iterable[bytes]) -> str:
    """Sixteen hex digits that change with the content: the start of its SHA-256.

    Args:
        content: text, bytes, the path of a file, or pieces of bytes that are taken as one.

    Raises:
        OSError: when the file cannot be read.

    Example:
        >>> digest("rain") == digest(b"rain") == digest([b"ra", b"in"])
        True
        >>> len(digest("rain"))
        16
    """
    total = hashlib.sha256()
    for piece in _pieces(content):
        total.update(piece)
    return total.hexdigest()[:16]


def _pieces(content: str | bytes | Path | Iterable[bytes]) -> Iterable[bytes]:
    if isinstance(content, str | bytes):
        return [_bytes(content)]
    return _file_chunks(content) if isinstance(content, Path) else content


def _file_chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _bytes(content: str | bytes) -> bytes:
    return content.encode(errors="backslashreplace") if isinstance(content, str) else content


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
