"""Quotes that stand in an item by construction: runs of whole words of its texts."""

import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from r2p_dspy.decoding.grammar.lark import encodable
from r2p_dspy.values.words import units

_PIECE = 40  # characters, about; longer words (addresses, encoded files) count as several

# White space that JSON writes as itself or with a letter. What it writes as numbers counts as punctuation.
_SPACE = re.compile(r"([^\S\x0b\x1c-\x1f\x85\u2028\u2029]+)")
_FILLERS = "\u115f\u1160\u3164\uffa0"  # letters that are not seen, and say nothing


@dataclass(frozen=True)
class Escaping:
    """How a notation writes a quote.

    Args:
        escape: writes a piece of text.
        breaks: matches what no quote may hold, such as the beginning of a tag.
        space: a regular expression for a character of white space as it is written, in Rust's dialect.
        word: one for any other character.
    """

    escape: Callable[[str], str]
    breaks: re.Pattern[str] | None
    space: str
    word: str


def beginnings(texts: Sequence[str], characters: int) -> tuple[str, ...]:
    """The first characters of an item's texts, without the word at which they are cut.

    Examples:
        >>> beginnings(["a lighthouse", "in the rain", "again"], 19)
        ('a lighthouse', 'in the')
    """
    kept: list[str] = []
    left = characters
    for text in texts:
        if left <= 0:
            break
        cut = text[:left]
        kept.append(cut[: cut.rfind(" ")] if cut != text and " " in cut.strip() else cut)
        left -= len(text)
    return tuple(kept)


@lru_cache(maxsize=256)
def quote_of(texts: tuple[str, ...], escaping: Escaping, least: int, most: int) -> str | None:
    """The body of a terminal that accepts the quotes of an item, as they are written.

    Args:
        texts: the item's texts, as the prompt shows them.
        escaping: how the quote is written.
        least, most: the number of words, separated by white space. An item of fewer words can be quoted whole.

    Returns:
        The terminal's body, or None for an item of which nothing can be quoted.

    Examples:
        >>> from r2p_dspy.decoding.grammar.notation import Xml
        >>> print(quote_of(("a lighthouse, in rain",), Xml().escaping, 1, 2).partition(" & ")[0])
        (%regex {"substring_chunks": ["a", " ", "lighthouse", ",", " ", "in", " ", "rain"]})
        >>> quote_of(("", " "), Xml().escaping, 1, 2) is None
        True
    """
    stretches = [stretch for text in texts for stretch in _stretches(encodable(text), escaping) if _speaks(stretch)]
    if not stretches:
        return _whole(texts, escaping)
    chunked = (json.dumps(_escaped(stretch, escaping)) for stretch in stretches)
    runs = " | ".join(f'%regex {{"substring_chunks": {chunks}}}' for chunks in chunked)
    # A quote begins with a character that says something, so that it is more than punctuation.
    silent = sorted({char for stretch in stretches for char in set(stretch) if not _says(char)})
    first = r"[^\s\\\"&<>" + "".join(rf"\u{{{ord(char):x}}}" for char in silent) + "]"
    fewest = min(least, max(map(_count, stretches)))
    word, space = escaping.word, escaping.space
    words = f"{first}({word}){{0,{_PIECE - 1}}}(({space})+({word}){{1,{_PIECE}}}){{{fewest - 1},{most - 1}}}"
    return f"({runs}) & /{words}/"


def _stretches(text: str, escaping: Escaping) -> Iterator[str]:
    """The parts of a text within which quotes may run, without white space at their ends."""
    start = 0
    for match in escaping.breaks.finditer(text) if escaping.breaks else ():
        yield text[start : match.start()].strip()
        start = match.end()
    yield text[start:].strip()


def _escaped(text: str, escaping: Escaping) -> list[str]:
    chunks = _chunks(text)
    return chunks if escaping.escape(text) == text else [escaping.escape(chunk) for chunk in chunks]


def _chunks(text: str) -> list[str]:
    """A text in chunks between which a quote may begin and end: white space, words, and punctuation around words."""
    chunks: list[str] = []
    for place, token in enumerate(_SPACE.split(text)):
        plain = token.isascii() and len(token) <= _PIECE
        if place % 2 or (plain and token.isalnum()):
            chunks.append(token)
            continue
        start, end = 0, len(token)
        while start < end and not _says(token[start]):
            start += 1
        while end > start and not _in_word(token[end - 1]):
            end -= 1
        cuts = {0, start, end, len(token)}
        if not token.isascii():
            cuts.update(cut for unit in units(token) if unit.unspaced for cut in (unit.start, unit.end))
        ordered = sorted(cuts)
        for left, right in pairwise(ordered):
            chunks += [token[cut : min(cut + _PIECE, right)] for cut in range(left, right, _PIECE)]
    return chunks


def _whole(texts: tuple[str, ...], escaping: Escaping) -> str | None:
    """The whole of an item that has no words, such as `???`, which nothing shorter can quote."""
    text = encodable(" ".join(texts)).strip()
    if not text or len(text) > _PIECE or (escaping.breaks and escaping.breaks.search(text)):
        return None
    return json.dumps(escaping.escape(text))


def _count(text: str) -> int:
    """The number of words of a quote that surely exists: 1 where a word is too long to be one piece."""
    words = _SPACE.split(text)[::2]
    return len(words) if all(len(word) <= _PIECE for word in words) else 1


def _in_word(char: str) -> bool:
    return char.isalnum() or unicodedata.category(char) in ("Mn", "Mc", "Me", "So")


def _speaks(text: str) -> bool:
    return any(map(_says, text))


def _says(char: str) -> bool:
    return (char.isalnum() and char not in _FILLERS) or unicodedata.category(char) == "So"
