"""Whose calls are made now. Of several servers, one is to answer them and to find their beginnings in its cache."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_owner: ContextVar[str | None] = ContextVar("r2p_calls_of", default=None)


@contextmanager
def calls_of(owner: str | None) -> Iterator[None]:
    """Calls within are made for one owner, such as a user; None for no one in particular."""
    token = _owner.set(owner)
    try:
        yield
    finally:
        _owner.reset(token)


def current_owner() -> str | None:
    """Whose calls are made now; None outside `calls_of`."""
    return _owner.get()
