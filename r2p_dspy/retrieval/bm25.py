"""BM25, as LaMP's official script ranks."""

from dataclasses import dataclass, replace

import numpy as np

from r2p_dspy.profile import Item, Profile
from r2p_dspy.retrieval.index import index
from r2p_dspy.retrieval.retriever import Query, Text, check_k, item_text


@dataclass(frozen=True)
class BM25:
    """The items whose words match the query best, as LaMP's official script ranks them, ties included.

    Words are what stands between white space, case kept; the score is `rank_bm25.BM25Okapi`'s and the order that of
    its `get_top_n` (LaMP, `rank_profiles.py`). An index is built once for a profile's content and used again.

    Args:
        k: how many items to return, at least 0.
        query: see `query_text`; used by the module that calls the retriever.
        text: see `item_text`. Field names can be pickled, lambdas cannot.

    Raises:
        ValueError: for a negative `k`.

    Example:
        >>> texts = {"1": "a diver finds love", "2": "rain in the city", "3": "a storm"}
        >>> films = Profile.of([{"id": name, "text": text} for name, text in texts.items()])
        >>> [item.id for item in BM25(k=1)("love under water", films)]
        ['1']
    """

    k: int = 4
    query: Query | None = None
    text: Text | None = None

    def __post_init__(self) -> None:
        check_k(self.k)

    def bind(self, query: Query | None = None, text: Text | None = None) -> "BM25":
        """A copy in which what was left open is filled in; what was given stays."""
        return replace(
            self,
            query=query if self.query is None else self.query,
            text=text if self.text is None else self.text,
        )

    def __call__(self, query: str, profile: Profile) -> Profile:
        return Profile(items=self.rank(query, profile)[: self.k])

    def rank(self, query: str, profile: Profile) -> list[Item]:
        """All items, best first."""
        items = list(profile)
        scores = index([item_text(item, self.text) for item in items]).scores(query.split())
        # By numpy's default sort, turned round, because that alone settles ties as `get_top_n` does.
        return [items[position] for position in np.argsort(scores)[::-1]]
