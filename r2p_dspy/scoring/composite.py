"""The composite score of an answer, and its faces: float, bool, GEPA's feedback, and RL's reward."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import dspy
from pydantic import BaseModel

from r2p_dspy.checks import Verdict
from r2p_dspy.errors import ConfigError
from r2p_dspy.modules.enforce import Attempt
from r2p_dspy.scoring.feedback import words

WEIGHTS: Mapping[str, float] = MappingProxyType({"task": 0.7, "structure": 0.1, "evidence": 0.15, "consistency": 0.05})
# Which built-in checks make up which part.
PARTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "structure": ("parsed", "stages"),
        "evidence": ("cited", "quoted", "backed", "labelled"),
        "consistency": ("approved",),
    }
)
TaskScore = Callable[[Any, Any], float]


class Score(BaseModel):
    """A value in [0, 1], the parts it is made of, each in [0, 1], and in words what to do better."""

    value: float
    parts: dict[str, float]
    feedback: str

    @property
    def rewards(self) -> dict[str, float | None]:
        """The value as `reward`, and every part by its name; None is one that the program does not have."""
        return {"reward": self.value, **{part: self.parts.get(part) for part in WEIGHTS}}


@dataclass(frozen=True)
class Composite:
    """A gate times a weighted mean: 0 for what cannot be read or leaves an assert unmet, else the parts' mean.

    The task's part is of the answer as given; the other parts are of the *first* attempt, so that a failure which
    backtracking mended still counts. Parts that a program does not have (a plain `dspy.Predict` has no stages) are
    left out of its mean.

    Args:
        task: (example, prediction) to the task's own score in [0, 1].
        threshold: from which task score on an answer passes (`passes`), in [0, 1].
        weights: of the parts, by name; those of `WEIGHTS` by default.

    Raises:
        ValueError: for an unknown part, a negative weight, weights that sum to 0, or a threshold outside [0, 1].

    Example:
        >>> exact = Composite(lambda example, prediction: float(example.tag == prediction.tag))
        >>> exact(dspy.Example(tag="comedy"), dspy.Prediction(tag="comedy")).value
        1.0
    """

    task: TaskScore
    threshold: float = 1.0
    weights: Mapping[str, float] = field(default_factory=lambda: WEIGHTS)

    def __post_init__(self) -> None:
        unknown = set(self.weights) - set(WEIGHTS)
        if unknown:
            raise ConfigError(f"unknown part {min(unknown)!r} in the weights; the parts are {', '.join(WEIGHTS)}")
        if not 0 < sum(self.weights.values()) < math.inf or min(self.weights.values()) < 0:
            raise ConfigError("the weights must be numbers, none of them negative, and not all 0")
        if not 0 <= self.threshold <= 1:
            raise ConfigError(f"the threshold of the task's score must be in [0, 1], not {self.threshold}")

    def __call__(self, example: Any, prediction: Any) -> Score:
        """The score of one answer.

        Raises:
            ValueError: when the task's own score is not in [0, 1].
        """
        attempts = _attempts(prediction)
        parts = {"task": float(self.task(example, prediction)), **_structural(attempts)}
        if not 0 <= parts["task"] <= 1:
            raise ConfigError(f"the task's score must be in [0, 1], higher is better, not {parts['task']}")
        weights = {name: self.weights.get(name, 0.0) for name in parts}
        total = sum(weights.values())
        mean = sum(weights[name] * value for name, value in parts.items()) / total if total else parts["task"]
        # A module that calls several programs passes on the attempts of all of them.
        answered = [one for one in attempts if one.accepted] or attempts[-1:]
        gate = all(one.asserted for one in answered)
        said = words(example, prediction, parts["task"] >= 1, attempts)
        return Score(value=mean if gate else 0.0, parts=parts, feedback=said)

    def passes(self, example: Any, prediction: Any) -> bool:
        """Whether the answer is good enough to teach from: no assert unmet, and the task's score at its threshold."""
        score = self(example, prediction)
        return score.value > 0 and score.parts["task"] >= self.threshold


def as_float(score: Composite) -> Callable[..., float]:
    """The face for `dspy.Evaluate`, and for every optimizer that wants a number."""

    def metric(example: Any, prediction: Any, trace: Any = None) -> float:
        return score(example, prediction).value

    return metric


def as_bool(score: Composite) -> Callable[..., bool]:
    """The face for what collects demos: whether this answer may be one."""

    def metric(example: Any, prediction: Any, trace: Any = None) -> bool:
        return score.passes(example, prediction)

    return metric


def as_optimizer_metric(score: Composite) -> Callable[..., float | bool]:
    """Both in one, as DSPy's bootstrapping optimizers ask: with a trace, whether to keep a demo; else for the value."""

    def metric(example: Any, prediction: Any, trace: Any = None) -> float | bool:
        return score(example, prediction).value if trace is None else score.passes(example, prediction)

    return metric


def as_gepa(score: Composite) -> Callable[..., dspy.Prediction]:
    """The face for GEPA and SIMBA: the value, and in words what went wrong (see `words`).

    GEPA asks once more for each predictor (`pred_name`); the value is the same, the words are that predictor's own. Of
    a program inside another module, whose prediction has no attempts, the predictor's trace tells of them.
    """

    def metric(
        gold: Any, pred: Any, trace: Any = None, pred_name: str | None = None, pred_trace: Any = None
    ) -> dspy.Prediction:
        result = score(gold, pred)
        attempts = _attempts(pred) or [one for *_, made in pred_trace or () for one in _attempts(made)]
        feedback = words(gold, pred, result.parts["task"] >= 1, attempts, pred_name)
        return dspy.Prediction(score=result.value, feedback=feedback)

    return metric


def as_reward(score: Composite) -> Callable[..., dict[str, float | None]]:
    """The face for RL: `reward`, which is the float face's value, and beside it every part.

    For TRL: one reward function of weight 1 takes `reward`; the parts are logged as reward functions of weight 0. A
    part that a program does not have is None, as TRL has it for what does not apply to a row.

    Example:
        >>> exact = Composite(lambda example, prediction: float(example.tag == prediction.tag))
        >>> as_reward(exact)(dspy.Example(tag="comedy"), dspy.Prediction(tag="comedy"))
        {'reward': 1.0, 'task': 1.0, 'structure': None, 'evidence': None, 'consistency': None}
    """

    def reward(example: Any, prediction: Any) -> dict[str, float | None]:
        return score(example, prediction).rewards

    return reward


def _attempts(prediction: Any) -> list[Attempt]:
    """A prediction's attempts; its own, if it has an output of that name."""
    found = getattr(prediction, "_attempts", None) or getattr(prediction, "attempts", None) or []
    return [one for one in found if isinstance(one, Attempt)]


def _structural(attempts: list[Attempt]) -> dict[str, float]:
    verdicts: dict[str, Verdict] = {one.check: one for one in attempts[0].verdicts} if attempts else {}
    parts = {}
    for part, names in PARTS.items():
        held = [verdicts[name].ok for name in names if name in verdicts]
        if held and (part != "structure" or "stages" in verdicts):
            parts[part] = sum(held) / len(held)
    return parts
