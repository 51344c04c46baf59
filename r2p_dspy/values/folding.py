"""Texts compared by meaning: what typography and case change is folded away, on both sides."""

import json
import re
import unicodedata
from collections.abc import Callable, Iterable
from decimal import Decimal
from functools import lru_cache
from itertools import chain, groupby

_QUOTE, _DASH, _REPLACEMENT, _IOTA_SUBSCRIPT = "'", "-", "\ufffd", "\u0345"
# Beside Unicode's initial and final quotes: straight ones, low ones, accents and primes used as quotes, letters used as
# apostrophes, corner brackets, Hebrew and Armenian marks, ornaments.
_QUOTES = frozenset("\"'`´‚„‛‟′″‴⁗‵‶‷ʹʺʻʼʽˈˊˋ՚׳״ꞌ「」『』｢｣〝〞〟＂＇❛❜❝❞❟❠❮❯🙶🙷🙸⹂")
_DASHES = frozenset("−⁃˗")  # beside Unicode's dashes
_PUNCTUATION = {"〜": "~", "。": ".", "、": ",", "⁄": "/", "∕": "/"}
# Beside control and format characters: the grapheme joiner, variation selectors, fillers.
_INVISIBLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
_JAMO = re.compile("[\u1100-\u11ff]")
_JOINING_JAMO = re.compile("[\u1161-\u11ff]")  # vowels and final consonants
_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?", re.ASCII)
_ESCAPES = re.compile(r"(?:\\(?:[\"\\/bfnrt]|u[0-9a-fA-F]{4}))+")  # of JSON
_EDGES = " .,;:()[]'"  # what may stand around a quote or a label, and is no part of it
_EDGES_OF_QUOTES = frozenset(f"{_EDGES}*_-")
_TRIES = 1000  # places that are looked at, so that a quote of half characters takes no quadratic time


def fold(text: str) -> str:
    """A text without its typography, to compare it with others that were folded too.

    It folds Unicode's compatible forms (full width, ligatures, fractions, digits of all scripts), case, all quote
    marks, dashes, ellipses, characters that are not seen (joiners, soft hyphens, variation selectors), and white space:
    of that, one space stays between two words, and none beside a punctuation mark or a symbol.

    Args:
        text: any text, halves of surrogate pairs included.

    Returns:
        The folded text, decomposed (NFD). Folding it again changes nothing.

    Examples:
        >>> fold("It’s  “GREAT” … a co‑op") == fold('it\\'s "great"... a co-op')
        True
        >>> fold("Ｃafe\\u0301") == fold("café"), fold("now here") == fold("nowhere")
        (True, False)
    """
    return _located(text)[0]


def find_quote(quote: str, text: str) -> str | None:
    """The stretch of a text that a quote means, in the text's own characters.

    Quote and text are compared folded. The quote must cover whole characters of the text: `e` is no quote of `é`. Where
    the quote does not stand there as it is, the marks around it are left out: quotes, brackets, an ellipsis, a full
    stop. Prompts show items as JSON, so a quote may bear JSON's escapes. Words that a quote skips are not forgiven.

    Args:
        quote: what was written. It needs a letter, a number or a symbol such as an emoji, unless it is the whole text.
        text: the text of the item.

    Returns:
        A part of `text`, or None where the quote does not stand in it. It takes about linear time.

    Examples:
        >>> find_quote('"great" film', "It’s a “Great”  film.")
        '“Great”  film'
        >>> find_quote("…a lighthouse…", "Nothing but a lighthouse in the rain")
        'a lighthouse'
        >>> find_quote("a lighthouse … rain", "a lighthouse in the rain") is None
        True
    """
    exact = quote.strip()
    if not _says_something(fold(quote)):
        return exact if exact and exact == text.strip() else None
    if exact in text:
        return exact
    folded, places = _located(text)
    unescaped = _ESCAPES.sub(lambda escapes: json.loads(f'"{escapes[0]}"'), quote)
    for written in (quote, unescaped, _inner(quote), _inner(unescaped)):
        wanted = fold(written)
        if _says_something(wanted) and (start := _whole(wanted, folded, places)) is not None:
            end = places[start + len(wanted) - 1] + 1
            while end < len(text) and not _parts(text[end]):
                end += 1
            return text[places[start] : end]
    return None


def meant(label: str, labels: Iterable[str]) -> str | None:
    """The label, of those there are, that a text means.

    The label itself comes first, then one that differs in typography and case, in the marks around it, or in the way a
    number is written. A text that could mean two of them means none.

    Args:
        label: what was written, such as `"Romance."`.
        labels: the labels there are.

    Returns:
        One of `labels`, or None.

    Examples:
        >>> meant('"Romance."', ["romance", "dark comedy"]), meant("4.0", ["4", "5"]), meant("drama", ["romance"])
        ('romance', '4', None)
        >>> meant("c", ["C", "C++", "C#"]), meant("c++.", ["C", "C++", "C#"]), meant("a", ["A", "Á"])
        ('C', 'C++', 'A')
        >>> meant("A", ["a.", "a!"]), meant("a", ["A", "Ａ"]) is None
        ('a.', True)
    """
    known = dict.fromkeys(labels)
    for read in _READINGS:
        written = read(label)
        if written == "":
            return None
        fitting = [each for each in known if read(each) == written]
        if fitting:
            return fitting[0] if len(fitting) == 1 else None
    return None


def same_label(first: str, second: str, labels: Iterable[str] = ()) -> bool:
    """Whether two texts mean the same label (see `meant`).

    Args:
        first, second: the texts.
        labels: the labels that are known to differ from each other; () where nothing is known.

    Examples:
        >>> same_label("Sci‑Fi ", "sci-fi"), same_label("4", "４.0"), same_label("C", "C++")
        (True, True, False)
        >>> same_label("A.", "A"), same_label("A.", "A", ["A", "A."])
        (True, False)
    """
    known = tuple(labels)
    first_label, second_label = meant(first, known), meant(second, known)
    if first_label is not None and second_label is not None:
        return first_label == second_label
    return meant(first, (second,)) is not None


def _located(text: str) -> tuple[str, list[int]]:
    """A text folded, and for each folded character the place of the character that it comes from (-1 for a space)."""
    folded: list[str] = [""]
    places: list[int] = []
    gap = False  # whether there was white space since the last character
    for place, char in enumerate(text):
        for part in _parts(char):
            if part == " ":
                gap = True
                continue
            if gap and folded[-1] and _in_word(folded[-1]) and _in_word(part):
                folded.append(" ")
                places.append(-1)
            gap = False
            if part == folded[-1] and part in (_QUOTE, _DASH):  # `` for “, -- for a long dash
                continue
            folded.append(part)
            places.append(place)
    return _ordered("".join(folded)), places


def _ordered(text: str) -> str:
    """A decomposed text with the marks of each character in Unicode's order; `normalize` takes quadratic time to it."""
    if text.isascii():
        return text
    runs = (sorted(run, key=unicodedata.combining) for _, run in groupby(text, _is_mark))
    # The iota below, sorted last, is a letter again.
    return "".join(chain.from_iterable(runs)).replace(_IOTA_SUBSCRIPT, "ι")


def _is_mark(char: str) -> bool:
    return unicodedata.combining(char) > 0


@lru_cache(maxsize=2**16)
def _parts(char: str) -> str:
    """What one character folds to."""
    folded = "".join(map(_step, char))
    return folded if folded == char else "".join(map(_parts, folded))


def _step(char: str) -> str:
    category = unicodedata.category(char)
    if char.isspace():
        return " "
    if category in ("Cc", "Cf") or _INVISIBLE.match(char):
        return ""
    if category == "Cs":  # as in prompts, which no half of a pair can reach
        return _REPLACEMENT
    if char in _PUNCTUATION:
        return _PUNCTUATION[char]
    if category in ("Pi", "Pf") or char in _QUOTES:
        return _QUOTE
    if category == "Pd" or char in _DASHES:
        return _DASH
    if category == "Nd":
        return str(unicodedata.decimal(char))
    return _decomposed(char)


def _decomposed(char: str) -> str:
    compatible = unicodedata.normalize("NFKD", char)
    # An accent alone is no space, and the letters of "ㅋㅋ" make no syllable with their neighbours.
    if compatible[0] == " " or _JAMO.match(compatible):
        compatible = unicodedata.normalize("NFD", char)
    if unicodedata.decomposition(char).startswith("<fraction>"):
        return f" {compatible}"  # 1½ is no 11/2
    if compatible != char or char == _IOTA_SUBSCRIPT:
        return compatible
    return char.upper().casefold()  # in capitals first, where a dotless i is like any other


@lru_cache(maxsize=2**16)
def _in_word(char: str) -> bool:
    return unicodedata.category(char)[0] in "LMN"


def _says_something(folded: str) -> bool:
    return any(char.isalnum() or unicodedata.category(char) == "So" for char in folded)


def _inner(quote: str) -> str:
    """A quote without the marks around it. `⑴` is one character and no mark."""
    inner = [place for place, char in enumerate(quote) if not _EDGES_OF_QUOTES.issuperset(_parts(char))]
    return quote[inner[0] : inner[-1] + 1] if inner else ""


def _whole(wanted: str, folded: str, places: list[int]) -> int | None:
    """Where a folded text stands in another as whole characters; None where it does not."""

    def between(index: int) -> bool:
        """Whether no character of the text goes on here."""
        if index in (0, len(folded)):
            return True
        joined = unicodedata.category(folded[index])[0] == "M" or _JOINING_JAMO.match(folded[index])
        return not joined and places[index - 1] != places[index]

    start = folded.find(wanted)
    for _ in range(_TRIES):
        if start < 0:
            return None
        if between(start) and between(start + len(wanted)):
            return start
        start = folded.find(wanted, start + 1)
    return None


def _bare(label: str) -> str | Decimal:
    """A label without the marks around it; a number as a number."""
    bare = fold(label).strip(_EDGES)
    emphasis = bare[:1] if bare[:1] in ("*", "_") and bare[-1:] == bare[:1] else ""  # on both sides: A* is a grade
    bare = bare.strip(f"{_EDGES}{emphasis}")
    return Decimal(bare) if _NUMBER.fullmatch(bare) else bare.removeprefix(_DASH).lstrip()


# From the strictest reading of a label to the loosest.
_READINGS: tuple[Callable[[str], str | Decimal], ...] = (
    str,
    str.strip,
    fold,
    lambda label: fold(label).strip(" '"),
    _bare,
)
