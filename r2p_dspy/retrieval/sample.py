"""A part of a long history, with what a retriever must know of the whole."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from pydantic import PrivateAttr

from r2p_dspy.profile import Item, Profile
from r2p_dspy.values.words import words

_K1, _B, _EPSILON = (
    1.5,
    0.75,
    0.25,
)  # rank_bm25's, which gives words of most items a part of the mean weight of all words
_MEAN_SHARE = 0.85  # that mean, as a share of the weight of a word that one item has: most words are rare


class Sample(Profile):
    """The items of a long history that may answer a query, and how frequent the query's words are in all of it.

    Among items that were chosen by a word, that word is no rarity. So a retriever that weighs words asks the sample.
    """

    _size: int = PrivateAttr(default=0)
    _having: dict[str, float] = PrivateAttr(default_factory=dict)

    @classmethod
    def from_history(cls, items: Sequence[Item], size: int, having: Mapping[str, float]) -> "Sample":
        """A sample.

        Args:
            items: of the history, in its order.
            size: the number of all items.
            having: how many of them have a word, for each word of the query (see `r2p_dspy.values.words.words`).
        """
        sample = cls.model_construct(items=[*items], dropped=0)
        sample._size, sample._having = size, {**having}
        return sample

    def scores(self, query: Sequence[str], texts: Sequence[Sequence[str]]) -> list[float]:
        """How well each item matches the words of a query, by BM25 with the weights that the words have in all items.

        Args:
            query: its words.
            texts: the words of each item.
        """
        weights = {word: self._weight(word) for word in {*query}}
        floor = _EPSILON * _MEAN_SHARE * math.log(self._size + 1)
        weights = {word: weight if weight >= 0 else floor for word, weight in weights.items()}
        mean = sum(map(len, texts)) / len(texts) if texts else 0.0
        scores = []
        for text in texts:
            counts = Counter(word for word in text if word in weights)
            norm = _K1 * (1 - _B + _B * len(text) / (mean or 1))
            scores.append(
                math.fsum(
                    weights[word] * counts[word] * (_K1 + 1) / (counts[word] + norm) for word in query if counts[word]
                )
            )
        return scores

    def ranked(self, query: str, tokenize: Callable[[str], list[str]], texts: Sequence[str]) -> list[Item]:
        """The items, best first; of equal ones the later first, as `BM25` has them."""
        scores = self.scores(tokenize(query), [tokenize(text) for text in texts])
        order = sorted(range(len(scores)), key=lambda place: (scores[place], place), reverse=True)
        return [self.items[place] for place in order]

    def _weight(self, word: str) -> float:
        """The inverse frequency of a word; of a tokenizer's own word, that of the rarest word in it."""
        having = min((self._having.get(part, 0.0) for part in words(word)), default=0.0)
        return math.log(self._size - having + 0.5) - math.log(having + 0.5)
