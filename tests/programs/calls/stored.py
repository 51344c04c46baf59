"""What a call cache holds on disk, read from outside it."""

import sqlite3
from contextlib import closing
from pathlib import Path


def stored_calls(directory: Path) -> tuple[int, int]:
    """How many calls the cache of a directory holds, and how many of them were made again."""
    with closing(sqlite3.connect(directory / "ledger.sqlite", 30)) as file:
        return file.execute("SELECT COUNT(*), COALESCE(SUM(times - 1), 0) FROM calls").fetchone()
