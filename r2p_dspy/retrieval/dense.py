"""Dense retrieval: the items whose vectors are the most similar to the query's."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from r2p_dspy.errors import ConfigError
from r2p_dspy.profile import Item, Profile
from r2p_dspy.retrieval.cache import Store
from r2p_dspy.retrieval.retriever import Query, Text, check_k, item_text

Embedder = Callable[[list[str]], Any]


@dataclass(frozen=True)
class Dense:
    """The items that are the most similar in meaning to the query, the earlier of two that are equally so first.

    The vectors of a profile's content are made once and used again, also by copies of this retriever; the last used
    512 profiles are kept, which takes a quarter of a megabyte for 80 items of 768 numbers.

    Args:
        embedder: takes a list of texts and returns an array (texts, d) of numbers: a `dspy.Embedder`, the `encode` of a
            sentence-transformers model, what `embedder("NAME")` of `r2p_dspy.retrieval.embedders` gives, any function.
            It is called from as many threads as the retriever is.
        k: how many items to return, at least 0.
        query: see `query_text`; used by the module that calls the retriever.
        text: see `item_text`.
        normalize: compare by cosine; False: by inner product, as LaMP's script does with Contriever.

    Raises:
        ValueError: for a negative `k`, an embedder that cannot be called; in a call, for one that does not return a
            row of finite numbers for each text.

    Example:
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
    _kept: Store[np.ndarray] = field(default_factory=lambda: Store(512), init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_k(self.k)
        if not callable(self.embedder):
            raise ConfigError(
                f"an embedder takes a list of texts and returns an array, and {self.embedder!r} cannot be called; "
                "r2p_dspy.retrieval.embedders.embedder(NAME) makes one from a model's name"
            )

    def __deepcopy__(self, memo: dict[int, Any]) -> "Dense":
        return self  # optimizers copy modules by the dozen; the embedder's weights are not to be copied with them

    def __call__(self, query: str, profile: Profile) -> Profile:
        if not self.k or not profile:
            return Profile()
        return Profile(items=self.rank(query, profile)[: self.k])

    def rank(self, query: str, profile: Profile) -> list[Item]:
        """All items, best first."""
        if not profile:
            return []
        items = list(profile)
        texts = tuple(item_text(item, self.text) for item in items)
        vectors = self._kept.get(texts, lambda: self._distinct(texts))
        [asked] = self._vectors([query])
        if vectors.shape[1] != len(asked):
            raise ConfigError(
                f"the embedder returned vectors of {len(asked)} numbers for the query and of {vectors.shape[1]} for "
                "the items; they must be equally long"
            )
        # Row by row, not as one product of matrices, whose rounding differs from row to row: equal rows are to tie.
        scores = (vectors * asked.astype(np.float64)).sum(axis=1)
        return [items[position] for position in np.argsort(-scores, kind="stable")]

    def _distinct(self, texts: Sequence[str]) -> np.ndarray:
        """The vectors of texts; equal texts are sent once, and get equal vectors."""
        distinct = list(dict.fromkeys(texts))
        numbers = {text: number for number, text in enumerate(distinct)}
        return self._vectors(distinct)[[numbers[text] for text in texts]]

    def _vectors(self, texts: list[str]) -> np.ndarray:
        """What the embedder makes of texts, as an array (texts, d), of unit length where that is asked for."""
        made = self.embedder(texts)
        try:
            vectors = np.asarray(made, dtype=np.float32)
        except (TypeError, ValueError, RuntimeError) as error:  # ragged, no numbers, on a GPU
            reason = (str(error).splitlines() or [""])[0]
            raise ConfigError(f"what the embedder returned cannot be read as an array of numbers ({reason})") from error
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
