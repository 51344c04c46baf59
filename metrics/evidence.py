"""Evidence validity: how often an answer's citations hold, by the checks that also guard and score it."""

from typing import Any

from r2p_dspy.prediction import R2PPrediction
from r2p_dspy.scoring.composite import part_holds


def valid(prediction: Any, *, first: bool = False) -> bool | None:  # its details are found by name
    """Whether an answer's evidence holds, in the accepted attempt or the first.

    It holds if the checks `cited`, `quoted`, `backed` and `labelled` hold (`r2p_dspy.scoring.composite.PARTS`): at
    least one item is cited, every cited id exists, every quote stands in its item, every preference rests on cited
    items, and every preference's label is that of its items.

    Returns:
        None if it does not apply: the program gives no evidence, or there was no item to cite.
    """
    holds = part_holds(prediction, "evidence", first=first)
    if holds is None:
        return None
    # An output of that name hides the attribute.
    retrieved = prediction.details.retrieved if isinstance(prediction, R2PPrediction) else prediction.retrieved
    return holds if len(retrieved) else None
