"""What the makers read: a message with its subject, whoever wrote it and wherever it was kept."""

import re
from datetime import UTC, datetime
from typing import NamedTuple

from programs.text import truncate

MOST_CHARACTERS = 2000  # of a body; the rest is cut
_LEAST_WORDS = {"subject": 2, "body": 6}
_MOST_SUBJECT = 150  # characters
_WORD = re.compile(r"\w+")
_ADDRESS = re.compile(r"<?(?:mailto:)?(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+>?")
_LINK = re.compile(r"<?\b(?:https?|ftp|git|ssh)://[^\s<>]+>?|<?\bwww\.[^\s<>]+>?")
_LINK_IN_PARENTHESES = re.compile(rf" ?\((?:see|cf\.?|from|via|at)?:?\s*(?:{_LINK.pattern.replace('<>', '<>()')})\s*\)")


class Message(NamedTuple):
    """A message that can become a question or an item of a history.

    Args:
        author: who wrote it: an address or a name; it leaves the makers as a salted hash alone.
        time: when, in seconds since 1970 (UTC).
        subject: what the author called it, without what nobody can foresee (numbers of issues, `Re:`).
        body: the text, on one line, without quotes, trailers, links and addresses.
    """

    author: str
    time: int
    subject: str
    body: str

    @property
    def date(self) -> str:
        """The day, as LaMP's files have it: `YYYY-MM-DD`."""
        return datetime.fromtimestamp(self.time, UTC).date().isoformat()


def flaw(message: Message) -> str | None:
    """Why a message is of no use, in a word or two for the summary; None if it is of use.

    Examples:
        >>> flaw(Message("ada", 0, "parser: keep tabs", "A tab is eight columns wide in all editors."))
        >>> flaw(Message("ada", 0, "parser: keep tabs", "See above."))
        'short bodies'
    """
    try:
        too_early = message.time < 0 or not message.date
    except (ValueError, OverflowError, OSError):
        too_early = True
    if too_early or not message.author:
        return "broken headers"
    if _too_short(message.body, "body"):
        return "short bodies"
    if _too_short(message.subject, "subject") or len(message.subject) > _MOST_SUBJECT:
        return "unusable subjects"
    return None


def plain(text: str) -> str:
    """A text on one line, without links, e-mail addresses and lines that hold nothing else.

    Examples:
        >>> plain("It rained in\\nParis (see https://rain.example/x).\\n<ada@rain.example>")
        'It rained in Paris.'
    """
    lines = (_ADDRESS.sub("", _LINK.sub("", line)) for line in _LINK_IN_PARENTHESES.sub("", text).splitlines())
    return " ".join(" ".join(line.split()) for line in lines if _WORD.search(line))


def shortened(body: str, subject: str) -> str:
    """A body without the subject that it begins with, cut to `MOST_CHARACTERS` at a word.

    Examples:
        >>> shortened("parser: keep tabs. Editors show eight columns.", "parser: keep tabs")
        'Editors show eight columns.'
    """
    if subject and body.casefold().startswith(subject.casefold()):
        body = body[len(subject) :].lstrip(" .:-")
    if len(body) <= MOST_CHARACTERS:
        return body
    head, _, _ = truncate(body, MOST_CHARACTERS).rpartition(" ")
    return head or body[:MOST_CHARACTERS]


def _too_short(text: str, what: str) -> bool:
    """Whether a text has too few words; a script without spaces has about two letters a word."""
    found = _WORD.findall(text)
    letters = 0 if text.isascii() else sum(len(word) for word in found if not word.isascii())
    return max(len(found), letters // 2) < _LEAST_WORDS[what]
