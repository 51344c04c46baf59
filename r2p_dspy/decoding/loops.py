"""When a text repeats itself: the one definition of a loop for texts that are still being written."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_SHORTEST, _LONGEST = 6, 120  # characters of the passage that repeats
_ENDLESS_TIMES, _ENDLESS_CHARACTERS = 12, 600
_stops: ContextVar[bool] = ContextVar("r2p_stops_loops", default=True)
WINDOW = _ENDLESS_TIMES * _LONGEST  # characters at the end of a text that tell


def repeats(text: str, times: int, characters: int = 0) -> bool:
    """Whether a text ends with one passage of 6 to 120 characters, again and again.

    Args:
        text: what has been written so far.
        times: how often the passage must stand there in a row, at least.
        characters: how long the repetition must be as a whole, at least. Rulers and rows of a table are short.

    Examples:
        >>> repeats("It is sad. " * 5, times=5), repeats("=" * 80, times=5, characters=600)
        (True, False)
    """
    for size in range(_SHORTEST, _LONGEST + 1):
        needed = max(times, -(-characters // size))
        if size * needed <= len(text) and text.endswith(text[-size:] * needed):
            return True
    return False


def is_endless(text: str) -> bool:
    """Whether an answer repeats itself for ever. The bar is high: lists, tables and refrains repeat too.

    Examples:
        >>> is_endless("It is sad. " * 5), is_endless("It is sad. " * 60)
        (False, True)
    """
    return repeats(text[-WINDOW:], _ENDLESS_TIMES, _ENDLESS_CHARACTERS)


@contextmanager
def stopping_loops(stops: bool) -> Iterator[None]:
    """Say whether answers that repeat themselves for ever are ended within."""
    token = _stops.set(stops)
    try:
        yield
    finally:
        _stops.reset(token)


def stops_loops() -> bool:
    """Whether an answer that repeats itself for ever is to be ended here."""
    return _stops.get()
