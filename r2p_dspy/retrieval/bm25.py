"""The BM25 retriever: for text in any language, and as LaMP's official script ranks."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from r2p_dspy.errors import ConfigError
from r2p_dspy.profile import Item, Profile
from r2p_dspy.retrieval.index import index
from r2p_dspy.retrieval.retriever import Query, Text, check_k, item_text
from r2p_dspy.retrieval.sample import Sample
from r2p_dspy.values.words import words


@dataclass(frozen=True)
class BM25:
    """Retrieve the items whose words match the query best.

    Words are those of any script, in any case and Unicode form (see `r2p_dspy.values.words.words`). Scores and order of
    these words, ties included, are those of `rank_bm25.BM25Okapi.get_top_n`; with `tokenize=str.split` they are those
    of LaMP's script, `rank_profiles.py`. The index of a profile is built once and kept. Of a long history in a profile
    store it gets a part, and weighs words by their frequency in the whole.

    Args:
        k: the number of items to return, at least 0.
        query: what to make the query from, see `query_text`. The module that calls the retriever reads it.
        text: what of an item to match, see `item_text`. Field names can be pickled, lambdas cannot.
        tokenize: a function from a text to its list of words: of queries and of items.

    Raises:
        ConfigError: `k` is negative or no integer, or `tokenize` cannot be called.

    Examples:
        >>> texts = {"1": "a diver finds love", "2": "rain in the city", "3": "a storm"}
        >>> films = Profile.of([{"id": name, "text": text} for name, text in texts.items()])
        >>> [item.id for item in BM25(k=1)("love under water", films)]
        ['1']
        >>> notes = Profile.of([{"id": text[0], "text": text} for text in ("1 小猫睡了", "2 下雨", "3 喝茶")])
        >>> [item.id for item in BM25(k=1)("猫", notes)]
        ['1']
    """

    k: int = 4
    query: Query | None = None
    text: Text | None = None
    tokenize: Callable[[str], list[str]] = words

    def __post_init__(self) -> None:
        check_k(self.k)
        if not callable(self.tokenize):
            raise ConfigError(f"tokenize is a function from a text to a list of words, not {self.tokenize!r}")

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
        if isinstance(profile, Sample):
            return profile.ranked(query, self.tokenize, texts)
        ranked: list[Item] = index(texts, self.tokenize).get_top_n(self.tokenize(query), items, n=len(items))
        return ranked

    def matches(self, query: str, items: Profile) -> bool:
        """Whether any of these items has a word of the query."""
        wanted = set(self.tokenize(query))
        return any(not wanted.isdisjoint(self.tokenize(item_text(item, self.text))) for item in items)
