"""Structural compliance: how often an answer keeps to the template, at the first attempt and in the end."""

from typing import Any

from r2p_dspy.scoring.composite import part_holds


def compliant_first(prediction: Any) -> bool | None:
    """Whether the first attempt could be read and has its stages filled and in order.

    Args:
        prediction: what a program returned.

    Returns:
        None if the program has no template.

    Example:
        >>> import dspy
        >>> compliant_first(dspy.Prediction(tag="comedy")) is None
        True
    """
    return part_holds(prediction, "structure", first=True)


def compliant_final(prediction: Any) -> bool | None:
    """Whether the accepted attempt could be read and has its stages filled and in order; see `compliant_first`."""
    return part_holds(prediction, "structure")
