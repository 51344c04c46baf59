"""The words of a text in any script: for search, likeness, word limits and redaction."""

import unicodedata
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import regex

# Letters of scripts that put no spaces between words. `Complex_Context` is Unicode's name for Thai, Lao, Khmer, Myanmar
# and their kin; the long-vowel mark of Japanese belongs to no script.
_UNSPACED = r"[[\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Line_Break=Complex_Context}ー]&&[\p{L}\p{Nl}]]"
_OTHER = rf"[\p{{L}}\p{{N}}]--{_UNSPACED}--\p{{Hangul}}"
_RUN = regex.compile(
    rf"(?P<unspaced>(?:{_UNSPACED}\p{{M}}*)+)"
    r"|(?P<hangul>(?:\p{Hangul}\p{M}*)+)"
    rf"|(?P<word>[{_OTHER}][{_OTHER}||\p{{M}}]*)"
    r"|(?P<emoji>\p{Regional_Indicator}{2}|\p{Extended_Pictographic})",
    regex.V1,
)
_CHARACTER = regex.compile(r"\P{M}\p{M}*")
_UNSPACED_CHARACTER = regex.compile(rf"{_UNSPACED}\p{{M}}*", regex.V1)
_UNSPACED_END = regex.compile(rf"{_UNSPACED}\p{{M}}*$", regex.V1)
_HAN = regex.compile(r"\p{Han}")
_LETTER = rf"[[\p{{L}}\p{{N}}\p{{M}}_]--{_UNSPACED}]"  # what a word goes on with
_ASCII_WORD = regex.compile(r"[a-z0-9]+")
_CLUSTER = regex.compile(r"\X")  # what a reader takes for one character
# Joiners, direction marks, soft hyphens, emoji selectors: they change how a word looks, not which word it is.
_IGNORED = regex.compile(r"\p{Default_Ignorable_Code_Point}+")
# To sort the marks of one letter, `normalize` takes quadratic time. No language has more than 30: Unicode's stream-safe
# text format (UAX #15).
_EXCESS = regex.compile(r"(\p{M}{30})\p{M}++")


class Unit(NamedTuple):
    """A word, or one character of a script without spaces, with its place in the text.

    Args:
        text: the folded word or character.
        start, end: its place in the original text, as in a slice.
        unspaced: whether it is a character of a script without spaces.
    """

    text: str
    start: int
    end: int
    unspaced: bool


def fold_case(text: str) -> str:
    """Fold what does not change a word: case, Unicode's normal and compatibility forms, invisible characters.

    Source: Unicode's compatibility caseless matching (section 3.13, D146), without default-ignorable characters, and
    without marks beyond thirty on one letter.

    Examples:
        >>> fold_case("Ｓtraße") == fold_case("STRASSE"), fold_case("cafe\\u0301") == fold_case("CAFÉ")
        (True, True)
    """
    if text.isascii():
        return text.lower()
    text = _EXCESS.sub(r"\1", _IGNORED.sub("", text))
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold()).casefold()
    return unicodedata.normalize("NFKC", folded)


def words(text: str) -> list[str]:
    """Return the words of a text in any script, folded (see `fold_case`), in order.

    A word is a run of letters, digits and their marks, or an emoji. Scripts without spaces (Chinese, Japanese, Thai,
    Lao, Khmer, Myanmar) give every two neighbouring characters, and each Chinese character. Korean words of more than
    two syllables also give every two neighbouring syllables, because particles are written onto words. For ASCII text
    the words are those of rouge-score.

    Examples:
        >>> words("Don't panic: naïve CAFÉS 🎉")
        ['don', 't', 'panic', 'naïve', 'cafés', '🎉']
        >>> words("东京塔"), words("カメラ"), words("고양이를")
        (['东', '东京', '京', '京塔', '塔'], ['カメ', 'メラ'], ['고양이를', '고양', '양이', '이를'])
    """
    found: list[str] = []
    if text.isascii():
        found += _ASCII_WORD.findall(text.lower())
        return found
    for match in _RUN.finditer(fold_case(text)):
        run = match[0]
        if match["unspaced"]:
            found += _grams(_CHARACTER.findall(run))
        elif match["hangul"] and len(syllables := _CHARACTER.findall(run)) > 2:
            found += [run, *map("".join, pairwise(syllables))]
        else:
            found.append(run)
    return found


def turkish_words(text: str) -> list[str]:
    """Return the words of a Turkish or Azerbaijani text, in which I is the capital of ı, and İ that of i.

    Examples:
        >>> turkish_words("İSTANBUL, ILIK") == turkish_words("istanbul ılık")
        True
    """
    return words(text.replace("I\u0307", "i").replace("İ", "i").replace("I", "ı"))


def count_words(text: str) -> int:
    """Count words as a writer does, for limits.

    Each character of a script without spaces counts as one word. Elsewhere what stands between white space is one
    word, if it has a letter, a digit or an emoji.

    Examples:
        >>> count_words("Don't stop - it's well-made!"), count_words("我爱你。"), count_words("iPhone 手机")
        (4, 3, 3)
    """
    rest, characters = _UNSPACED_CHARACTER.subn(" ", fold_case(text))
    return int(characters) + sum(_RUN.search(piece) is not None for piece in rest.split())


def has_phrase(text: str, phrase: str) -> bool:
    """Whether a text has these words, not inside a longer word; or these characters, in a script without spaces.

    Examples:
        >>> has_phrase("Keys, ASAP!", "asap"), has_phrase("a soapy asapx", "asap"), has_phrase("这是垃圾邮件", "垃圾")
        (True, False, True)
    """
    folded = fold_case(phrase)
    behind = "" if _UNSPACED_CHARACTER.match(folded) else f"(?<!{_LETTER})"
    ahead = "" if _UNSPACED_END.search(folded) else f"(?!{_LETTER})"
    return regex.search(behind + regex.escape(folded) + ahead, fold_case(text), regex.V1) is not None


def units(text: str) -> list[Unit]:
    """Return the words of a text with their places, a script without spaces character by character.

    Examples:
        >>> [(unit.text, text[unit.start : unit.end]) for text in ["Ｈi 东京"] for unit in units(text)]
        [('hi', 'Ｈi'), ('东', '东'), ('京', '京')]
    """
    folded, places = _placed(text)
    found = []
    for match in _RUN.finditer(folded):
        unspaced = match["unspaced"] is not None
        parts = _CHARACTER.finditer(folded, *match.span()) if unspaced else [match]
        found += [Unit(part[0], places[part.start()][0], places[part.end() - 1][1], unspaced) for part in parts]
    return found


def _grams(characters: list[str]) -> list[str]:
    """Every two neighbouring characters, and each Chinese character, which is a word more often than not."""
    if len(characters) == 1:
        return characters
    found = []
    for index, character in enumerate(characters):
        if _HAN.match(character):
            found.append(character)
        if index + 1 < len(characters):
            found.append(character + characters[index + 1])
    return found


def _placed(text: str) -> tuple[str, list[tuple[int, int]]]:
    """The folded text and, for each of its characters, the place in the text that it comes from."""
    if text.isascii():
        return text.lower(), [(index, index + 1) for index in range(len(text))]
    pieces, places = [], []
    for cluster in _CLUSTER.finditer(text):
        piece = _fold_cluster(cluster[0])
        pieces.append(piece)
        places += [cluster.span()] * len(piece)
    return "".join(pieces), places


_fold_cluster = lru_cache(maxsize=4096)(fold_case)
