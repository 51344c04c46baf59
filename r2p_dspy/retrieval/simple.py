"""Retrievers that look at no words: the newest items, random ones, all."""

import random
import re
from dataclasses import dataclass
from hashlib import blake2b

from r2p_dspy.profile import Item, Profile
from r2p_dspy.retrieval.retriever import check_k


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


def _digest(texts: list[str]) -> bytes:
    """Sixteen bytes that tell exactly these texts in this order; their lengths tell where each ends."""
    total = blake2b(digest_size=16)
    for text in texts:
        raw = text.encode("utf-8", "surrogatepass")
        total.update(len(raw).to_bytes(8, "big"))
        total.update(raw)
    return total.digest()
