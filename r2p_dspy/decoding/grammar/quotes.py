"""Quotes that stand in an item by construction: runs of whole words of its texts."""

import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from r2p_dspy.decoding.grammar.lark import encodable
from r2p_dspy.values.words import units

MOST_CHARACTERS = 20_000  # of an item that can be quoted, from its beginning
_PIECE = 40  # characters, about; longer words (addresses, encoded files) count as several

# A space that JSON writes as itself or with a letter; the rarer ones that it writes as numbers count as punctuation.
_SPACE = r"[^\S\x0b\x1c-\x1f\x85\u2028\u2029]+"
_TOKEN = re.compile(rf"{_SPACE}|(?:(?!{_SPACE}).)+", re.DOTALL)
_IS_SPACE = re.compile(_SPACE)
_FILLERS = "\u115f\u1160\u3164\uffa0"  # letters that are not seen, and say nothing


@dataclass(frozen=True)
class Escaping:
    """How a notation writes a quote.

    Args:
        escape: writes a piece of text.
        breaks: matches what no quote may hold, such as the beginning of a tag.
        unit: a regular expression for one character as it is written, in Rust's dialect.
        space: one for a character of white space; other characters than these are part of a word.
        word: one for a character of a word.
    """

    escape: Callable[[str], str]
    breaks: re.Pattern[str] | None
    unit: str
    space: str
    word: str


def quote_of(texts: tuple[str, ...], escaping: Escaping, least: int, most: int) -> str | None:
    """The body of a terminal that accepts the quotes of an item, as they are written.

    Args:
        texts: the item's texts, as the prompt shows them.
        escaping: how the quote is written.
        least, most: the number of words, separated by white space. An item of fewer words can be quoted whole.

    Returns:
        The terminal's body, or None for an item of which nothing can be quoted.
    """
    return _quote_of(texts, escaping, least, most)


@lru_cache(maxsize=256)
def _quote_of(texts: tuple[str, ...], escaping: Escaping, least: int, most: int) -> str | None:
    stretches = [stretch for text in _beginnings(texts) for stretch in _stretches(text, escaping) if _speaks(stretch)]
    if not stretches:
        return _whole(texts, escaping)
    chunked = [[escaping.escape(chunk) for chunk in _chunks(stretch)] for stretch in stretches]
    runs = " | ".join(f'%regex {{"substring_chunks": {json.dumps(chunks)}}}' for chunks in chunked)
    fewest = min(least, max(map(_count, stretches)))
    word = f"({escaping.word}){{1,{_PIECE}}}"
    size = f"/{word}(({escaping.space})+{word}){{{fewest - 1},{most - 1}}}/"
    says = f"/({escaping.unit})*[[\\p{{L}}\\p{{N}}\\p{{So}}]--[{_FILLERS}]]({escaping.unit})*/"
    return f"({runs}) & {size} & {says}"


def _beginnings(texts: tuple[str, ...]) -> Iterator[str]:
    left = MOST_CHARACTERS
    for text in texts:
        if left <= 0:
            return
        if len(text) > left:  # without the word at which it is cut, if there are others
            cut = text[:left]
            text = cut[: cut.rfind(" ")] if " " in cut.strip() else cut
            left = 0
        left -= len(text)
        yield encodable(text)


def _stretches(text: str, escaping: Escaping) -> Iterator[str]:
    """The parts of a text within which quotes may run, without white space at their ends."""
    start = 0
    for match in escaping.breaks.finditer(text) if escaping.breaks else ():
        yield text[start : match.start()].strip()
        start = match.end()
    yield text[start:].strip()


def _chunks(text: str) -> list[str]:
    """A text in chunks between which a quote may begin and end: white space, words, and punctuation around words."""
    chunks: list[str] = []
    for token in _TOKEN.findall(text):
        if _IS_SPACE.match(token):
            chunks.append(token)
            continue
        start, end = 0, len(token)
        while start < end and not _in_word(token[start]):
            start += 1
        while end > start and not _in_word(token[end - 1]):
            end -= 1
        cuts = {0, start, end, len(token)}
        if not token.isascii():
            cuts.update(place for unit in units(token) if unit.unspaced for place in (unit.start, unit.end))
        ordered = sorted(cuts)
        for left, right in zip(ordered, ordered[1:]):
            chunks += [token[place : min(place + _PIECE, right)] for place in range(left, right, _PIECE)]
    return chunks


def _whole(texts: tuple[str, ...], escaping: Escaping) -> str | None:
    """The whole of an item that has no words, such as `???`, which nothing shorter can quote."""
    text = encodable(" ".join(texts)).strip()
    if not text or len(text) > _PIECE or (escaping.breaks and escaping.breaks.search(text)):
        return None
    return json.dumps(escaping.escape(text))


def _count(text: str) -> int:
    """The number of words of a quote that surely exists: 1 where a word is too long to be one piece."""
    words = _IS_SPACE.split(text)
    return len(words) if all(len(word) <= _PIECE for word in words) else 1


def _in_word(char: str) -> bool:
    return char.isalnum() or unicodedata.category(char) in ("Mn", "Mc", "Me", "So")


def _speaks(text: str) -> bool:
    return any(map(_says, text))


def _says(char: str) -> bool:
    return (char.isalnum() and char not in _FILLERS) or unicodedata.category(char) == "So"
