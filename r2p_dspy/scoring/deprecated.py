"""The metric adapters under their former names, for one version; they are methods of `Composite` now."""

import warnings
from collections.abc import Callable

import dspy

from r2p_dspy.scoring.composite import Composite


def as_float(score: Composite) -> Callable[..., float]:
    """Deprecated: use `score.metric`."""
    _warn("as_float", "metric")
    return score.metric


def as_bool(score: Composite) -> Callable[..., bool]:
    """Deprecated: use `score.accepts`."""
    _warn("as_bool", "accepts")
    return score.accepts


def as_optimizer_metric(score: Composite) -> Callable[..., float | bool]:
    """Deprecated: use `score.optimizer_metric`."""
    _warn("as_optimizer_metric", "optimizer_metric")
    return score.optimizer_metric


def as_gepa(score: Composite) -> Callable[..., dspy.Prediction]:
    """Deprecated: use `score.gepa_metric`."""
    _warn("as_gepa", "gepa_metric")
    return score.gepa_metric


def as_reward(score: Composite) -> Callable[..., dict[str, float | None]]:
    """Deprecated: use `score.reward`."""
    _warn("as_reward", "reward")
    return score.reward


def _warn(old: str, new: str) -> None:
    warnings.warn(f"{old}(score) is deprecated; use score.{new}", DeprecationWarning, stacklevel=3)
