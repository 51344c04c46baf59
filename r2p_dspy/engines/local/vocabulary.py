"""The texts of a model's tokens, in order."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence


class Vocabulary:
    """Finds the tokens that begin with a text.

    Args:
        texts: the bytes of each token, by its id; empty for a special one.

    Examples:
        >>> Vocabulary([b"", b"a", b"ab", b"b", b"abc"]).longer(b"a")
        [2, 4]
    """

    def __init__(self, texts: Sequence[bytes]) -> None:
        self.texts = texts
        self._ids = sorted(range(len(texts)), key=texts.__getitem__)
        self._sorted = [texts[token] for token in self._ids]

    def longer(self, text: bytes) -> list[int]:
        """The ids of the tokens that begin with a text and are longer than it."""
        start = bisect_right(self._sorted, text)
        return self._ids[start : bisect_left(self._sorted, text + b"\xff" * 4, start)]
