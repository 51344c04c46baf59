"""Evidence validity: how often an answer's citations stand up, by the same checks that guard it at run time."""

from collections.abc import Sequence
from typing import Any

from r2p_dspy.modules.enforce import accepted

_EVIDENTIAL = ("cited", "quoted", "labelled")


def valid(prediction: Any, *, first: bool = False) -> bool | None:
    """Whether an answer's evidence stands up.

    It does when at least one item is cited, every cited id exists, every quote stands verbatim in its item's text
    (white space aside) and every preference's label is that of its items: the checks `cited`, `quoted` and `labelled`.

    Args:
        prediction: what a program returned; an R2P program's has `attempts`, each with its checks' `verdicts`, and
            `retrieved`, the items that the model saw.
        first: ask this of the first attempt rather than of the one that was answered with.

    Returns:
        True or False; None where it does not apply: the program gives no evidence, or there was no item to cite.

    Example:
        >>> import dspy
        >>> valid(dspy.Prediction(tag="comedy")) is None
        True
    """
    attempts = getattr(prediction, "attempts", None)
    if not attempts:
        return None
    attempt = attempts[0] if first else accepted(attempts)
    verdicts = {one.check: one.ok for one in attempt.verdicts if one.check in _EVIDENTIAL}
    return all(verdicts.values()) if verdicts and len(prediction.retrieved) else None


def validity(predictions: Sequence[Any], *, first: bool = False) -> list[bool] | None:
    """Evidence validity of a program's answers, example by example.

    Args:
        predictions: what one program returned for each example.
        first: see `valid`.

    Returns:
        A bool for each prediction to which it applies, whose mean is the evidence validity; None when it applies to
        none. A prediction without attempts, where others have them, is a failed call and counts as False.

    Example:
        >>> import dspy
        >>> validity([dspy.Prediction(tag="comedy")]) is None
        True
    """
    if not any(getattr(one, "attempts", None) for one in predictions):
        return None
    found = [valid(one, first=first) if getattr(one, "attempts", None) else False for one in predictions]
    applies = [one for one in found if one is not None]
    return applies or None
