"""The call cache: completed calls of language models on disk, so that no call is paid for twice."""

import hashlib
import json
import os
import sqlite3
import threading
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from r2p_dspy.errors import RunError

_FORMAT = 2
_RESERVE_BYTES = 1 << 20  # room for the answers that are on their way when the disk fills up
_TIMEOUT = 60.0  # seconds that one process waits for another process's write
_SYNC_SECONDS = 1.0  # a power failure loses the calls of at most so many seconds; a killed process loses none

_TABLE = """CREATE TABLE IF NOT EXISTS calls (
    key BLOB NOT NULL UNIQUE, user BLOB, run TEXT, model TEXT, made REAL, times INTEGER,
    prompt INTEGER, completion INTEGER, usd REAL, seconds REAL, answer BLOB
)"""
_GET = "SELECT prompt, completion, usd, seconds, answer FROM calls WHERE key = ?"
_PUT = """INSERT INTO calls VALUES (?, ?, ?, ?, ?, 1, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET
    user = excluded.user, run = excluded.run, made = excluded.made, times = times + 1, prompt = excluded.prompt,
    completion = excluded.completion, usd = excluded.usd, seconds = excluded.seconds, answer = excluded.answer"""
_USAGE = "SELECT COUNT(*), TOTAL(prompt), TOTAL(completion), TOTAL(usd), TOTAL(seconds) FROM calls WHERE run = ?"
# The first format kept the answers as they were, in a table that took several times their room.
_UPGRADE = (
    "ALTER TABLE calls RENAME TO first_format",
    _TABLE,
    """INSERT INTO calls
        SELECT digest(key), NULL, run, model, made, times, prompt, completion, usd, seconds, packed(answer)
        FROM first_format""",
    "DROP TABLE first_format",
)


class CallCacheFailed(BaseException):
    """The disk is full, or the file is broken. Not an `Exception`, because optimizers would swallow that."""


@dataclass(frozen=True)
class Usage:
    """What calls took: their number, tokens of prompts and completions, US dollars (0 if unknown), seconds."""

    calls: int = 0
    prompt: int = 0
    completion: int = 0
    usd: float = 0.0
    seconds: float = 0.0

    @property
    def tokens(self) -> int:
        """Tokens of prompts and completions."""
        return self.prompt + self.completion

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(**{name: value + getattr(other, name) for name, value in vars(self).items()})

    def __sub__(self, other: "Usage") -> "Usage":
        return Usage(**{name: value - getattr(other, name) for name, value in vars(self).items()})


@dataclass(frozen=True)
class Call:
    """A completed call."""

    outputs: list[Any]  # as `dspy.LM` returns them: texts, or dicts of text, thoughts, tool calls, …
    dspy_usage: dict[str, Any] = field(default_factory=dict)  # the usage entry that DSPy tracked
    usage: Usage = Usage(calls=1)
    readings: list[Any] = field(default_factory=list)  # what readers of the answer saw and replied; see `replay`
    replies: list[dict[str, Any]] = field(default_factory=list)  # how the answer ended, and more; see `Reply`


class StoredCalls(Protocol):
    """What stores completed calls, see `CallCache`: on this machine, or where another process keeps them."""

    by_row: bool

    def get(self, key: str) -> Call | None: ...

    def put(self, key: str, model: str, call: Call, user: str | None = None) -> None: ...


class CallCache:
    """Completed calls by a digest of their request. Threads and processes may share one; a kill loses nothing.

    It holds the models' answers, and so words from users' histories. Of prompts and of users' ids it holds digests
    only. `forget` deletes a user's calls. You may delete its directory at any time; then calls are paid for again.

    The directory is created if it is missing.

    Args:
        directory: where it is; a cache of answers to other requests may be there.
        run: the id of the run that pays for new calls.
        by_row: answer a call only by one that was made for the same row (see `answering`). Programs that are measured
            side by side, and rows that ask the same, then draw their answers each for itself.

    Raises:
        RunError: if the directory cannot be used.

    Examples:
        >>> import tempfile
        >>> cache = CallCache(Path(tempfile.mkdtemp()), run="mine")
        >>> cache.put("key", "openai/gpt-4o-mini", Call(["[[ ## tag ## ]]"]), user="ada")
        >>> cache.get("key").outputs, cache.usage("mine").calls
        (['[[ ## tag ## ]]'], 1)
        >>> cache.forget("ada"), cache.get("key")
        (1, None)
    """

    def __init__(self, directory: Path, run: str = "", *, by_row: bool = False):
        self.path, self.run, self.by_row = directory / "ledger.sqlite", run, by_row
        self._reserve, self._lock, self._synced = directory / "reserve", threading.Lock(), 0.0
        try:
            directory.mkdir(parents=True, exist_ok=True)
            if not self._reserve.exists():
                self._reserve.write_bytes(os.urandom(_RESERVE_BYTES))  # random: a file system may compress zeros
            self.path.touch(0o600)  # SQLite gives the files beside it the same permissions
            self._connection = sqlite3.connect(self.path, _TIMEOUT, isolation_level=None, check_same_thread=False)
            self._open()
        except OSError as error:
            raise RunError(f"cannot write to {directory}: {error.strerror}; give another --calls") from None
        except sqlite3.Error as error:
            advice = "free some space" if "full" in str(error) else "remove it"
            raise RunError(f"{self.path} cannot be used ({error}); {advice}, or give another --calls") from None

    def _open(self) -> None:
        execute = self._connection.execute
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten
        execute("BEGIN IMMEDIATE")  # another process may be about to upgrade the file too
        with self._connection:
            (version,) = execute("PRAGMA user_version").fetchone()
            if version not in (0, 1, _FORMAT):
                raise RunError(f"{self.path} has another format version; remove it, or give another --calls")
            self._connection.create_function("digest", 1, _digest)
            self._connection.create_function("packed", 1, lambda answer: _pack(json.loads(answer)))
            for statement in _UPGRADE if version == 1 else (_TABLE,):
                execute(statement)
            execute(f"PRAGMA user_version = {_FORMAT}")

    def get(self, key: str) -> Call | None:
        """The completed call with the digest of a request, or None; CallCacheFailed if the file cannot be read."""
        try:
            with self._lock:
                row = self._connection.execute(_GET, (_digest(key),)).fetchone()
            if row is None:
                return None
            *spent, packed = row
            answer = json.loads(zlib.decompress(packed))
        except (sqlite3.Error, zlib.error, ValueError) as error:
            raise CallCacheFailed(
                f"cannot read {self.path} ({error}); remove it, or give another --calls, then go on with --resume"
            ) from None
        replies = answer.get("replies", [])  # the first format stored none
        return Call(answer["outputs"], answer["usage"], Usage(1, *spent), answer["readings"], replies)

    def put(self, key: str, model: str, call: Call, user: str | None = None) -> None:
        """Store a completed call, of a user if one is named; CallCacheFailed if the file cannot be written.

        On a full disk the reserve is freed, so that answers under way are stored all the same, if they fit.
        """
        usage, owner = call.usage, None if user is None else _digest(user)
        answer = {"outputs": call.outputs, "usage": call.dspy_usage, "readings": call.readings, "replies": call.replies}
        spent = (usage.prompt, usage.completion, usage.usd, usage.seconds)
        try:
            row = (_digest(key), owner, self.run, model, time.time(), *spent, _pack(answer))
        except TypeError:  # something else than text, which this project never asks for
            return
        with self._lock:
            try:
                self._write(row)
            except sqlite3.Error as error:
                self._reserve.unlink(missing_ok=True)
                try:
                    self._connection.execute(_PUT, row)
                    outcome = "all paid answers are stored"
                except sqlite3.Error:
                    outcome = "an answer could not be stored"
                raise CallCacheFailed(
                    f"cannot write to {self.path} ({error}): {outcome}; free some space, then go on with --resume"
                ) from None

    def _write(self, row: tuple[Any, ...]) -> None:
        """Store a row; the disk has it, and those before it, once a second at most."""
        due = time.monotonic() - self._synced >= _SYNC_SECONDS
        self._connection.execute(f"PRAGMA synchronous = {'FULL' if due else 'NORMAL'}")
        self._connection.execute(_PUT, row)
        if due:
            self._synced = time.monotonic()

    def forget(self, user: str) -> int:
        """Delete the calls that were made for a user, and those made for no one in particular; returns their number.

        The calls of optimizers are made for no one in particular: an instruction may quote several users. Deleted
        texts are overwritten on disk. Calls of other users stay.
        """
        with self._lock:
            deleted = self._connection.execute("DELETE FROM calls WHERE user = ? OR user IS NULL", (_digest(user),))
            self._connection.execute("VACUUM")  # where rows moved to another page, the first page kept a copy
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return deleted.rowcount

    def usage(self, run: str) -> Usage:
        """What the run of an id has paid for."""
        with self._lock:
            return Usage(*self._connection.execute(_USAGE, (run,)).fetchone())

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def __deepcopy__(self, memo: dict[int, Any]) -> "CallCache":
        return self  # optimizers copy programs, and with them their models


def _digest(name: str) -> bytes:
    return hashlib.sha256(name.encode(errors="backslashreplace")).digest()[:16]


def _pack(answer: dict[str, Any]) -> bytes:
    return zlib.compress(json.dumps(answer, separators=(",", ":")).encode())
