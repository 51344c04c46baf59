"""The embedded profile store: one SQLite file, which processes and threads share."""

import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from queue import Empty, LifoQueue
from typing import Any

from r2p_dspy.errors import ConfigError, StoreError
from r2p_dspy.stores.owner import Connection, checked_version
from r2p_dspy.stores.sql import WHOLE, SQLStore

_LEFT = "what was deleted is gone for readers, but its bytes are still in the files"
_TIMEOUT = 60.0  # seconds that a writer waits for those before it

# Each step leads to the version of its number, counted from 1. Steps that were released never change.
_STEPS: tuple[tuple[str, ...], ...] = (
    (
        # AUTOINCREMENT: the number of a deleted user is never given again, so no version returns.
        """CREATE TABLE r2p_owners (number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE,
            size INTEGER NOT NULL, latest INTEGER NOT NULL, edits INTEGER NOT NULL, secret BLOB)""",
        """CREATE TABLE r2p_items (position INTEGER PRIMARY KEY, owner INTEGER NOT NULL, id TEXT NOT NULL,
            moment INTEGER NOT NULL, body TEXT NOT NULL, UNIQUE (owner, id))""",
        "CREATE INDEX r2p_moments ON r2p_items (owner, moment)",
        # Words stand in it under users' keys; no text of an item does.
        "CREATE VIRTUAL TABLE r2p_words USING fts5(words, content='', detail=none, columnsize=0, tokenize='ascii')",
    ),
)


class _SQLiteConnection:
    """A connection within a transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, statement: str, values: Mapping[str, Any] = {}) -> list[Any]:  # never changed
        return self._connection.execute(statement, values).fetchall()

    def execute_many(self, statement: str, rows: Sequence[Mapping[str, Any]]) -> None:
        self._connection.executemany(statement, rows)


class SQLite(SQLStore):
    """Users' histories in one file. It needs no package beyond those of r2p-dspy itself.

    Writers wait for one another, in this process and in others; readers never wait. Each write is on the disk when its
    method returns. Only the file's owner can read it. It must not lie on a network file system.

    Args:
        path: the file; it is made if it does not exist. Its folder must exist.
        whole: see `SQLStore`.
        timeout: seconds that a writer waits for others before it gives up.

    Raises:
        StoreError: the file cannot be used: it is no store, or one of a newer version.

    Examples:
        >>> import tempfile
        >>> store = SQLite(Path(tempfile.mkdtemp()) / "histories.sqlite")
        >>> store.append("ada", [{"id": "m1", "text": "Rain in May.", "date": "2024-05-01"}])
        ['m1']
        >>> store.get("ada")[0].text, store.get("ada", since="2024-06-01").items
        ('Rain in May.', [])
        >>> store.delete_user("ada"), store.version("ada")
        (1, '')
    """

    def __init__(self, path: str | Path, *, whole: int = WHOLE, timeout: float = _TIMEOUT) -> None:
        super().__init__(whole)
        self.path, self._timeout = Path(path).absolute(), timeout
        self._writer, self._process, self._closed = threading.Lock(), os.getpid(), False
        self._idle: LifoQueue[sqlite3.Connection] = LifoQueue()
        if not self.path.parent.is_dir():
            raise StoreError(f"{self.path} cannot be made: there is no directory {self.path.parent}; make it first")
        try:
            self.path.touch(0o600)  # SQLite gives the files beside it the same permissions
        except OSError as error:
            raise StoreError(f"{self.path} cannot be used ({error.strerror}); give another file") from None
        with self._errors():
            self._migrate()

    def __repr__(self) -> str:
        return f"SQLite({str(self.path)!r})"

    def __deepcopy__(self, memo: dict[int, Any]) -> "SQLite":
        return self  # optimizers copy programs by the dozen

    def _migrate(self) -> None:
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")  # another process may be about to do the same
            with connection:
                names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
                if names and "r2p_store" not in names:
                    raise StoreError(f"{self.path} is a database of something else; give another file")
                if not names:
                    connection.execute("CREATE TABLE r2p_store (version INTEGER NOT NULL, unwiped INTEGER NOT NULL)")
                    connection.execute("INSERT INTO r2p_store VALUES (0, 0)")
                (found,) = connection.execute("SELECT version FROM r2p_store").fetchone()
                version = checked_version(self.path, found, len(_STEPS))
                for statement in (statement for step in _STEPS[version:] for statement in step):
                    connection.execute(statement)
                connection.execute("UPDATE r2p_store SET version = ?", (len(_STEPS),))

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, self._timeout, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # what was committed outlasts a power failure
        connection.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten
        return connection

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """A connection that no other thread uses meanwhile."""
        if self._closed:
            raise ConfigError(f"{self!r} is closed; open it again")
        self._leave_parent()
        try:
            connection = self._idle.get_nowait()
        except Empty:
            connection = self._open()
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        self._idle.put(connection)

    def _leave_parent(self) -> None:
        """Begin anew in a forked process: no connection may be carried into it, and a lock may be held for ever."""
        if self._process != os.getpid():
            self._process, self._idle, self._writer = os.getpid(), LifoQueue(), threading.Lock()

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._errors(), self._connection() as connection:
            connection.execute("BEGIN")
            with connection:
                yield _SQLiteConnection(connection)

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        self._leave_parent()
        with self._errors(), self._writer, self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            with connection:
                yield _SQLiteConnection(connection)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            busy = "locked" in str(error) or "busy" in str(error)
            if busy:
                what = (
                    f"another process has been writing for {self._timeout:g} seconds, so nothing was written; try again"
                )
            else:
                what = f"it cannot be used ({error}); free some space or give another file"
            raise StoreError(f"{self.path}: {what}") from error

    def _add_words(self, db: Connection, rows: Mapping[int, set[int]]) -> None:
        db.execute_many("INSERT INTO r2p_words (rowid, words) VALUES (:position, :words)", _indexed(rows))

    def _remove_words(self, db: Connection, rows: Mapping[int, set[int]]) -> None:
        statement = "INSERT INTO r2p_words (r2p_words, rowid, words) VALUES ('delete', :position, :words)"
        db.execute_many(statement, _indexed(rows))

    def _newest_with(self, db: Connection, word: int, limit: int) -> list[int]:
        statement = "SELECT rowid FROM r2p_words WHERE r2p_words MATCH :word ORDER BY rowid DESC LIMIT :limit"
        return [position for (position,) in db.execute(statement, {"word": f"{word:x}", "limit": limit})]

    def _overwrite(self) -> None:
        """Rewrite the file, and empty its log, which holds pages as they were. Writers wait meanwhile.

        `secure_delete` alone is not enough: where rows moved to another page, the first page keeps a copy.
        """
        try:
            with self._connection() as connection:
                connection.execute("VACUUM")
                (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: {_LEFT} ({error}); correct this and delete again") from error
        if busy:
            raise StoreError(f"{self.path}: {_LEFT}, since another process reads it; delete again")

    def close(self) -> None:
        """Close the file; SQLite removes its log when the last process does."""
        self._closed = True
        while True:
            try:
                connection = self._idle.get_nowait()
            except Empty:
                return
            with closing(connection):
                pass


def _indexed(rows: Mapping[int, set[int]]) -> list[dict[str, Any]]:
    """Rows of the full-text table; each word is one token to its tokenizer."""
    return [
        {"position": position, "words": " ".join(f"{word:x}" for word in sorted(keyed))}
        for position, keyed in rows.items()
    ]
