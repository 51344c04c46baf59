"""How a call can fail, with what it came to: an assert that does not hold, an answer that cannot be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import dspy
from dspy.utils.exceptions import AdapterParseError, DSPyError

from r2p_dspy.checks import BUILT_IN, PARSED
from r2p_dspy.errors import R2PError
from r2p_dspy.prediction import Attempt, Details, R2PPrediction
from r2p_dspy.prompting.causes import REMEDIES
from r2p_dspy.prompting.signature import PicklableSignature


class AssertionFailed(R2PError):
    """An assert did not hold after the last backtrack, or the answer cannot be read.

    Args:
        prediction: the best attempt, as it would have been returned. Its fields are None if none could be read.
        attempts: every attempt with its verdicts, first to last.
        completion: what the model wrote in the best attempt.
        inputs: what the program was called with.

    `check` is the name of the unmet check whose message is shown. For an answer that cannot be read, the
    cause stands in `attempts[-1].unreadable`.
    """

    def __init__(
        self,
        prediction: R2PPrediction,
        attempts: Sequence[Attempt],
        completion: str = "",
        inputs: Mapping[str, Any] | None = None,
    ) -> None:
        self.prediction, self.attempts, self.completion = prediction, list(attempts), completion
        self.inputs = dict(inputs or {})
        best = next((attempt for attempt in attempts if attempt.accepted), attempts[-1])
        why = best.unreadable
        unmet = [verdict for verdict in best.unmet if verdict.kind == "assert"]
        # Of an answer that cannot be read every check fails, and `parsed` alone says why.
        first = next((verdict for verdict in [*unmet, *best.unmet] if verdict.message), unmet[0])
        self.check = first.check
        problem, advice = f"the check {first.check!r} still fails: {first.message}", _relaxed(first.check)
        if why is not None:
            problem, advice = f"the answer cannot be read: {why.explain()}", REMEDIES[why.cause]
        attempted = f"after {len(attempts)} attempt{'s' if len(attempts) != 1 else ''}"
        super().__init__(f'{attempted} {problem} ({advice}, or answer anyway with on_unmet="return")')

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.prediction, self.attempts, self.completion, self.inputs)


def _relaxed(check: str) -> str:
    """How to meet or relax a check, for a message. `parsed` cannot be relaxed: without an answer no check is met."""
    more = "raise max_backtracks"
    if check == PARSED:
        return more
    built_in = any(check == known.name for known in BUILT_IN)
    return f"relax it with checks=[Suggest({'checks.' if built_in else ''}{check})], {more}"


class UnreadableAnswer(AdapterParseError):
    """A completion that cannot be read as the signature's outputs, with the details of the call that wrote it."""

    def __init__(
        self,
        adapter_name: str,
        signature: type[dspy.Signature],
        lm_response: str,
        message: str,
        parsed_result: Any,  # DSPy says `str` and passes a dict
        details: Details,
    ) -> None:
        DSPyError.__init__(self, message)  # AdapterParseError would build the message a second time
        self.adapter_name, self.signature = adapter_name, signature
        self.lm_response, self.parsed_result = lm_response, parsed_result
        self.details = details

    @classmethod
    def of(cls, error: AdapterParseError, details: Details) -> UnreadableAnswer:
        """The same error with details."""
        signature = cast("type[dspy.Signature]", error.signature)  # DSPy's annotation says an instance
        why, message = details.unreadable, error.message
        if why is not None and why.cause != "malformed":
            message = f"The answer cannot be read: {why.explain()} ({REMEDIES[why.cause]}). {message}"
        return cls(error.adapter_name, signature, error.lm_response, message, error.parsed_result, details)

    def __reduce__(self) -> tuple[Any, ...]:
        signature = PicklableSignature(cast("type[dspy.Signature]", self.signature))
        rest = (self.lm_response, self.message, self.parsed_result, self.details)
        return _unreadable, (self.adapter_name, signature, *rest)


def _unreadable(adapter_name: str, held: PicklableSignature, *rest: Any) -> UnreadableAnswer:
    return UnreadableAnswer(adapter_name, held.signature, *rest)
