"""Candidates: the items of a long history that match a query best, found without reading the history."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from r2p_dspy.stores.owner import Owner
from r2p_dspy.stores.rows import keyed
from r2p_dspy.values.words import words

MOST, NEWEST = 250, 50  # items that match, and items that are the newest
_MOST_WORDS = 64  # of a query
_FEW = 100  # items that have a word, the newest: enough to estimate how many have it
_BUDGET = 12_000  # rows of the index that a query reads, the rarest word's first


def best_positions(
    owner: Owner, query: str, newest_with: Callable[[int, int], list[int]]
) -> tuple[set[int], dict[str, float]]:
    """The positions of the items that match a query best, at most `MOST`, and how many items have each of its words.

    A word counts the more, the fewer items have it. All items that have the rarest words are looked at, and of frequent
    words only the newest: these words decide little, and to read on would take time for each item of the history.

    Args:
        owner: the user, whose history is indexed.
        query: the text to match.
        newest_with: from a word under the user's key and a number to the positions of so many of the newest items that
            have the word, newest first.
    """
    assert owner.secret is not None
    keys = {word: keyed(word, owner.secret) for word in [*dict.fromkeys(words(query))][:_MOST_WORDS]}
    found = {word: newest_with(key, _FEW) for word, key in keys.items()}
    having = {word: _frequency(owner, positions, _FEW) for word, positions in found.items()}
    left = _BUDGET
    for word in sorted(keys, key=lambda word: having[word]):
        if len(found[word]) == _FEW and left > _FEW:
            found[word] = newest_with(keys[word], left)
            having[word] = _frequency(owner, found[word], left)
        left -= len(found[word])
    matched = [word for word, positions in found.items() if positions]
    if not matched:
        return set(), having
    weights = [math.log1p(owner.size / having[word]) for word in matched]
    positions, places = np.unique(np.concatenate([found[word] for word in matched]), return_inverse=True)
    scores = np.bincount(places, np.repeat(weights, [len(found[word]) for word in matched]))
    return {*positions[np.argsort(-scores, kind="stable")[:MOST]].tolist()}, having


def _frequency(owner: Owner, newest: Sequence[int], most: int) -> float:
    """The number of items that have a word, from the positions of the newest; an estimate where these are not all."""
    if len(newest) < most:
        return len(newest)
    return len(newest) * owner.latest / (owner.start + owner.latest - newest[-1] + 1)
