"""Whose calls are made now: the row of the data that a program answers, and the user that the row is of."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

_current: ContextVar["RowCalls | None"] = ContextVar("r2p_row_calls", default=None)


@dataclass
class RowCalls:
    """The calls that are made to answer one row."""

    row: tuple[str, ...]
    user: str
    _times: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def key(self, request: str) -> str:
        """The key of the row's next call with the digest of a request: a repeated request is another call.

        Examples:
            >>> calls = RowCalls(("r2p", "7"), user="ada")
            >>> calls.key("d"), calls.key("d"), calls.key("e")
            ("d ('r2p', '7') 1", "d ('r2p', '7') 2", "e ('r2p', '7') 1")
        """
        with self._lock:
            self._times[request] += 1
            return f"{request} {self.row} {self._times[request]}"


@contextmanager
def answering(*row: str, user: str) -> Iterator[None]:
    """Calls within are made for a row, named by what tells it from others, and for a user."""
    token = _current.set(RowCalls(row, user))
    try:
        yield
    finally:
        _current.reset(token)


def current_row() -> RowCalls | None:
    """The row that calls are made for now; None outside `answering`."""
    return _current.get()
