"""R2P programs as DSPy's GRPO is to run them."""

from typing import Any

import dspy
from dspy.teleprompt.bootstrap_trace import FailedPrediction

from r2p_dspy import R2P, Enforce, optimizing


class Rollouts(dspy.Module):
    """A program's answers as its model gives them: one candidate, nobody who corrects, and what cannot be read counts.

    A corrected answer is none that the model gave to the prompt, and must not be rewarded as such. One that cannot be
    read leaves no trace, and for one of those DSPy's GRPO leaves out the whole group; here it gets GRPO's
    `format_failure_score`.

    Args:
        program: whose LM is trained; it shares its predictor and its LM with this module.

    Example:
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
        reason, kwargs = self.program.reason, self.program._retrieve(kwargs)
        trace = dspy.settings.trace
        before = 0 if trace is None else len(trace)
        with optimizing():
            made = Enforce(reason, self.program.checks, max_backtracks=0, max_interventions=0)(**kwargs)
        if trace is not None and len(trace) == before:
            shown = {name: kwargs[name] for name in reason.signature.input_fields} | {reason.profile: made._run.items}
            trace.append((reason, shown, FailedPrediction(made._run.text)))
        return self.program._finish(made)
