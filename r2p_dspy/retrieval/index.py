"""BM25 over one user's texts: rank_bm25's own index, with a faster look-up of scores."""

import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from rank_bm25 import BM25Okapi

from r2p_dspy.retrieval.cache import LRUCache

_NUMBER_BYTES = 32  # of a number object of Python


class Index(BM25Okapi):
    """`rank_bm25.BM25Okapi` with postings: for each word, the documents that have it and what it adds to their scores.

    `get_scores` and `get_top_n` give exactly what rank_bm25 gives, ties included. A query takes time for the
    occurrences of its words only, not for words times documents. A corpus without words, by which rank_bm25 divides,
    scores zero.

    Args:
        corpus: the words of each document.
        earlier: an index of the documents before these. The result is that of all documents together, to the last bit,
            and the words of the earlier ones need not be found again.

    Examples:
        >>> Index([["rain", "again"], ["a", "storm"], ["love"]]).get_top_n(["love"], ["1", "2", "3"], n=1)
        ['3']
    """

    texts: tuple[str, ...] = ()  # of the documents, where `index` made it

    def __init__(self, corpus: Sequence[Sequence[str]], earlier: "Index | None" = None) -> None:
        self._earlier = earlier
        super().__init__(corpus)  # type: ignore[no-untyped-call]
        self._earlier = None  # it need not be kept
        self._numbers = {word: number for number, word in enumerate(self.idf)}
        lengths = [len(frequencies) for frequencies in self.doc_freqs]
        total = sum(lengths)
        words = np.fromiter(map(self._numbers.__getitem__, chain.from_iterable(self.doc_freqs)), np.intp, total)
        counts = np.fromiter(chain.from_iterable(map(dict.values, self.doc_freqs)), np.intp, total)
        order = np.argsort(words, kind="stable")  # groups the postings of a word
        words, counts, self._documents = words[order], counts[order], np.repeat(np.arange(len(lengths)), lengths)[order]
        self._ends = [0, *np.cumsum(np.bincount(words)).tolist()]  # where the postings of a word end
        idf, doc_len = np.array([*self.idf.values()]), np.array(self.doc_len)
        # The operations and their order are those of `BM25Okapi.get_scores`, so each number is equal to the last bit.
        norm = self.k1 * (1 - self.b + self.b * doc_len / (self.avgdl or 1))
        self._weights = idf[words] * (counts * (self.k1 + 1) / (counts + norm[self._documents]))

    def _initialize(self, corpus: Sequence[Sequence[str]]) -> Any:  # rank_bm25 is untyped
        self._having: dict[str, int] = {}  # the number of documents that have a word
        if self._earlier is not None:
            self._having |= self._earlier._having
            self.doc_len, self.doc_freqs = [*self._earlier.doc_len], [*self._earlier.doc_freqs]
            self.corpus_size = self._earlier.corpus_size
        if corpus:  # by whose number it divides
            for word, count in super()._initialize(corpus).items():  # type: ignore[no-untyped-call]
                self._having[word] = self._having.get(word, 0) + count
        self.avgdl = sum(self.doc_len) / (self.corpus_size or 1)
        return self._having

    def _calc_idf(self, nd: Mapping[str, int]) -> None:
        if nd:  # by whose number it divides
            super()._calc_idf(nd)  # type: ignore[no-untyped-call]

    def get_scores(self, query: Sequence[str]) -> np.ndarray:
        """How well each document matches the words: an array (documents,), higher is better."""
        numbers = [self._numbers[word] for word in query if word in self._numbers]
        if not numbers:
            return np.zeros(self.corpus_size)
        postings = [slice(self._ends[number], self._ends[number + 1]) for number in numbers]
        documents = np.concatenate([self._documents[part] for part in postings])
        weights = np.concatenate([self._weights[part] for part in postings])
        return np.bincount(documents, weights, self.corpus_size)  # adds in the order of the words, as a loop does

    def __sizeof__(self) -> int:
        """The memory that the index takes, in bytes: words, postings, and the documents' frequencies, roughly."""
        words = sum(map(sys.getsizeof, self.idf)) + sys.getsizeof(self.idf) + sys.getsizeof(self._numbers)
        frequencies = sum(map(sys.getsizeof, self.doc_freqs))
        words += sys.getsizeof(self._having)
        numbers = 2 * _NUMBER_BYTES * len(self.idf) + _NUMBER_BYTES * len(self.doc_len) + 8 * len(self._ends)
        return int(words + frequencies + numbers + self._documents.nbytes + self._weights.nbytes)


def index(texts: Sequence[str], tokenize: Callable[[str], list[str]]) -> Index:
    """Return the index of these texts. It is built once, and kept while the last used ones take at most 256 MiB.

    Where an index of the first of these texts is kept, as of a history that grows, only the others are split into
    words.
    """
    known = tuple(texts)

    def build() -> Index:
        earlier = _latest.get((tokenize, *known[:1]))
        if earlier is not None and earlier.texts != known[: len(earlier.texts)]:
            earlier = None
        words = [] if earlier is None else earlier.idf
        shared = {word: word for word in words}  # one object for each word, however many texts have it
        new = known if earlier is None else known[len(earlier.texts) :]
        built = Index([[shared.setdefault(word, word) for word in tokenize(text)] for text in new], earlier)
        built.texts = known
        _latest[(tokenize, *known[:1])] = built
        return built

    return _indexes.get((tokenize, *known), build)


def _bytes(key: tuple[object, ...], index: Index) -> int:
    return sys.getsizeof(index) + sum(map(sys.getsizeof, key))


# One cache for all retrievers: optimizers copy modules by the dozen, and copies should share the indexes.
_indexes: LRUCache[Index] = LRUCache(256 * 2**20, _bytes)
# The last index of texts that begin alike, while the cache keeps it.
_latest: WeakValueDictionary[tuple[object, ...], Index] = WeakValueDictionary()


def clear() -> None:
    """Keep no index: they hold the words of users' texts."""
    _indexes.clear()
