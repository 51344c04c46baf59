"""The folder of converted models, each under the hash of the file that it was made from."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from r2p_dspy.errors import ConfigError
from r2p_dspy.files import atomic_path

SOURCE = "source.json"  # in a model's directory: what it was made from


def cache_folder(name: str) -> Path:
    """`$R2P_CACHE/NAME`, else `r2p-dspy/NAME` in `$XDG_CACHE_HOME`, else in `~/.cache`."""
    if own := os.environ.get("R2P_CACHE"):
        return Path(own).expanduser().absolute() / name
    # As the XDG specification says, a relative path there means nothing.
    caches = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return (caches if caches.is_absolute() else Path.home() / ".cache") / "r2p-dspy" / name


def models_folder() -> Path:
    """The folder of converted models, see `cache_folder`."""
    return cache_folder("models")


def converted_models() -> list[tuple[Path, str]]:
    """The directories of all converted models, each with the name of the file that it was made from."""
    return sorted((path.parent, _source_name(path)) for path in models_folder().glob(f"[!.]*/{SOURCE}"))


@contextmanager
def building(directory: Path) -> Iterator[Path | None]:
    """Give a folder that becomes a directory of the cache when the block succeeds, and is removed when it fails.

    Other processes wait meanwhile, and then get None, because the directory is there. What a killed process left is
    removed.

    Raises:
        ConfigError: the cache cannot be written; one line that names it.
    """
    from filelock import FileLock  # torch and transformers need it too

    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(directory.with_name(f".{directory.name}.lock")):
            if directory.is_dir():
                yield None
                return
            with atomic_path(directory) as part:
                part.mkdir()
                yield part
    except OSError as cause:
        reason = cause.strerror or str(cause)
        raise ConfigError(
            f"the cache {directory.parent} cannot be written ({reason}); give another folder in R2P_CACHE"
        ) from cause


def check_room(folder: Path, needed: int) -> None:
    """Raise a ConfigError if the disk of a folder that is made in the cache has fewer than `needed` bytes free."""
    free = shutil.disk_usage(folder.parent).free
    if free < needed:
        raise ConfigError(
            f"the model cache {folder.parent} has {free / 1e6:.0f} MB free and needs {needed / 1e6:.0f} MB; free some "
            "space, or give another folder in R2P_CACHE"
        )


def _source_name(path: Path) -> str:
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["file"])
    except (OSError, ValueError, KeyError, TypeError):
        return "?"
