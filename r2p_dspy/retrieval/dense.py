"""Dense retrieval: choose the items whose vectors are most similar to the query's."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from r2p_dspy.errors import ConfigError
from r2p_dspy.profile import Item, Profile
from r2p_dspy.retrieval.cache import LRUCache
from r2p_dspy.retrieval.retriever import Query, Text, check_k, item_text

_CACHE_BYTES = 256 * 2**20
Embedder = Callable[[list[str]], Any]  # returns what numpy reads as an array (texts, d)


@dataclass(frozen=True)
class Dense:
    """Retrieve the items whose meaning is most similar to the query's. On a tie, the earlier item comes first.

    The vectors of a profile are made once, and kept while the last used ones take at most 256 MiB with their texts.
    That is enough for a thousand profiles of 80 items of 768 numbers. Copies of the retriever share them.

    Args:
        embedder: a function from a list of texts to an array (texts, d) of numbers: a `dspy.Embedder`, the `encode` of
            a sentence-transformers model, or the result of `r2p_dspy.retrieval.embedders.embedder(NAME)`. Threads that
            share the retriever call it at the same time.
        k: the number of items to return, at least 0.
        query: what to make the query from, see `query_text`. The module that calls the retriever reads it.
        text: what of an item to match, see `item_text`.
        normalize: True to compare by cosine, False by inner product, as LaMP's script does with Contriever.

    Raises:
        ConfigError: `k` is negative, or the embedder cannot be called. When called: the embedder does not return a
            row of finite numbers for each text.

    Examples:
        >>> def colours(texts):
        ...     return [[text.count("red"), text.count("blue")] for text in texts]
        >>> profile = Profile.of([{"id": "1", "text": "a blue car"}, {"id": "2", "text": "a red or blue car"}])
        >>> [item.id for item in Dense(colours, k=1)("red", profile)]
        ['2']
    """

    embedder: Embedder
    k: int = 4
    query: Query | None = None
    text: Text | None = None
    normalize: bool = True
    _vectors: LRUCache[np.ndarray] = field(
        default_factory=lambda: LRUCache(_CACHE_BYTES, _bytes), init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        check_k(self.k)
        if not callable(self.embedder):
            raise ConfigError(
                f"an embedder is a function from a list of texts to an array; {self.embedder!r} cannot be called; "
                "make one from a model's name with r2p_dspy.retrieval.embedders.embedder(NAME)"
            )

    def __deepcopy__(self, memo: dict[int, Any]) -> "Dense":
        return self  # optimizers copy modules by the dozen; the embedder's weights must not be copied with them

    def __call__(self, query: str, profile: Profile) -> Profile:
        if not self.k:
            return Profile()
        return Profile(items=self.rank(query, profile)[: self.k])

    def rank(self, query: str, profile: Profile) -> list[Item]:
        """Return all items, best first."""
        if not profile:
            return []
        items = list(profile)
        texts = tuple(item_text(item, self.text) for item in items)
        vectors = self._vectors.get(texts, lambda: self._embed_distinct(texts))
        [wanted] = self._embed([query])
        if vectors.shape[1] != len(wanted):
            raise ConfigError(
                f"the embedder returned vectors of {len(wanted)} numbers for the query and of {vectors.shape[1]} for "
                "the items; they must be equally long"
            )
        # Row by row: one product of matrices rounds each row differently, and equal rows must tie.
        scores = (vectors * wanted.astype(np.float64)).sum(axis=1)
        return [items[position] for position in np.argsort(-scores, kind="stable")]

    def _embed_distinct(self, texts: Sequence[str]) -> np.ndarray:
        """Embed texts; equal texts are sent once and get equal vectors."""
        distinct = list(dict.fromkeys(texts))
        numbers = {text: number for number, text in enumerate(distinct)}
        return self._embed(distinct)[[numbers[text] for text in texts]]

    def _embed(self, texts: list[str]) -> np.ndarray:
        """Embed texts and check the result: an array (texts, d), with rows of unit length if `normalize`."""
        output = self.embedder(texts)
        try:
            vectors = np.asarray(output, dtype=np.float32)
        except (TypeError, ValueError, RuntimeError) as error:  # ragged, no numbers, on a GPU
            reason = (str(error).splitlines() or [""])[0]
            raise ConfigError(f"the embedder's output cannot be read as an array of numbers ({reason})") from error
        if vectors.ndim != 2 or len(vectors) != len(texts) or not vectors.size:
            raise ConfigError(
                f"the embedder returned an array of shape {vectors.shape} for {len(texts)} texts; it must be "
                "(texts, numbers)"
            )
        finite = np.isfinite(vectors).all(axis=1)
        if not finite.all():
            text = texts[int(np.argmin(finite))]
            raise ConfigError(f"the embedder returned numbers that are not finite for the text {text[:60]!r}")
        if not self.normalize:
            return vectors
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
        return (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def _bytes(texts: tuple[str, ...], vectors: np.ndarray) -> int:
    return vectors.nbytes + sum(map(sys.getsizeof, texts))
