"""Voting among sampled outcomes: who has a vote, who wins, and when no further sample can change that."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from dspy.adapters.utils import serialize_for_json

from r2p_dspy.checks import evidence_of
from r2p_dspy.outcome import Outcome
from r2p_dspy.prediction import Candidate
from r2p_dspy.scoring.rouge import rouge_l
from r2p_dspy.values.folding import fold
from r2p_dspy.values.neutral import json_line, neutralize
from r2p_dspy.values.typed import as_text
from r2p_dspy.values.words import words

Reconcile = Literal["auto", "vote", "median", "medoid", "synthesis"]


def line(number: int, answer: Mapping[str, Any], stages: Mapping[str, Any]) -> str:
    """A candidate as the synthesizing predictor reads it: number, answer and evidence as one JSON object."""
    shown = {name: stages[name] for name in ("evidence", "preferences") if stages.get(name) is not None}
    written = json_line(serialize_for_json({"candidate": number, **answer, **shown}))
    return neutralize(written)  # a candidate quotes the user's own items


def weigh(candidates: Sequence[Candidate], answer: str) -> list[int]:
    """Set each candidate's `support` and `supported`, and return the places of those with a vote, in order.

    Evidence is pooled: where surviving evidence supports some answers, the others have no vote.
    """
    surviving = [place for place, candidate in enumerate(candidates) if candidate.survives]
    keys = [key(candidate.answer[answer]) if answer in candidate.answer else None for candidate in candidates]
    votes = Counter(keys[place] for place in surviving)
    evident = {keys[place] for place in surviving if evidence_of(Outcome(stages=candidates[place].stages))}
    for candidate, own in zip(candidates, keys, strict=True):
        candidate.support, candidate.supported = votes[own] if candidate.survives else 0, own in evident
    return [place for place in surviving if candidates[place].supported] or surviving


def choose(candidates: Sequence[Candidate], answer: str, way: Reconcile = "auto") -> int | None:
    """The place of the candidate to answer with; None when none survives.

    `CrossReference` explains the ways. On a tie the first wins; of an even number of numbers, the lower median.
    The median is among the answers that are numbers; where none is, it is the vote.
    "synthesis" chooses like "auto", for the case that the model's own choice cannot be read.
    """
    voters = weigh(candidates, answer)
    if not voters:
        return None
    values = {place: candidates[place].answer[answer] for place in voters}
    numbers = [place for place in voters if is_number(values[place])]
    if way in ("auto", "synthesis"):
        agreed = max(candidates[place].support for place in voters) > 1
        way = "median" if 2 * len(numbers) > len(voters) else "vote" if agreed else "medoid"
    if way == "median" and numbers:
        return sorted(numbers, key=lambda place: float(values[place]))[(len(numbers) - 1) // 2]
    if way == "medoid":
        texts = [as_text(value) for value in values.values()]
        likeness = [sum(alike(text, other) for other in texts) for text in texts]
        return voters[likeness.index(max(likeness))]
    return max(voters, key=lambda place: candidates[place].support)


def due(candidates: Sequence[Candidate], answer: str, n: int, confidence: float | None) -> int:
    """The number of candidates, of at most `n`, still to sample before the answer can be settled.

    Sampling stops when the leading answer stays the majority's with the probability `confidence`: 1 stops once nothing
    can change it, None samples all. The probability is that of a Beta posterior of one candidate's agreeing, from a
    uniform prior (adaptive consistency, arXiv 2305.11860).
    """
    left = n - len(candidates)
    if confidence is None or left <= 0:
        return max(left, 0)
    votes = Counter(key(candidate.answer[answer]) for candidate in candidates if candidate.survives)
    lead = max(votes.values(), default=0)
    others = len(candidates) - lead
    for more in range(left + 1):
        if lead + more > 0 and _turned(lead + more, others, left - more) <= 1 - confidence + 1e-9:
            return more
    return left


def key(answer: object) -> str:
    """A text that is equal for answers that differ in typography and case alone, and for a value and its text."""
    return fold(as_text(answer))


def is_number(answer: Any) -> bool:
    """Whether an answer can be ordered as a number."""
    try:
        return not isinstance(answer, bool) and math.isfinite(float(answer))
    except (TypeError, ValueError, OverflowError):
        return False


def alike(first: object, second: object) -> float:
    """ROUGE-L (F1) over the words of two texts in any language, in [0, 1]; 1 for equal texts, even without words."""
    if first == second:
        return 1.0
    return rouge_l(words(str(first)), words(str(second)))


def _turned(agree: int, others: int, left: int) -> float:
    """The probability that those who agree become fewer than the others, if all the others agreed with each other."""
    # Of the candidates left, the number against follows a beta-binomial distribution.
    a, b = others + 1, agree + 1
    return sum(
        math.comb(left, against) * _beta(against + a, left - against + b) / _beta(a, b)
        for against in range(left + 1)
        if others + against > agree + left - against
    )


def _beta(a: int, b: int) -> float:
    return math.exp(math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b))
