"""How much an answer may have of each part, so that a model that repeats itself comes to its end."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from r2p_dspy.template import Evidence, Preference

_MARK = 15  # tokens of a field's mark, and of what surrounds a value
_PER_WORD, _PER_ID = 1.5, 4  # tokens
_KEPT = 0.9  # of the tokens of a call; the estimates are rough
_STEPS = 20  # from the limits as they are to the least


@dataclass(frozen=True)
class Limits:
    """How much an answer may have of each part.

    Args:
        words: the fewest and the most words of a quote, separated by white space.
        citations: the most items that are cited as evidence, each once.
        preferences: the most preferences.
        statement_tokens: the most tokens of a sentence in a list or an object of a stage, such as a preference's
            statement, about: four characters count as one.
        stage_tokens: the same for a text that is a stage.
        answer_tokens: the same for a text in an output.

    Examples:
        >>> Limits().within(500, [list[Evidence], list[Preference]], answers=1).preferences
        3
    """

    words: tuple[int, int] = (1, 20)
    citations: int = 8
    preferences: int = 8
    statement_tokens: int = 75
    stage_tokens: int = 300
    answer_tokens: int = 1000

    def within(self, tokens: int, stages: Collection[Any], answers: int) -> Limits:
        """The limits, lowered in step until an answer at all of them has about this many tokens.

        Args:
            tokens: that a call may write.
            stages: the types of the stages.
            answers: number of outputs that are free texts.
        """
        lowered = [self._lowered(step / _STEPS) for step in range(_STEPS + 1)]
        fitting = (limits for limits in lowered if limits._most(stages, answers) <= _KEPT * tokens)
        return next(fitting, lowered[-1])

    def _lowered(self, share: float) -> Limits:
        def between(most: int, least: int) -> int:
            return min(most, round(most - share * (most - least)))

        return Limits(
            words=(self.words[0], max(self.words[0], between(self.words[1], 6))),
            citations=between(self.citations, 2),
            preferences=between(self.preferences, 2),
            statement_tokens=between(self.statement_tokens, 15),
            stage_tokens=between(self.stage_tokens, 25),
            answer_tokens=between(self.answer_tokens, 50),
        )

    def _most(self, stages: Collection[Any], answers: int) -> float:
        """The tokens of an answer that is as long as these limits let it be, about."""
        total: float = (len(stages) + max(1, answers)) * _MARK + answers * self.answer_tokens
        for kind in stages:
            if kind == list[Evidence]:
                total += self.citations * (_MARK + self.words[1] * _PER_WORD)
            elif kind == list[Preference]:
                total += self.preferences * (_MARK + self.statement_tokens + self.citations * _PER_ID)
            else:
                total += self.stage_tokens if kind is str else _MARK + self.statement_tokens
        return total


LIMITS = Limits()
