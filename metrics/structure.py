"""Structural compliance: how often an answer kept to the template, at the first attempt and in the end."""

from collections.abc import Sequence
from typing import Any

from r2p_dspy.modules.enforce import accepted
from r2p_dspy.scoring.composite import PARTS

_STRUCTURAL = PARTS["structure"]


def compliant_first(prediction: Any) -> bool | None:
    """Whether the first attempt could be read and had its stages filled and in order.

    Args:
        prediction: what a program returned; an R2P program's has `attempts`, each with its checks' `verdicts`.

    Returns:
        True or False; None where the program has no template, so that there is nothing to keep to.

    Example:
        >>> import dspy
        >>> compliant_first(dspy.Prediction(tag="comedy")) is None
        True
    """
    return _compliant(prediction, first=True)


def compliant_final(prediction: Any) -> bool | None:
    """Whether the attempt that was answered with was so; see `compliant_first`."""
    return _compliant(prediction, first=False)


def compliance(predictions: Sequence[Any]) -> dict[str, list[bool] | None]:
    """Compliance of a program's answers, example by example.

    Args:
        predictions: what one program returned for each example.

    Returns:
        `first` and `final`: a bool for each prediction, whose mean is the compliance; None for a program without a
        template. Where some predictions have attempts and one has none, that call failed, and counts as False.

    Example:
        >>> import dspy
        >>> compliance([dspy.Prediction(tag="comedy")])
        {'first': None, 'final': None}
    """
    return {
        "first": _of_program([compliant_first(one) for one in predictions]),
        "final": _of_program([compliant_final(one) for one in predictions]),
    }


def _compliant(prediction: Any, first: bool) -> bool | None:
    attempts = getattr(prediction, "attempts", None)
    if not attempts:
        return None
    attempt = attempts[0] if first else accepted(attempts)
    verdicts = {one.check: one.ok for one in attempt.verdicts if one.check in _STRUCTURAL}
    if not all(verdicts.values()):
        return False
    return True if "stages" in verdicts else None


def _of_program(found: list[bool | None]) -> list[bool] | None:
    # Leaving failed calls out would raise the share of a program that fails where others are merely wrong.
    return None if all(one is None for one in found) else [bool(one) for one in found]
