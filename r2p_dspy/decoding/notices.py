"""What an engine has to say about a call besides its answer, such as that a server ignored a constraint."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

logger = logging.getLogger(__name__)
_collector: ContextVar[list[str] | None] = ContextVar("r2p_notices", default=None)


@contextmanager
def collect_notices(notices: list[str] | None = None) -> Iterator[list[str]]:
    """The notices of the calls in this block, in order; appended to `notices`, if given. An inner block has its own.

    Examples:
        >>> with collect_notices() as notices:
        ...     notice("the server ignored the grammar")
        >>> notices
        ['the server ignored the grammar']
    """
    notices = [] if notices is None else notices
    token = _collector.set(notices)
    try:
        yield notices
    finally:
        _collector.reset(token)


def notice(text: str) -> None:
    """Log a warning of one line, and tell the block around this call."""
    logger.warning(text)
    notices = _collector.get()
    if notices is not None:
        notices.append(text)
