"""How a call can fail, with what it came to: an assert that does not hold, an answer that cannot be read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import dspy
from dspy.signatures.signature import make_signature
from dspy.utils.exceptions import AdapterParseError, DSPyError

from r2p_dspy.errors import R2PError
from r2p_dspy.prediction import Attempt, Details, R2PPrediction
from r2p_dspy.prompting.causes import REMEDIES, Unreadable


class AssertionFailed(R2PError):
    """An assert did not hold after the last backtrack, or the answer cannot be read.

    Args:
        prediction: the best attempt, as it would have been returned. Its fields are None if none could be read.
        attempts: every attempt with its verdicts, first to last.
        completion: what the model wrote in the best attempt.

    For an answer that cannot be read, the cause stands in `attempts[-1].unreadable`.
    """

    def __init__(self, prediction: R2PPrediction, attempts: Sequence[Attempt], completion: str = "") -> None:
        self.prediction, self.attempts, self.completion = prediction, list(attempts), completion
        best = next((attempt for attempt in attempts if attempt.accepted), attempts[-1])
        super().__init__(_unread(attempts, best.unreadable) if best.unreadable else _unmet(attempts, best))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.prediction, self.attempts, self.completion)


def _unmet(attempts: Sequence[Attempt], best: Attempt) -> str:
    unmet = [verdict for verdict in best.unmet if verdict.kind == "assert"]
    first = next((verdict for verdict in unmet if verdict.message), unmet[0])
    return (
        f"after {_counted(attempts)} the check {first.check!r} still fails: {first.message} "
        "(relax it with Suggest, raise max_backtracks, or catch AssertionFailed and read its .prediction)"
    )


def _unread(attempts: Sequence[Attempt], why: Unreadable) -> str:
    return (
        f"after {_counted(attempts)} the answer cannot be read: {why.explain()} "
        f"({REMEDIES[why.cause]}, or catch AssertionFailed and read its .completion)"
    )


def _counted(attempts: Sequence[Attempt]) -> str:
    return f"{len(attempts)} attempt{'s'[: len(attempts) != 1]}"


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
        # A signature is often made at run time, where pickle finds no class; its parts can be pickled.
        signature = cast("type[dspy.Signature]", self.signature)
        fields = {name: (info.annotation, info) for name, info in signature.fields.items()}
        rest = (self.lm_response, self.message, self.parsed_result, self.details)
        return _unreadable, (self.adapter_name, fields, signature.instructions, *rest)


def _unreadable(adapter_name: str, fields: dict[str, Any], instructions: str, *rest: Any) -> UnreadableAnswer:
    return UnreadableAnswer(adapter_name, make_signature(fields, instructions), *rest)
