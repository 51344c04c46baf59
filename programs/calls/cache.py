"""The ledger: every completed call of a language model, kept on disk, so that none is ever paid for twice."""

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
_RESERVE = 1 << 20  # bytes, for the answers that are on their way when the disk becomes full
_PATIENCE = 60.0  # seconds that one process waits for another one to have written

_TABLE = """CREATE TABLE IF NOT EXISTS calls (
    key TEXT PRIMARY KEY, run TEXT, model TEXT, made REAL, times INTEGER,
    prompt INTEGER, completion INTEGER, usd REAL, seconds REAL, answer TEXT
) WITHOUT ROWID"""
_KEEP = """INSERT INTO calls VALUES (?, ?, ?, ?, 1, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET
    run = excluded.run, made = excluded.made, times = times + 1, prompt = excluded.prompt,
    completion = excluded.completion, usd = excluded.usd, seconds = excluded.seconds, answer = excluded.answer"""
_SPENT = "SELECT COUNT(*), TOTAL(prompt), TOTAL(completion), TOTAL(usd), TOTAL(seconds) FROM calls WHERE run = ?"


class CallCacheFailed(BaseException):
    """The disk is full, or the file is broken. No `Exception`, which optimizers would swallow."""


@dataclass(frozen=True)
class Usage:
    """What calls took: their number, tokens of prompts and of completions, US dollars as far as known, seconds."""

    calls: int = 0
    prompt: int = 0
    completion: int = 0
    usd: float = 0.0
    seconds: float = 0.0

    @property
    def tokens(self) -> int:
        return self.prompt + self.completion

    def __add__(self, other: "Usage") -> "Usage":
        mine, others = vars(self), vars(other)
        return Usage(**{name: mine[name] + others[name] for name in mine})


@dataclass(frozen=True)
class Call:
    """A completed call.

    Args:
        outputs: what the model wrote, as `dspy.LM` returns it.
        usage: tokens, as DSPy counts them.
        spent: what it took.
        readings: what those who read along were shown and said (`r2p_dspy.decoding.replay`).
    """

    outputs: list[Any]
    usage: dict[str, Any] = field(default_factory=dict)
    spent: Usage = Usage(calls=1)
    readings: list[Any] = field(default_factory=list)


class CallCache:
    """Completed calls by what was asked. Threads and processes may share one; it survives a kill at any moment.

    It holds answers, and so words from users' histories; of prompts it holds a digest alone. It may be removed at any
    time: then calls are paid for again.

    Args:
        directory: its folder, made where there is none.
        run: who pays for the calls that are kept from now on.

    Raises:
        RunError: one line, for a folder that cannot be written, or a ledger that cannot be read.

    Example:
        >>> import tempfile
        >>> ledger = CallCache(Path(tempfile.mkdtemp()), run="mine")
        >>> ledger.keep("key", "openai/gpt-4o-mini", Call(["[[ ## tag ## ]]"]))
        >>> ledger.known("key").outputs, ledger.spent("mine").calls
        (['[[ ## tag ## ]]'], 1)
    """

    def __init__(self, directory: Path, run: str = ""):
        self.path, self.run = directory / "ledger.sqlite", run
        self._reserve, self._lock = directory / "reserve", threading.Lock()
        try:
            directory.mkdir(parents=True, exist_ok=True)
            if not self._reserve.exists():
                self._reserve.write_bytes(os.urandom(_RESERVE))  # random: a disk may pack zeros
            self._file = sqlite3.connect(self.path, _PATIENCE, isolation_level=None, check_same_thread=False)
            self._file.execute("PRAGMA journal_mode = WAL")
            self._file.execute("PRAGMA synchronous = NORMAL")
            self._file.execute(_TABLE)
            (found,) = self._file.execute("PRAGMA user_version").fetchone()
            if found not in (0, _FORMAT):
                raise RunError(f"{self.path} is of another version; remove it, or give another --calls")
            self._file.execute(f"PRAGMA user_version = {_FORMAT}")
        except OSError as error:
            raise RunError(f"cannot write to {directory}: {error.strerror}; give another --calls") from None
        except sqlite3.Error as error:
            advice = "free some space" if "full" in str(error) else "remove it"
            raise RunError(f"{self.path} cannot be used ({error}); {advice}, or give another --calls") from None

    def known(self, key: str) -> Call | None:
        """The call that was completed for this.

        Raises:
            CallCacheFailed: the file cannot be read any more.
        """
        try:
            with self._lock:
                found = self._file.execute("SELECT answer FROM calls WHERE key = ?", (key,)).fetchone()
        except sqlite3.Error as error:
            raise CallCacheFailed(
                f"cannot read {self.path} ({error}); remove it, or give another --calls, then go on with --resume"
            ) from None
        if found is None:
            return None
        kept = json.loads(found[0])
        return Call(kept["outputs"], kept["usage"], Usage(**kept["spent"]), kept["readings"])

    def keep(self, key: str, model: str, call: Call) -> None:
        """Keep a completed call.

        Raises:
            CallCacheFailed: the file cannot be written any more; on a full disk, what the reserve has room for is kept
                all the same.
        """
        spent = call.spent
        answer = {"outputs": call.outputs, "usage": call.usage, "spent": vars(spent), "readings": call.readings}
        row = (key, self.run, model, time.time(), spent.prompt, spent.completion, spent.usd, spent.seconds)
        try:
            values = (*row, json.dumps(answer))
        except TypeError:  # an answer of other things than text, which nothing here asks for
            return
        with self._lock:
            try:
                self._file.execute(_KEEP, values)
            except sqlite3.Error as error:
                self._reserve.unlink(missing_ok=True)
                try:
                    self._file.execute(_KEEP, values)
                    kept = "nothing that was paid for is lost"
                except sqlite3.Error:
                    kept = "an answer could not be kept"
                raise CallCacheFailed(
                    f"cannot write to {self.path} ({error}): {kept}; free some space, then go on with --resume"
                ) from None

    def spent(self, run: str) -> Usage:
        """What a run has paid for."""
        with self._lock:
            return Usage(*self._file.execute(_SPENT, (run,)).fetchone())

    def __len__(self) -> int:
        with self._lock:
            return self._file.execute("SELECT COUNT(*) FROM calls").fetchone()[0]

    @property
    def repeated(self) -> int:
        """How many calls were made again although they were kept."""
        with self._lock:
            return self._file.execute("SELECT COALESCE(SUM(times - 1), 0) FROM calls").fetchone()[0]

    def close(self) -> None:
        """Close the file; what is kept stays."""
        with self._lock:
            self._file.close()

    def __deepcopy__(self, memo: dict[int, Any]) -> "CallCache":
        return self  # optimizers copy programs, and with them their models
