"""Retrievers that wrap others: a fusion of several, and a budget of tokens."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import dspy

from r2p_dspy.engines.connect import count_tokens
from r2p_dspy.errors import ConfigError
from r2p_dspy.profile import Item, Profile
from r2p_dspy.retrieval.retriever import Query, Retriever, check_k, matches


@dataclass(init=False)
class Hybrid:
    """Join several retrievers by reciprocal rank fusion.

    Each retriever adds 1 / (constant + rank) to an item's score. The first rank is 1. An item that a retriever does not
    return gets nothing from it. On a tie, the item that is earlier in the profile comes first. Source: Cormack, Clarke
    and Büttcher, SIGIR 2009.

    Args:
        retrievers: at least one. A retriever with `rank` (the built-in ones but `Random`) ranks all items, whatever its
            `k`. Any other ranks the items that it returns.
        k: the number of items to return, at least 0.
        constant: a larger one makes the first ranks count less, at least 0; 60 in the paper.

    Raises:
        ConfigError: `k` or `constant` is negative, there is no retriever, an argument is no retriever, or the
            retrievers name different queries. When called: a retriever returns an item that the profile lacks.

    Examples:
        >>> from r2p_dspy import BM25, Recency
        >>> rows = [{"id": "1", "text": "rain", "date": "2024-05-01"}, {"id": "2", "text": "sea", "date": "2024-05-02"}]
        >>> [item.id for item in Hybrid(BM25(), Recency(), k=1)("sea", Profile.of(rows))]
        ['2']
    """

    retrievers: tuple[Retriever, ...]
    k: int
    constant: float

    def __init__(self, *retrievers: Retriever, k: int = 4, constant: float = 60) -> None:
        check_k(k)
        if not 0 <= constant < math.inf:
            raise ConfigError(f"constant is a number of at least 0, not {constant!r}")
        if not retrievers:
            raise ConfigError("Hybrid needs the retrievers to join, such as Hybrid(BM25(), Dense(embedder))")
        for retriever in retrievers:
            _check_retriever(retriever)
        queries = [query for query in map(_query, retrievers) if query is not None]
        if any(query != queries[0] for query in queries):
            raise ConfigError("the retrievers of a Hybrid name different queries; give all the same query, or none")
        self.retrievers, self.k, self.constant = retrievers, k, constant

    @property
    def query(self) -> Query | None:
        """What the retrievers make their query from."""
        return next((query for query in map(_query, self.retrievers) if query is not None), None)

    def __call__(self, query: str, profile: Profile) -> Profile:
        if not self.k or not profile:
            return Profile()
        return Profile(items=self.rank(query, profile)[: self.k])

    def rank(self, query: str, profile: Profile) -> list[Item]:
        """Return all items that any retriever returns, best first."""
        shares: dict[str, list[float]] = {item.id: [] for item in profile}
        for retriever in self.retrievers:
            ranked = Profile.of(getattr(retriever, "rank", retriever)(query, profile))
            for rank, item in enumerate(ranked, start=1):
                if item.id not in shares:
                    raise ConfigError(f"{retriever!r} returned the item {item.id!r}, which is not in the profile")
                shares[item.id].append(1 / (self.constant + rank))
        # `fsum` does not depend on the order of the retrievers, so equal sums tie.
        scores = {name: math.fsum(share) for name, share in shares.items() if share}
        return sorted((item for item in profile if item.id in scores), key=lambda item: -scores[item.id])


@dataclass(frozen=True)
class Budget:
    """Keep the items of a retriever that together fit in a budget of tokens.

    Items are taken best first. An item that does not fit in the rest of the budget is skipped, and shorter ones after
    it may still be taken. Items are never cut, so the result can be empty. It has at most as many items as the
    retriever returns.

    Args:
        retriever: the retriever whose items to take.
        tokens: the budget, at least 1. An item takes the tokens of the line that a prompt shows of it.
        count: a function from a text to its number of tokens. Default: the configured language model's tokenizer, if it
            runs in this process or on a vLLM server, else an estimate (see `r2p_dspy.engines.count_tokens`).

    Raises:
        ConfigError: `tokens` is below 1 or no integer, or `retriever` is no retriever.

    Examples:
        >>> from r2p_dspy import All
        >>> profile = Profile.of([{"id": "1", "text": "so long " * 99}, {"id": "2", "text": "a storm"}])
        >>> [item.id for item in Budget(All(), tokens=50)("storm", profile)]
        ['2']
    """

    retriever: Retriever
    tokens: int
    count: Callable[[str], int] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.tokens, bool) or not isinstance(self.tokens, int) or self.tokens < 1:
            raise ConfigError(f"tokens is an integer of at least 1, not {self.tokens!r}")
        _check_retriever(self.retriever)

    @property
    def query(self) -> Query | None:
        """What the retriever makes its query from."""
        return _query(self.retriever)

    def matches(self, query: str, items: Profile) -> bool:
        """Whether any of these items matches the query, as far as the retriever says."""
        return matches(self.retriever, query, items)

    def __call__(self, query: str, profile: Profile) -> Profile:
        retrieved = Profile.of(self.retriever(query, profile))
        kept: list[Item] = []
        left = self.tokens
        for item, shown in zip(retrieved, retrieved.local(), strict=True):
            line = str(shown)
            tokens = count_tokens(dspy.settings.lm, line) if self.count is None else self.count(line)
            if tokens <= left:
                left -= tokens
                kept.append(item)
        return Profile(items=kept)


def _check_retriever(retriever: object) -> None:
    if not callable(retriever) or isinstance(retriever, type):
        raise ConfigError(f"{retriever!r} is no retriever; give one such as BM25()")


def _query(retriever: Retriever) -> Query | None:
    return getattr(retriever, "query", None)
