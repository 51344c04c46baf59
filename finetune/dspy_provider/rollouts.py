"""R2P programs as DSPy's GRPO runs them."""

from copy import copy
from typing import Any

import dspy
from dspy.teleprompt.bootstrap_trace import FailedPrediction

from r2p_dspy import R2P, R2PPrediction, optimizing


class Rollouts(dspy.Module):
    """Runs a program as its model answers alone: one candidate, no corrections; unreadable answers count.

    A corrected answer is not the model's answer to the prompt, and must not be rewarded as one. An unreadable answer
    leaves no trace, and DSPy's GRPO then drops its whole group; here it gets GRPO's `format_failure_score`.

    Args:
        program: its LM is trained; this module shares its predictor and LM.

    Examples:
        >>> from r2p_dspy import Profile
        >>> class Tag(dspy.Signature):
        ...     film: str = dspy.InputField()
        ...     profile: Profile = dspy.InputField()
        ...     tag: str = dspy.OutputField()
        >>> [name for name, _ in Rollouts(R2P(Tag, candidates=5)).named_predictors()]
        ['program.reason']
    """

    def __init__(self, program: R2P):
        super().__init__()
        self.program = program

    def forward(self, **kwargs: Any) -> dspy.Prediction:
        """Answer once, and leave a failed prediction in the trace where the answer cannot be read."""
        reason = self.program.reason
        alone = copy(self.program)
        alone.candidates, alone.max_backtracks, alone.max_interventions = 1, 0, 0
        trace = dspy.settings.trace
        before = 0 if trace is None else len(trace)
        with optimizing():
            answer: R2PPrediction = alone(**kwargs)
        if trace is not None and len(trace) == before:
            shown = {name: kwargs[name] for name in reason.signature.input_fields}
            shown[reason.profile] = answer.details.retrieved
            trace.append((reason, shown, FailedPrediction(answer.details.completion)))
        return answer
