"""Strangers' texts made safe to show: on one line, and without the characters that a terminal obeys.

`programs.text.one_line` is the same for the command line, whose `--help` must not import this library.
"""

import re

# Control characters, marks that turn the direction of writing, halves of characters: a terminal obeys or refuses them.
# Tags (U+E0000) and the byte order mark are not seen at all, and models read them.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff\U000e0000-\U000e007f]")
_LINE_BREAKS = "\t\n"


def one_line(text: str) -> str:
    """Put a text on one line and replace every character that a terminal obeys.

    Examples:
        >>> one_line("so \\x1b[2J it\\n rained")
        'so �[2J it rained'
    """
    return _UNSAFE.sub("\ufffd", " ".join(text.split()))


def visible(text: str) -> str:
    """Replace every character that a terminal or a page obeys, but for tabs and line breaks.

    Examples:
        >>> visible("so \\x00 it\\n\\u202erained")
        'so � it\\n�rained'
    """
    return _UNSAFE.sub(lambda match: match[0] if match[0] in _LINE_BREAKS else "\ufffd", text)
