"""What a user wrote, to be found in other texts: whole, or six words in a row of it."""

from collections.abc import Iterable, Iterator
from typing import Any

from r2p_dspy.values.words import words

_QUOTE = 6  # words in a row; see `r2p_dspy.redaction`
_LEAST = 12  # characters of a shorter text that is looked for as a whole


class UserTexts:
    """The texts of a user's items.

    A text is found where it stands as a whole, if it is long enough to be telling, and where six words in a row of it
    stand; case, accents' encoding and punctuation aside.

    Args:
        texts: the texts.

    Examples:
        >>> texts = UserTexts(["The sea was calm all night, and I slept.", "Rain"])
        >>> texts.stand_in("He said: the sea was calm ALL night"), texts.stand_in("Rain at sea")
        (True, False)
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self.all = [*dict.fromkeys(texts)]
        self._sequences: set[tuple[str, ...]] = set()
        for text in self.all:
            found = words(text)
            if len(found) >= _QUOTE or len(text) >= _LEAST:
                self._sequences.update(_in_a_row(found, min(len(found), _QUOTE)))
        self._lengths = sorted({len(sequence) for sequence in self._sequences} - {0})

    def stand_in(self, text: str) -> bool:
        """Whether one of the texts, or a quote of it, stands in a text."""
        found = words(text) if self._lengths else []
        return any(not self._sequences.isdisjoint(_in_a_row(found, length)) for length in self._lengths)

    def are_in(self, data: Any) -> bool:
        """Whether one of the texts, or a quote of it, stands anywhere in a piece of JSON."""
        return any(map(self.stand_in, strings(data)))


def strings(data: Any) -> Iterator[str]:
    """Every text in a piece of JSON, names included."""
    if isinstance(data, str):
        yield data
    elif isinstance(data, dict):
        for name, value in data.items():
            yield name
            yield from strings(value)
    elif isinstance(data, list):
        for value in data:
            yield from strings(value)


def _in_a_row(found: list[str], length: int) -> Iterator[tuple[str, ...]]:
    return zip(*(found[start:] for start in range(length)))
