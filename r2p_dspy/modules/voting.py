"""Several sampled outcomes made one: who has a say, who wins, and when no further sample can change it."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Literal

from dspy.adapters.utils import serialize_for_json
from pydantic import BaseModel, SerializeAsAny

from r2p_dspy.checks import evidence_of
from r2p_dspy.modules.enforce import Attempt
from r2p_dspy.outcome import Outcome

Reconcile = Literal["auto", "vote", "median", "medoid", "synthesis"]
_SHOWN = ("evidence", "preferences")


class Candidate(BaseModel):
    """One sampled outcome.

    Args:
        answer: the signature's own outputs, by name; empty when there is none.
        stages: what the template yielded, by name; empty for a module without one.
        cited: the own ids of the items that it cites.
        attempts: with what verdicts it was made; empty for a module without checks.
        survives: whether there is an answer and every assert holds for it.
        supported: whether it, or a surviving candidate of the same answer, cites evidence.
        support: how many surviving candidates answer as it does.
        chosen: whether it is the one that was answered with.
        error: why there is no answer, or None.
    """

    answer: dict[str, SerializeAsAny[Any]]
    stages: dict[str, SerializeAsAny[Any]] = {}
    cited: list[str] = []
    attempts: list[Attempt] = []
    survives: bool = True
    supported: bool = False
    support: int = 0
    chosen: bool = False
    error: str | None = None


def line(number: int, answer: Mapping[str, Any], stages: Mapping[str, Any]) -> str:
    """A candidate as the synthesizing predictor reads it: number, answer and evidence as one JSON object.

    Example:
        >>> line(1, {"tag": "comedy"}, {"draft": "comedy"})
        '{"candidate": 1, "tag": "comedy"}'
    """
    shown = {name: stages[name] for name in _SHOWN if stages.get(name) is not None}
    return json.dumps(serialize_for_json({"candidate": number, **answer, **shown}), ensure_ascii=False)


def weigh(candidates: Sequence[Candidate], answer: str) -> list[int]:
    """Note each candidate's support, and say who has a say.

    Evidence is pooled: where some answers are supported by surviving evidence, those that none supports have no say.

    Args:
        candidates: their `support` and `supported` are set.
        answer: the output that is reconciled.

    Returns:
        The places of those that have a say, in order; empty when none survives.
    """
    held = [at for at, one in enumerate(candidates) if one.survives]
    votes = Counter(key(candidates[at].answer.get(answer)) for at in held)
    evident = {
        key(candidates[at].answer.get(answer)) for at in held if evidence_of(Outcome(stages=candidates[at].stages))
    }
    for one in candidates:
        mine = key(one.answer.get(answer))
        one.support, one.supported = votes[mine] if one.survives else 0, mine in evident
    return [at for at in held if candidates[at].supported] or held


def choose(candidates: Sequence[Candidate], answer: str, way: Reconcile = "auto") -> int | None:
    """The place of the candidate to answer with; of equals the first.

    Args:
        candidates: some of them may not survive.
        answer: the output that is reconciled.
        way: "vote": the most frequent answer; "median": of numbers, the lower of two; "medoid": the text that is most
            like the others under ROUGE-L (F1); "auto" (and "synthesis", before the model has spoken): the median where
            all are numbers, the vote where two agree, else the medoid.

    Returns:
        A place in `candidates`, or None when none survives.

    Example:
        >>> choose([Candidate(answer={"stars": n}) for n in ("4", "1", "5")], "stars")
        0
    """
    held = weigh(candidates, answer)
    if not held:
        return None
    values = [candidates[at].answer[answer] for at in held]
    if way in ("auto", "synthesis"):
        agreed = max(candidates[at].support for at in held) > 1
        way = "median" if all(map(is_number, values)) else "vote" if agreed else "medoid"
    if way == "median":
        return sorted(held, key=lambda at: float(candidates[at].answer[answer]))[(len(held) - 1) // 2]
    if way == "vote":
        return max(held, key=lambda at: candidates[at].support)
    return held[max(range(len(held)), key=lambda at: sum(alike(values[at], other) for other in values))]


def due(candidates: Sequence[Candidate], answer: str, n: int, confidence: float | None) -> int:
    """How many more candidates to sample before it is worth a look whether the answer is settled.

    Args:
        candidates: those so far.
        answer: the output that is reconciled.
        n: how many there are at most.
        confidence: from what probability, in (0, 1], that the leading answer stays the majority's, sampling stops; 1
            stops once nothing can change it; None samples all. The probability is that of a Beta posterior of one
            candidate's agreeing, from a uniform prior (adaptive consistency, arXiv 2305.11860).

    Returns:
        From 0, when it is settled, to those that are left.

    Example:
        >>> due([], "tag", n=5, confidence=0.95), due([], "tag", n=5, confidence=1.0), due([], "tag", 5, None)
        (2, 3, 5)
    """
    left = n - len(candidates)
    if confidence is None or left <= 0:
        return max(left, 0)
    votes = Counter(key(one.answer.get(answer)) for one in candidates if one.survives)
    lead = max(votes.values(), default=0)
    others = len(candidates) - lead
    for more in range(left + 1):
        if lead + more > 0 and _turned(lead + more, others, left - more) <= 1 - confidence + 1e-9:
            return more
    return left


def key(answer: Any) -> str:
    """Equal for answers that are the same, but for white space and case."""
    return " ".join(json.dumps(serialize_for_json(answer), ensure_ascii=False).lower().split())


def is_number(answer: Any) -> bool:
    """Whether an answer can be ordered as a number."""
    try:
        return not isinstance(answer, bool) and math.isfinite(float(answer))
    except (TypeError, ValueError):
        return False


def alike(one: Any, other: Any) -> float:
    """ROUGE-L (F1) of two texts, in [0, 1]."""
    return _rouge().score(str(one), str(other))["rougeL"].fmeasure


@cache
def _rouge() -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # which takes half a second to import

    return RougeScorer(["rougeL"])


def _turned(agree: int, others: int, left: int) -> float:
    """The probability that among all, those who agree become fewer than the others, if these were all of one mind."""
    # Of those left, `against` are against with a beta-binomial probability.
    a, b = others + 1, agree + 1
    return sum(
        math.comb(left, against) * _beta(against + a, left - against + b) / _beta(a, b)
        for against in range(left + 1)
        if others + against > agree + left - against
    )


def _beta(a: int, b: int) -> float:
    return math.exp(math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b))
