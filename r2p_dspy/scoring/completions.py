"""Reads a completion and checks it as a call would, without calling a model. RL rewards are computed from it."""

from collections.abc import Sequence
from dataclasses import replace

import dspy
from dspy.adapters import Adapter
from dspy.utils.exceptions import AdapterParseError

from r2p_dspy.checks import Check, judge
from r2p_dspy.modules.reason import Reason
from r2p_dspy.outcome import Inputs, unshadowed
from r2p_dspy.prediction import Attempt, R2PPrediction
from r2p_dspy.profile import Profile
from r2p_dspy.prompting.causes import unread, unreadable_of
from r2p_dspy.prompting.citations import in_own_text
from r2p_dspy.prompting.shapes import read


class CompletionReader:
    """Reads completions of a `Reason`, and checks each as a first attempt without backtracking.

    A call takes the inputs as rendered and the completion's text. It returns the prediction that an `Enforce` without
    backtracks returns, so `Composite` can score it. The fields of an unreadable completion are None.

    Args:
        reason: the module whose prompt the completions answer.
        checks: such as an R2P program's `checks`.
        adapter: parses the completions; DSPy's chat adapter by default.

    Examples:
        >>> class Tag(dspy.Signature):
        ...     film: str = dspy.InputField()
        ...     profile: Profile = dspy.InputField()
        ...     tag: str = dspy.OutputField()
        >>> prediction = CompletionReader(Reason(Tag))(Inputs(fields={"film": "Rain"}), "[[ ## tag ## ]] sad")
        >>> prediction.tag, prediction.outcome.error
        (None, 'the field requirements is missing.')
    """

    def __init__(self, reason: Reason, checks: Sequence[Check] = (), adapter: Adapter | None = None) -> None:
        self.reason, self.checks = reason, tuple(checks)
        self._adapter = adapter or dspy.ChatAdapter()

    def __call__(self, inputs: Inputs, text: str) -> R2PPrediction:
        why, shape = None, ""
        try:
            outputs, shape = read(self._adapter.parse, self.reason.signature, text)
            outcome = self.reason.outcome_of(outputs, text)
        except AdapterParseError as error:
            outcome, why = unread(error), unreadable_of(error)
        details = self.reason.details_of(inputs, outcome, text)
        why = why or details.unreadable
        verdicts = judge(self.checks, inputs, outcome)
        attempt = Attempt(verdicts=verdicts, accepted=True, unreadable=why, shape=shape)
        details = in_own_text(replace(details, attempts=[attempt], unreadable=why))
        values = unshadowed(outcome).fields
        return R2PPrediction({name: values.get(name) for name in self.reason.answers}, details=details)


def load_inputs(reason: Reason, text: str) -> Inputs:
    """Read inputs that were written as JSON (`inputs.to_json()`), with the profile as a `Profile`."""
    inputs = Inputs.from_json(text)
    fields = unshadowed(inputs).fields
    fields[reason.profile] = Profile.of(fields.get(reason.profile))
    return inputs
