"""The call cache: completed calls of language models on disk, so that no call is paid for twice."""

import json
import os
import sqlite3
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from r2p_dspy.errors import RunError

_FORMAT = 1
_RESERVE_BYTES = 1 << 20  # room for the answers that are on their way when the disk fills up
_TIMEOUT = 60.0  # seconds that one process waits for another process's write

_TABLE = """CREATE TABLE IF NOT EXISTS calls (
    key TEXT PRIMARY KEY, run TEXT, model TEXT, made REAL, times INTEGER,
    prompt INTEGER, completion INTEGER, usd REAL, seconds REAL, answer TEXT
) WITHOUT ROWID"""
_PUT = """INSERT INTO calls VALUES (?, ?, ?, ?, 1, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET
    run = excluded.run, made = excluded.made, times = times + 1, prompt = excluded.prompt,
    completion = excluded.completion, usd = excluded.usd, seconds = excluded.seconds, answer = excluded.answer"""
_USAGE = "SELECT COUNT(*), TOTAL(prompt), TOTAL(completion), TOTAL(usd), TOTAL(seconds) FROM calls WHERE run = ?"


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


@dataclass(frozen=True)
class Call:
    """A completed call."""

    outputs: list[Any]  # as `dspy.LM` returns them: texts, or dicts of text, thoughts, tool calls, …
    dspy_usage: dict[str, Any] = field(default_factory=dict)  # the usage entry that DSPy tracked
    usage: Usage = Usage(calls=1)
    readings: list[Any] = field(default_factory=list)  # what readers of the answer saw and replied; see `replay`
    replies: list[dict[str, Any]] = field(default_factory=list)  # how the answer ended, and more; see `Reply`


class CallCache:
    """Completed calls by a digest of their request. Threads and processes may share one; a kill loses nothing.

    It holds the models' answers, and so words from users' histories. Of prompts it holds a digest only. You may delete
    its directory at any time; then calls are paid for again.

    The directory is created if it is missing; RunError if it cannot be used. `run` is the id of the run that pays for
    new calls.

    Examples:
        >>> import tempfile
        >>> cache = CallCache(Path(tempfile.mkdtemp()), run="mine")
        >>> cache.put("key", "openai/gpt-4o-mini", Call(["[[ ## tag ## ]]"]))
        >>> cache.get("key").outputs, cache.usage("mine").calls
        (['[[ ## tag ## ]]'], 1)
    """

    def __init__(self, directory: Path, run: str = ""):
        self.path, self.run = directory / "ledger.sqlite", run
        self._reserve, self._lock = directory / "reserve", threading.Lock()
        try:
            directory.mkdir(parents=True, exist_ok=True)
            if not self._reserve.exists():
                self._reserve.write_bytes(os.urandom(_RESERVE_BYTES))  # random: a file system may compress zeros
            self._connection = sqlite3.connect(self.path, _TIMEOUT, isolation_level=None, check_same_thread=False)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute(_TABLE)
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
            if version not in (0, _FORMAT):
                raise RunError(f"{self.path} has another format version; remove it, or give another --calls")
            self._connection.execute(f"PRAGMA user_version = {_FORMAT}")
        except OSError as error:
            raise RunError(f"cannot write to {directory}: {error.strerror}; give another --calls") from None
        except sqlite3.Error as error:
            advice = "free some space" if "full" in str(error) else "remove it"
            raise RunError(f"{self.path} cannot be used ({error}); {advice}, or give another --calls") from None

    def get(self, key: str) -> Call | None:
        """The completed call with the digest of a request, or None; CallCacheFailed if the file cannot be read."""
        try:
            with self._lock:
                row = self._connection.execute("SELECT answer FROM calls WHERE key = ?", (key,)).fetchone()
        except sqlite3.Error as error:
            raise CallCacheFailed(
                f"cannot read {self.path} ({error}); remove it, or give another --calls, then go on with --resume"
            ) from None
        if row is None:
            return None
        answer = json.loads(row[0])
        replies = answer.get("replies", [])  # earlier versions stored none
        return Call(answer["outputs"], answer["usage"], Usage(**answer["spent"]), answer["readings"], replies)

    def put(self, key: str, model: str, call: Call) -> None:
        """Store a completed call; CallCacheFailed if the file cannot be written.

        On a full disk the reserve is freed, so that answers under way are stored all the same, if they fit.
        """
        usage = call.usage
        answer = {"outputs": call.outputs, "usage": call.dspy_usage, "spent": vars(usage)}
        answer |= {"readings": call.readings, "replies": call.replies}
        columns = (key, self.run, model, time.time(), usage.prompt, usage.completion, usage.usd, usage.seconds)
        try:
            row = (*columns, json.dumps(answer))
        except TypeError:  # something else than text, which this project never asks for
            return
        with self._lock:
            try:
                self._connection.execute(_PUT, row)
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
