"""BM25 over one user's texts: an index that scores as rank_bm25 does, to the last bit."""

import math
from collections.abc import Sequence
from itertools import chain

import numpy as np

from r2p_dspy.retrieval.cache import Store

_K1, _B, _EPSILON = 1.5, 0.75, 0.25  # rank_bm25's own, which LaMP's script leaves as they are


class Index:
    """`rank_bm25.BM25Okapi` turned round, from word to items: a query costs what its words occur, not words × items.

    Each number is reckoned by the same operations in the same order as `BM25Okapi` does it, so that scores are equal to
    the last bit, and with them the ties; what is left out there adds nothing but zeros.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self.size = len(texts)
        documents = [text.split() for text in texts]
        words = list(chain.from_iterable(documents))
        self.numbers = {word: number for number, word in enumerate(dict.fromkeys(words))}
        if not words:
            return
        lengths = np.array([len(document) for document in documents])
        numbers = np.fromiter(map(self.numbers.__getitem__, words), np.int64, len(words))
        # A pair of word and item is one number, so that sorting groups the items of a word.
        pairs, counts = np.unique(numbers * self.size + np.repeat(np.arange(self.size), lengths), return_counts=True)
        word, self.positions = np.divmod(pairs, self.size)
        items = np.bincount(word)  # how many have the word
        self.ends = [0, *np.cumsum(items).tolist()]  # where in the arrays a word's items end, and the next one's begin
        idf = np.array([math.log(self.size - n + 0.5) - math.log(n + 0.5) for n in range(self.size + 1)])[items]
        # `cumsum` adds one after another, as a loop does; `sum` would round otherwise.
        idf[idf < 0] = _EPSILON * (np.cumsum(idf)[-1] / len(idf))
        norm = _K1 * (1 - _B + _B * lengths / (len(words) / self.size))
        self.weights = idf[word] * (counts * (_K1 + 1) / (counts + norm[self.positions]))

    def scores(self, words: Sequence[str]) -> np.ndarray:
        """How well each text matches the words: an array (texts,), higher is better."""
        known = [self.numbers[word] for word in words if word in self.numbers]
        if not known:
            return np.zeros(self.size)
        places = [slice(self.ends[number], self.ends[number + 1]) for number in known]
        positions = np.concatenate([self.positions[place] for place in places])
        weights = np.concatenate([self.weights[place] for place in places])
        return np.bincount(positions, weights, self.size)  # adds in the words' order


# One store for all retrievers: optimizers copy modules by the dozen, and copies should share what was built.
# An index takes about a megabyte for a profile of some hundred items.
_indexes: Store[Index] = Store(64)


def index(texts: Sequence[str]) -> Index:
    """The index of exactly these texts, built once while it stays among the last used.

    Args:
        texts: one text for each item; words are what stands between white space, case kept.

    Returns:
        The index; asked again for equal texts, the same one.

    Example:
        >>> index(["rain again", "a storm", "love"]).scores(["rain"]).tolist()[1:]
        [0.0, 0.0]
        >>> index(["rain"]) is index(["rain"])
        True
    """
    return _indexes.get(tuple(texts), lambda: Index(texts))
