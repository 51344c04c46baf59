"""Retrievers that ignore the query's words: the newest items, random items, all items."""

import random
from dataclasses import dataclass
from hashlib import blake2b

from r2p_dspy.errors import ConfigError
from r2p_dspy.profile import Item, Profile
from r2p_dspy.retrieval.retriever import check_k
from r2p_dspy.values.dates import DateKey, date_key


@dataclass(frozen=True)
class Recency:
    """Retrieve the newest items, newest first.

    Of two items with the same date, the later in the profile comes first, as in LaMP's official script. Items without
    a date count as the oldest, so a profile without dates is read from its end.

    Args:
        k: the number of items to return, at least 0.

    Raises:
        ConfigError: `k` is negative or no integer; in a call, an item's date cannot be read (see
            `r2p_dspy.values.dates.date_key` for the formats).

    Examples:
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
        """Return all items, newest first."""
        return sorted(profile, key=_moment)[::-1]


def _moment(item: Item) -> DateKey:
    try:
        return date_key(item.date or "")
    except ConfigError as error:
        raise ConfigError(f"item {item.id!r}: its date {error}") from None


@dataclass(frozen=True)
class Random:
    """Draw items at random, without replacement: a control for experiments.

    The same seed, query and profile give the same items.

    Args:
        k: the number of items to return, at least 0.
        seed: any integer.

    Raises:
        ConfigError: `k` is negative or no integer.

    Examples:
        >>> profile = Profile.of([{"id": str(n), "text": "x"} for n in range(9)])
        >>> Random(k=3, seed=1)("q", profile) == Random(k=3, seed=1)("q", profile)
        True
    """

    k: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        check_k(self.k)

    def __call__(self, query: str, profile: Profile) -> Profile:
        draw = random.Random(_seed([str(self.seed), query, *map(str, profile)]))
        return Profile(items=draw.sample(list(profile), min(self.k, len(profile))))


@dataclass(frozen=True)
class All:
    """Retrieve every item, in the profile's order."""

    def __call__(self, query: str, profile: Profile) -> Profile:
        return profile


def _seed(texts: list[str]) -> bytes:
    """Hash texts to sixteen bytes, the same in every process (Python's `hash` differs). Lengths mark their ends."""
    parts = [text.encode("utf-8", "surrogatepass") for text in texts]
    return blake2b(b"".join(len(part).to_bytes(8, "big") + part for part in parts), digest_size=16).digest()
