"""Rubrics as LaMP-QA has them: what a user told of a question, and the aspects that an answer should cover."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from pydantic import BaseModel, Field

from r2p_dspy.errors import ConfigError
from r2p_dspy.values.typed import as_text
from r2p_dspy.values.words import words

MOST = 2  # points that a judge may give an aspect: 0 not covered, 1 somewhat, 2 very well


class Aspect(BaseModel):
    """What an answer should cover: its title, why the user needs it, and where the user says so."""

    aspect: str
    reason: str
    evidence: str


class Rubric(BaseModel):
    """What an answer is judged by: the user's own account of the question, and its aspects, at least one."""

    narrative: str
    aspects: list[Aspect] = Field(min_length=1)

    def __str__(self) -> str:
        return "\n".join([self.narrative, *(f"- {aspect.aspect}: {aspect.reason}" for aspect in self.aspects)])


def points_score(points: Sequence[float]) -> float:
    """The score of an answer: its points over the most that its aspects can get (LaMP-QA, `evaluator`).

    Args:
        points: of each aspect, in [0, 2]; at least one.

    Raises:
        ConfigError: for no aspects.

    Examples:
        >>> points_score([2, 1, 0])
        0.5
    """
    if not points:
        raise ConfigError("an answer is scored by at least one aspect")
    return sum(points) / (len(points) * MOST)


def coverage(answer: object, rubric: Rubric | Mapping[str, Any]) -> float:
    """The share of an aspect's words that an answer has, averaged over the aspects, in [0, 1].

    It needs no judge, and knows no meaning: it says whether an answer speaks of the same things, so that compiling has
    something to go by. The words of an aspect are those of its title and of its evidence.

    Args:
        answer: the answer; None is the empty one.
        rubric: what it should cover, as a `Rubric` or as its JSON.

    Examples:
        >>> rubric = {"narrative": "I am new.", "aspects": [{"aspect": "Cheap gear", "reason": "r", "evidence": "new"}]}
        >>> coverage("Buy cheap boots.", rubric)
        0.3333333333333333
    """
    wanted = rubric if isinstance(rubric, Rubric) else Rubric.model_validate(rubric)
    given = _words(["" if answer is None else as_text(answer)])
    return fmean(_share(_words([aspect.aspect, aspect.evidence]), given) for aspect in wanted.aspects)


def _words(texts: Iterable[str]) -> set[str]:
    return {word for text in texts for word in words(text)}


def _share(wanted: set[str], given: set[str]) -> float:
    return len(wanted & given) / len(wanted) if wanted else 1.0
