"""Reads a completion and checks it as a call would, without calling a model. RL rewards are computed from it."""

from collections.abc import Sequence
from typing import Any

import dspy
from dspy.adapters import Adapter
from dspy.utils.exceptions import AdapterParseError

from r2p_dspy.checks import Check, judge
from r2p_dspy.modules.enforce import Attempt
from r2p_dspy.modules.reason import Reason, Run
from r2p_dspy.outcome import Inputs
from r2p_dspy.profile import Profile
from r2p_dspy.prompting.adapter import watch
from r2p_dspy.prompting.parsing import read_outcome, unread


class CompletionReader:
    """Reads completions of a `Reason`, and checks each as a first attempt without backtracking.

    Args:
        reason: the module whose prompt the completions answer.
        checks: such as an R2P program's `checks`.
        adapter: parses the completions; DSPy's chat adapter by default.

    A call takes the inputs as rendered and the completion's text. It returns the prediction that an `Enforce` without
    backtracks returns, with `retrieved`, `outcome`, `violations` and `attempts`, so `Composite` can score it. The
    fields of an unreadable completion are None.

    Raises:
        CheckError: if a check itself fails.

    Example:
        >>> class Tag(dspy.Signature):
        ...     film: str = dspy.InputField()
        ...     profile: Profile = dspy.InputField()
        ...     tag: str = dspy.OutputField()
        >>> prediction = CompletionReader(Reason(Tag))(Inputs(fields={"film": "Rain"}), "[[ ## tag ## ]] sad")
        >>> prediction.tag, prediction.outcome.error
        (None, 'the field requirements is missing.')
    """

    def __init__(self, reason: Reason, checks: Sequence[Check] = (), adapter: Adapter | None = None):
        self.reason, self.checks = reason, tuple(checks)
        self._adapter = watch(adapter or dspy.ChatAdapter())

    def __call__(self, inputs: Inputs, text: str) -> dspy.Prediction:
        try:
            made = dspy.Prediction(**self._adapter.parse(self.reason.signature, text))
            made._run = Run(inputs.items, text)
            _, outcome = read_outcome(self.reason, inputs.fields, made)
        except AdapterParseError as error:
            outcome = unread(error)
        finally:
            self._adapter.texts.clear()
            self._adapter.calls.clear()
        attempt = Attempt(verdicts=judge(self.checks, inputs, outcome), accepted=True)
        fields: dict[str, Any] = {name: outcome.fields.get(name) for name in self.reason.answers}
        extras = {
            "retrieved": inputs.items,
            "outcome": outcome,
            "violations": attempt.unmet,
            "attempts": [attempt],
        }
        prediction = dspy.Prediction(**{**extras, **fields})
        prediction._inputs, prediction._outcome, prediction._attempts = inputs, outcome, [attempt]
        return prediction


def load_inputs(reason: Reason, text: str) -> Inputs:
    """Read inputs that were written as JSON (`inputs.model_dump_json()`), with the profile as a `Profile`.

    Example:
        >>> class Tag(dspy.Signature):
        ...     profile: Profile = dspy.InputField()
        ...     tag: str = dspy.OutputField()
        >>> inputs = Inputs(fields={"profile": Profile.of([{"id": "1", "text": "Rain"}])})
        >>> load_inputs(Reason(Tag), inputs.model_dump_json()).profile[0].text
        'Rain'
    """
    inputs = Inputs.model_validate_json(text)
    inputs.fields[reason.profile] = Profile.of(inputs.fields.get(reason.profile))
    return inputs
