"""Retrievers made of retrievers: several in one, and one within a budget of tokens."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import dspy

from r2p_dspy.engines.connect import count_tokens
from r2p_dspy.errors import ConfigError
from r2p_dspy.profile import Item, Profile
from r2p_dspy.retrieval.retriever import Query, Retriever, check_k


@dataclass(init=False)
class Hybrid:
    """Several retrievers in one, by reciprocal rank fusion: an item scores 1 / (constant + rank) in each of them.

    The first rank is 1; an item that a retriever leaves out scores nothing there; of equal sums, the item that is
    earlier in the profile comes first. Source: Cormack, Clarke and Büttcher, SIGIR 2009.

    Args:
        retrievers: at least one. The built-in ones but `Random` are asked for all items, whatever their `k`; any
            other has its say on those that it returns.
        k: how many items to return, at least 0.
        constant: how little the first ranks count more than later ones, at least 0; 60 in the paper.

    Raises:
        ValueError: for a negative `k` or `constant`, no retriever, what is none, and retrievers that name different
            queries; in a call, for one that returns items that the profile does not have.

    Example:
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
            raise ConfigError(f"constant must be a number of at least 0, not {constant!r}")
        if not retrievers:
            raise ConfigError("Hybrid takes the retrievers that it is to join, such as Hybrid(BM25(), Dense(embedder))")
        for part in retrievers:
            if not callable(part) or isinstance(part, type):
                raise ConfigError(f"{part!r} is no retriever; give one such as BM25()")
        queries = [query for query in map(_query, retrievers) if query is not None]
        if any(query != queries[0] for query in queries):
            raise ConfigError("the retrievers of a Hybrid name different queries; let them name the same one, or none")
        self.retrievers, self.k, self.constant = retrievers, k, constant

    @property
    def query(self) -> Query | None:
        """What its retrievers make their query from."""
        return next((query for query in map(_query, self.retrievers) if query is not None), None)

    def __call__(self, query: str, profile: Profile) -> Profile:
        if not self.k or not profile:
            return Profile()
        return Profile(items=self.rank(query, profile)[: self.k])

    def rank(self, query: str, profile: Profile) -> list[Item]:
        """All items that any of the retrievers has, best first."""
        shares: dict[str, list[float]] = {item.id: [] for item in profile}
        for part in self.retrievers:
            found = Profile.of(getattr(part, "rank", part)(query, profile))
            for rank, item in enumerate(found, start=1):
                if item.id not in shares:
                    raise ConfigError(f"the retriever {part!r} returned an item {item.id!r}, which the profile has not")
                shares[item.id].append(1 / (self.constant + rank))
        # `fsum` does not depend on the order of the retrievers, so that what is equal ties.
        scores = {name: math.fsum(share) for name, share in shares.items() if share}
        return sorted((item for item in profile if item.id in scores), key=lambda item: -scores[item.id])


@dataclass(frozen=True)
class Budget:
    """The best items of a retriever that together take no more than so many tokens.

    Each item, best first, is taken if it fits in what is left, else passed over: one that alone takes too much does
    not keep out those behind it. No item is cut, so there may be none. At most `k` of the retriever's come in question.

    Args:
        retriever: whose items to take.
        tokens: at least 1; each item is counted as the line that a prompt shows of it.
        count: how many tokens a text has; default: as the configured language model counts them in this process or on
            a vLLM server, else an estimate from the length (3.5 characters each).

    Raises:
        ValueError: for `tokens` below 1, and for what is no retriever.

    Example:
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
            raise ConfigError(f"tokens is what the items may take together, at least 1, not {self.tokens!r}")
        if not callable(self.retriever) or isinstance(self.retriever, type):
            raise ConfigError(f"{self.retriever!r} is no retriever; give one such as BM25()")

    @property
    def query(self) -> Query | None:
        """What its retriever makes the query from."""
        return _query(self.retriever)

    def __call__(self, query: str, profile: Profile) -> Profile:
        found = Profile.of(self.retriever(query, profile))
        kept: list[Item] = []
        left = self.tokens
        for item, shown in zip(found, found.local(), strict=True):
            tokens = _count(str(shown)) if self.count is None else self.count(str(shown))
            if tokens <= left:
                left -= tokens
                kept.append(item)
        return Profile(items=kept)


def _query(retriever: Any) -> Query | None:
    return getattr(retriever, "query", None)


def _count(text: str) -> int:
    return count_tokens(dspy.settings.lm, text)
