"""The composite score of an answer, and its adapters for DSPy's evaluation, DSPy's optimizers and RL."""

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Self

import dspy

from r2p_dspy.errors import ConfigError
from r2p_dspy.prediction import Attempt, accepted, attempts_of
from r2p_dspy.scoring.feedback import write_feedback

# Examples and predictions are `Any` below: DSPy hands any object to a metric.

WEIGHTS: Mapping[str, float] = MappingProxyType({"task": 0.7, "structure": 0.1, "evidence": 0.15, "consistency": 0.05})
# The built-in checks of each part.
PARTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "structure": ("parsed", "stages"),
        "evidence": ("cited", "quoted", "backed", "labelled"),
        "consistency": ("approved",),
    }
)
TaskScore = Callable[[Any, Any], float]


class Score(float):
    """A score in [0, 1] with its parts and feedback; a float wherever DSPy wants one.

    Its truth value is `accepted`: DSPy's bootstrapping optimizers keep an answer as a demo if its score is true.

    Args:
        value: the score, in [0, 1].
        parts: the value of each part by name, each in [0, 1].
        feedback: how to improve the answer, in one line.
        accepted: whether the answer is good enough to learn from. None: if the value is above 0.

    Examples:
        >>> score = Score(0.65, {"task": 0.5, "structure": 1.0}, "The answer is wrong.", accepted=False)
        >>> float(score), score.parts["structure"], bool(score)
        (0.65, 1.0, False)
    """

    parts: dict[str, float]
    feedback: str
    accepted: bool

    # Only `value` is required: pickle and copy pass it alone (float's `__getnewargs__`), then restore the attributes.
    def __new__(
        cls, value: float, parts: Mapping[str, float] | None = None, feedback: str = "", accepted: bool | None = None
    ) -> Self:
        score = super().__new__(cls, value)
        score.parts, score.feedback = dict(parts or {}), feedback
        score.accepted = value > 0 if accepted is None else accepted
        return score

    def __bool__(self) -> bool:
        return self.accepted

    @property
    def rewards(self) -> dict[str, float | None]:
        """The score as `reward`, and every part by its name; None for a part that the program does not have."""
        return {"reward": float(self), **{part: self.parts.get(part) for part in WEIGHTS}}

    @property
    def value(self) -> float:
        """Deprecated: a score is a float itself."""
        warnings.warn("Score.value is deprecated; a Score is a float", DeprecationWarning, stacklevel=2)
        return float(self)


@dataclass(frozen=True)
class Composite:
    """A gate times a weighted mean: 0 for an unreadable answer or an unmet assert, else the mean of the parts.

    The part `task` scores the returned answer. The other parts score the *first* attempt, so a failure that
    backtracking corrected still counts. The mean leaves out parts that a program does not have: a plain
    `dspy.Predict`, for example, has no stages.

    A composite is a metric: pass it to `dspy.Evaluate`. Its methods adapt it to optimizers and to RL.

    Args:
        task: the task's own metric, from (example, prediction) to a score in [0, 1].
        threshold: the lowest task score of an accepted answer, in [0, 1].
        weights: the weight of each part by name; `WEIGHTS` by default.

    Raises:
        ConfigError: for an unknown part, a negative weight, weights that sum to 0, or a threshold outside [0, 1].

    Examples:
        >>> exact = Composite(lambda example, prediction: float(example.tag == prediction.tag))
        >>> exact(dspy.Example(tag="comedy"), dspy.Prediction(tag="comedy"))
        1.0
    """

    task: TaskScore
    threshold: float = 1.0
    weights: Mapping[str, float] = field(default_factory=lambda: dict(WEIGHTS))

    def __post_init__(self) -> None:
        if unknown := set(self.weights) - set(WEIGHTS):
            raise ConfigError(f"unknown part {min(unknown)!r} in the weights; the parts are {', '.join(WEIGHTS)}")
        if not 0 < sum(self.weights.values()) < math.inf or min(self.weights.values()) < 0:
            raise ConfigError("the weights must be numbers, finite and at least 0, and not all 0")
        if not 0 <= self.threshold <= 1:
            raise ConfigError(f"the threshold of the task's score must be in [0, 1], not {self.threshold}")

    def __call__(self, example: Any, prediction: Any, trace: Any = None) -> Score:
        """Score what a program returned for an example with the right outputs. DSPy passes every metric a trace.

        Raises:
            ConfigError: if the task's own score is not in [0, 1].
        """
        attempts = attempts_of(prediction)
        parts = {"task": float(self.task(example, prediction)), **(_check_parts(attempts[0]) if attempts else {})}
        if not 0 <= parts["task"] <= 1:
            raise ConfigError(f"the task's score must be in [0, 1], higher is better, not {parts['task']}")
        weights = {name: self.weights.get(name, 0.0) for name in parts}
        total = sum(weights.values())
        mean = sum(weights[name] * value for name, value in parts.items()) / total if total else parts["task"]
        # A module that calls several programs passes on the attempts of all of them.
        returned = [attempt for attempt in attempts if attempt.accepted] or attempts[-1:]
        value = mean if all(attempt.asserted for attempt in returned) else 0.0
        feedback = write_feedback(example, prediction, parts["task"] >= 1, attempts)
        return Score(value, parts, feedback, accepted=value > 0 and parts["task"] >= self.threshold)

    def metric(self, example: Any, prediction: Any, trace: Any = None) -> float:
        """The score as a plain float, for `dspy.Evaluate` and optimizers that want a number."""
        return float(self(example, prediction))

    def accepts(self, example: Any, prediction: Any, trace: Any = None) -> bool:
        """Whether an answer may become a demo: every assert holds, and the task's score reaches the threshold."""
        return bool(self(example, prediction))

    def optimizer_metric(self, example: Any, prediction: Any, trace: Any = None) -> float | bool:
        """`accepts` with a trace, else `metric`: how DSPy's bootstrapping optimizers call a metric."""
        score = self(example, prediction)
        return float(score) if trace is None else bool(score)

    def gepa_metric(
        self, gold: Any, pred: Any, trace: Any = None, pred_name: str | None = None, pred_trace: Any = None
    ) -> dspy.Prediction:
        """The score and feedback, for GEPA and SIMBA.

        GEPA calls it once more for each predictor. The score stays the same; the feedback is about that predictor.

        Args:
            pred_name: the predictor to write feedback for; None for the whole program.
            pred_trace: the predictor's steps. Attempts are read from them if `pred` has none, as in a program inside
                another module.

        Returns:
            A prediction with `score`, in [0, 1], `feedback` (see `write_feedback`), and `objective_scores`: the score's
            parts, each in [0, 1], for GEPA's frontier (`gepa_kwargs={"frontier_type": "hybrid"}`).
        """
        score = self(gold, pred)
        attempts = attempts_of(pred) or [attempt for *_, step in pred_trace or () for attempt in attempts_of(step)]
        feedback = write_feedback(gold, pred, score.parts["task"] >= 1, attempts, pred_name)
        return dspy.Prediction(score=float(score), feedback=feedback, objective_scores=score.parts)

    def reward(self, example: Any, prediction: Any) -> dict[str, float | None]:
        """The score as `reward`, and every part, for RL.

        In TRL, use `reward` as a reward function of weight 1, and log the parts as reward functions of weight 0. A
        part that the program does not have is None, which TRL leaves out.

        Examples:
            >>> exact = Composite(lambda example, prediction: float(example.tag == prediction.tag))
            >>> exact.reward(dspy.Example(tag="comedy"), dspy.Prediction(tag="comedy"))
            {'reward': 1.0, 'task': 1.0, 'structure': None, 'evidence': None, 'consistency': None}
        """
        return self(example, prediction).rewards

    def passes(self, example: Any, prediction: Any) -> bool:
        """Deprecated: use `accepts`."""
        warnings.warn("Composite.passes is deprecated; use Composite.accepts", DeprecationWarning, stacklevel=2)
        return self.accepts(example, prediction)


def part_holds(prediction: object, part: str, *, first: bool = False) -> bool | None:
    """Whether every check of a part holds in the accepted attempt, or the first; None without the part."""
    attempts = attempts_of(prediction)
    verdicts = _part_verdicts(attempts[0] if first else accepted(attempts), part) if attempts else []
    return all(verdicts) if verdicts else None


def _check_parts(attempt: Attempt) -> dict[str, float]:
    """The share of each part's checks that hold."""
    verdicts = {part: _part_verdicts(attempt, part) for part in PARTS}
    return {part: sum(held) / len(held) for part, held in verdicts.items() if held}


def _part_verdicts(attempt: Attempt, part: str) -> list[bool]:
    """Whether each check of a part holds; empty if the program does not have the part."""
    held = {verdict.check: verdict.ok for verdict in attempt.verdicts}
    if part == "structure" and "stages" not in held:
        return []  # every program is checked for `parsed`; without a template it has no structure to comply with
    holds = [held[name] for name in PARTS[part] if name in held]
    # An answer in another format than asked for is read, but it does not comply.
    return [*holds, False] if part == "structure" and attempt.shape else holds
