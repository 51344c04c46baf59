"""Retrievers: which of a user's items are worth showing for a query, best first."""

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, Protocol

import numpy as np

from r2p_dspy.okapi import index
from r2p_dspy.profile import Item, Profile

Query = str | Callable[[Mapping[str, Any]], str]
Text = tuple[str, ...] | Callable[[Item], str]


class Retriever(Protocol):
    """Anything that picks items for a query: `retriever(query, profile)` returns them best first, as a profile.

    It may also have `query`, what to make its query from (see `query_text`), and `rank(query, profile)`, which gives
    all items as a list, best first: by that `Hybrid` joins it with others.
    """

    def __call__(self, query: str, profile: Profile) -> Profile: ...


def query_text(inputs: Mapping[str, Any], query: Query | None = None) -> str:
    """What to retrieve with, from a module's inputs.

    Args:
        inputs: the module's inputs by name.
        query: a field's name, or a function of the inputs; None joins all text inputs by a space.

    Returns:
        The query.

    Raises:
        ValueError: when `query` names a field that is not among the inputs.

    Example:
        >>> query_text({"article": "Rain in May.", "tone": "dry", "profile": Profile()})
        'Rain in May. dry'
    """
    if query is None:
        return " ".join(value for value in inputs.values() if isinstance(value, str))
    if callable(query):
        return query(inputs)
    if query not in inputs:
        raise ValueError(f"the retriever's query names the field {query!r}; the inputs are {', '.join(inputs)}")
    return str(inputs[query])


def item_text(item: Item, text: Text | None = None) -> str:
    """What of an item to match.

    Args:
        item: any item.
        text: names of its fields, joined by a space, or a function of the item; None takes all its text.

    Returns:
        The text; a field that the item does not have counts as empty.

    Example:
        >>> item_text(Item(id="7", title="Rain", text="It rained."), ("title",))
        'Rain'
    """
    if text is None:
        return item.text
    if callable(text):
        return text(item)
    return " ".join(item.fields.get(name, "") for name in text)


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


@dataclass(frozen=True)
class Recency:
    """The newest items first; LaMP's official order, which puts the later of two with one date first.

    Items without a date count as the oldest, so a profile without dates is read from its end.

    Args:
        k: how many items to return, at least 0.

    Raises:
        ValueError: for a negative `k`.

    Example:
        >>> profile = Profile.of([{"id": str(day), "text": "x", "date": f"2020-01-0{day}"} for day in (1, 3, 2)])
        >>> [item.id for item in Recency(k=2)("", profile)]
        ['3', '2']
    """

    k: int = 4

    def __post_init__(self) -> None:
        check_k(self.k)

    def __call__(self, query: str, profile: Profile) -> Profile:
        return Profile(items=self.rank(query, profile)[: self.k])

    def rank(self, query: str, profile: Profile) -> list[Item]:
        """All items, newest first."""
        # Eighteen digits are more than any date has, and as many as Python always reads.
        return sorted(profile, key=lambda item: tuple(map(int, re.findall(r"\d{1,18}", item.date or ""))))[::-1]


@dataclass(frozen=True)
class Random:
    """Items drawn without replacement, the same ones for the same seed, query and profile; a control.

    Args:
        k: how many items to return, at least 0.
        seed: any integer.

    Raises:
        ValueError: for a negative `k`.

    Example:
        >>> profile = Profile.of([{"id": str(n), "text": "x"} for n in range(9)])
        >>> Random(k=3, seed=1)("q", profile) == Random(k=3, seed=1)("q", profile)
        True
    """

    k: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        check_k(self.k)

    def __call__(self, query: str, profile: Profile) -> Profile:
        # Python's `hash` differs from process to process; a digest does not.
        draw = random.Random(_digest([str(self.seed), query, *map(str, profile)]))
        return Profile(items=draw.sample(list(profile), min(self.k, len(profile))))


@dataclass(frozen=True)
class All:
    """Every item, in the profile's order."""

    def __call__(self, query: str, profile: Profile) -> Profile:
        return profile


def check_k(k: int) -> None:
    """Refuse what is no number of items."""
    if isinstance(k, bool) or not isinstance(k, int) or k < 0:
        raise ValueError(f"k is how many items to retrieve, a whole number of at least 0, not {k!r}")


def _digest(texts: list[str]) -> bytes:
    """Sixteen bytes that tell exactly these texts in this order; their lengths tell where each ends."""
    total = blake2b(digest_size=16)
    for text in texts:
        raw = text.encode("utf-8", "surrogatepass")
        total.update(len(raw).to_bytes(8, "big"))
        total.update(raw)
    return total.digest()
