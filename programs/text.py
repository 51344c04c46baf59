"""Make strangers' texts safe and short enough for one line of a terminal."""

import re
from typing import Any

# Control characters, marks that turn the direction of writing, halves of characters: a terminal obeys or refuses them.
# Tags (U+E0000) and the byte order mark are not seen at all, and models read them.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff\U000e0000-\U000e007f]")


def one_line(text: str) -> str:
    """Put a text on one line and replace every character that a terminal obeys.

    Examples:
        >>> one_line("so \\x1b[2J it\\n rained")
        'so �[2J it rained'
    """
    return _UNSAFE.sub("\ufffd", " ".join(text.split()))


def truncate(text: str, length: int) -> str:
    """Cut a text after `length` characters; an ellipsis marks the cut."""
    return text if len(text) <= length else f"{text[:length]}…"


def short_repr(value: Any, length: int = 60) -> str:
    """The first `length` characters of a value's `repr`.

    Examples:
        >>> short_repr(["rain"] * 100, 12)
        "['rain', 'ra…"
    """
    try:
        return truncate(repr(value), length)
    except RecursionError:
        return f"a {type(value).__name__} of many levels"
