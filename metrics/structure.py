"""Structural compliance: how often an answer keeps to the template, at the first attempt and in the end."""

from r2p_dspy.scoring.composite import part_holds


def compliant_first(prediction: object) -> bool | None:
    """Whether the first attempt could be read, with its stages filled and in order; None without a template."""
    return part_holds(prediction, "structure", first=True)


def compliant_final(prediction: object) -> bool | None:
    """`compliant_first` for the accepted attempt."""
    return part_holds(prediction, "structure")
