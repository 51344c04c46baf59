"""Groundedness: which of the items that matter an answer cites, and whether it follows what it cites.

Both rest on counterfactuals: the same question, answered from the same history without one of the items that the model
saw. Precision of the evidence, whether it stands where it is said to stand, is `metrics.evidence`.
"""

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from metrics.intervals import Interval, of_mean

MARGIN = 0.05  # of a task score; an item that changes it by less says nothing


@dataclass(frozen=True)
class Grounded:
    """One example: what the answer cites, and what became of the answer without each of the items.

    Args:
        user: whose example it is.
        cited: ids of the items that the answer cites.
        changed: by the id of an item that was shown, how far the answer differs without it, in [0, 1].
        lost: by the same ids, the task score minus that without the item.
        support: ids of the items that decide the right answer, where that is known; None where it is not.
    """

    user: Hashable
    cited: Collection[str]
    changed: Mapping[str, float]
    lost: Mapping[str, float] = field(default_factory=dict)
    support: Collection[str] | None = None

    @property
    def supporting(self) -> set[str]:
        """The shown items that support the right answer: as known, else those without which the score falls."""
        if self.support is not None:
            return {*self.support} & {*self.changed}
        return {item for item, loss in self.lost.items() if loss > MARGIN}

    @property
    def recall(self) -> float | None:
        """The share of the supporting items that are cited; None if no shown item supports the right answer."""
        supporting = self.supporting
        return len(supporting & {*self.cited}) / len(supporting) if supporting else None

    @property
    def following(self) -> float | None:
        """How much more the answer changes without a cited item than without another one, in [-1, 1].

        None if all the items that were shown are cited, or none of them.
        """
        cited = [change for item, change in self.changed.items() if item in self.cited]
        others = [change for item, change in self.changed.items() if item not in self.cited]
        return fmean(cited) - fmean(others) if cited and others else None


def recall(examples: Sequence[Grounded]) -> Interval | None:
    """Evidence recall: the mean of the examples' recalls, with its 95 % interval over users; None without any.

    Examples:
        >>> one = Grounded("ann", ["a"], {"a": 1.0, "b": 0.0}, support=["a", "b", "not shown"])
        >>> recall([one]).value
        0.5
    """
    return _mean(examples, [example.recall for example in examples])


def faithfulness(examples: Sequence[Grounded]) -> Interval | None:
    """How much more answers change without a cited item than without another, with its 95 % interval over users.

    Near 0, the citations have nothing to do with the answers, however well they are quoted. None if it applies to no
    example.

    Examples:
        >>> faithfulness([Grounded("ann", ["a"], {"a": 1.0, "b": 0.0, "c": 0.5})]).value
        0.75
    """
    return _mean(examples, [example.following for example in examples])


def separation(examples: Sequence[Grounded], others: Sequence[Grounded]) -> Interval | None:
    """How much more faithful the same examples are with one set of citations than with another, paired by example.

    Args:
        examples: with the citations in question.
        others: the same examples with other citations, in the same order, such as shuffled ones.

    Returns:
        The mean difference of the two, with its 95 % interval over users; None if no example has both.

    Examples:
        >>> changed = {"a": 1.0, "b": 0.0}
        >>> separation([Grounded("ann", ["a"], changed)], [Grounded("ann", ["b"], changed)]).value
        2.0
    """
    gains = (_gain(example.following, other.following) for example, other in zip(examples, others, strict=True))
    return _mean(examples, [*gains])


def _gain(value: float | None, other: float | None) -> float | None:
    return None if value is None or other is None else value - other


def _mean(examples: Sequence[Grounded], values: Sequence[float | None]) -> Interval | None:
    known = [(value, example.user) for value, example in zip(values, examples, strict=True) if value is not None]
    return of_mean([value for value, _ in known], users=[user for _, user in known]) if known else None
