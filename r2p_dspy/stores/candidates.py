"""Candidates: the items of a long history that match a query best, found without reading the history."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

from r2p_dspy.stores.owner import Owner
from r2p_dspy.stores.rows import keyed
from r2p_dspy.values.words import words

MOST = 200  # items that match, and as many of the newest
_MOST_WORDS, _MOST_OF_A_WORD = 64, 200  # words of a query; newest items that have a word


def best_positions(owner: Owner, query: str, newest_with: Callable[[int, int], list[int]]) -> set[int]:
    """The positions of the items that match a query best, at most `MOST`.

    A word counts the more, the fewer items have it. Of a frequent word only the newest items are looked at: it decides
    little, and to read on would take time for each item of the history.

    Args:
        owner: the user, whose history is indexed.
        query: the text to match.
        newest_with: from a word under the user's key and a number to the positions of so many of the newest items that
            have the word.
    """
    assert owner.secret is not None
    scores: defaultdict[int, float] = defaultdict(float)
    for word in [*dict.fromkeys(words(query))][:_MOST_WORDS]:
        positions = newest_with(keyed(word, owner.secret), _MOST_OF_A_WORD)
        weight = math.log1p(owner.size / _frequency(owner, positions))
        for position in positions:
            scores[position] += weight
    return {position for position, _ in Counter(scores).most_common(MOST)}


def _frequency(owner: Owner, newest: Sequence[int]) -> float:
    """The number of items that have a word, from the positions of the newest; of a frequent word an estimate."""
    if len(newest) < _MOST_OF_A_WORD:
        return len(newest) or 1
    return len(newest) * owner.latest / (owner.start + owner.latest - min(newest) + 1)
