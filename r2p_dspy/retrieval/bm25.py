"""The BM25 retriever, which ranks as LaMP's official script does."""

from dataclasses import dataclass, replace

from r2p_dspy.profile import Item, Profile
from r2p_dspy.retrieval.index import index
from r2p_dspy.retrieval.retriever import Query, Text, check_k, item_text


@dataclass(frozen=True)
class BM25:
    """Retrieve the items whose words match the query best.

    Words are separated by white space; case counts. Scores and order, ties included, are those of
    `rank_bm25.BM25Okapi.get_top_n`. The index of a profile is built once and kept. Source: LaMP, `rank_profiles.py`.

    Args:
        k: the number of items to return, at least 0.
        query: what to make the query from, see `query_text`. The module that calls the retriever reads it.
        text: what of an item to match, see `item_text`. Field names can be pickled, lambdas cannot.

    Raises:
        ConfigError: `k` is negative or no integer.

    Examples:
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
        """Return a copy whose unset `query` and `text` have these values. Set ones are kept."""
        return replace(
            self,
            query=query if self.query is None else self.query,
            text=text if self.text is None else self.text,
        )

    def __call__(self, query: str, profile: Profile) -> Profile:
        return Profile(items=self.rank(query, profile)[: self.k])

    def rank(self, query: str, profile: Profile) -> list[Item]:
        """Return all items, best first."""
        items = list(profile)
        texts = [item_text(item, self.text) for item in items]
        ranked: list[Item] = index(texts).get_top_n(query.split(), items, n=len(items))
        return ranked
