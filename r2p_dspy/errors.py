"""The errors that this project raises; all of them can be pickled and copied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from dspy.signatures.signature import make_signature
from dspy.utils.exceptions import AdapterParseError, DSPyError

if TYPE_CHECKING:
    import dspy

    from r2p_dspy.prediction import Attempt, Details, R2PPrediction


class R2PError(Exception):
    """The root of this project's errors. Its message is one line: what was wrong, where, and what to do."""


class ConfigError(R2PError, ValueError):
    """A setting, an argument or an option that cannot be used."""


class DataError(R2PError, ValueError):
    """A data file that cannot be used; the message says which one and where in it."""


class ArtifactError(R2PError):
    """A compiled program's file that cannot be read, or does not fit the program it is loaded into."""

    def __init__(self, message: str) -> None:
        # The file may be a stranger's: characters that a terminal obeys are replaced.
        super().__init__("".join(char if char.isprintable() else "\ufffd" for char in " ".join(message.split())))


class RunError(R2PError):
    """A run directory that cannot be used."""


class CheckError(R2PError):
    """A check raised instead of returning a verdict: a fault of the check, not of the answer."""


class AssertionFailed(R2PError):
    """An assert did not hold after the last backtrack.

    Args:
        prediction: the best attempt, as it would have been returned. Its fields are None if none could be read.
        attempts: every attempt with its verdicts, first to last.
        completion: what the model wrote in the best attempt.
    """

    def __init__(self, prediction: R2PPrediction, attempts: Sequence[Attempt], completion: str = "") -> None:
        self.prediction, self.attempts, self.completion = prediction, list(attempts), completion
        best = next((attempt for attempt in attempts if attempt.accepted), attempts[-1])
        unmet = [verdict for verdict in best.unmet if verdict.kind == "assert"]
        first = next((verdict for verdict in unmet if verdict.message), unmet[0])
        super().__init__(
            f"after {len(attempts)} attempts the check {first.check!r} still fails: {first.message} "
            "(relax it with Suggest, raise max_backtracks, or catch AssertionFailed and read its .prediction)"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.prediction, self.attempts, self.completion)


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
        return cls(error.adapter_name, signature, error.lm_response, error.message, error.parsed_result, details)

    def __reduce__(self) -> tuple[Any, ...]:
        # A signature is often made at run time, where pickle finds no class; its parts can be pickled.
        signature = cast("type[dspy.Signature]", self.signature)
        fields = {name: (info.annotation, info) for name, info in signature.fields.items()}
        rest = (self.lm_response, self.message, self.parsed_result, self.details)
        return _unreadable, (self.adapter_name, fields, signature.instructions, *rest)


def _unreadable(adapter_name: str, fields: dict[str, Any], instructions: str, *rest: Any) -> UnreadableAnswer:
    return UnreadableAnswer(adapter_name, make_signature(fields, instructions), *rest)
