"""What a call tried on the way to its answer: attempts, and the candidates that they led to."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, SerializeAsAny

from r2p_dspy.checks import Verdict
from r2p_dspy.decoding.monitor import Intervention
from r2p_dspy.prompting.causes import Unreadable


class Attempt(BaseModel):
    """One attempt at an answer.

    Args:
        verdicts: the verdict of each check.
        accepted: whether this attempt became the answer.
        interventions: the corrections of its running text. They led to the next attempt in the list.
        unreadable: why it could not be read; None if it could.
        shape: the format in which it was read, "JSON", "XML" or "chat", if that is not the one asked for; else "". Such
            an answer holds, but it does not comply with the template.
        completion: what the model wrote; empty for an attempt that was corrected while it ran, where it is the
            completion of the next one.
    """

    verdicts: list[Verdict]
    accepted: bool = False
    interventions: list[Intervention] = []
    unreadable: Unreadable | None = None
    shape: str = ""
    completion: str = ""

    @property
    def unmet(self) -> list[Verdict]:
        """The verdicts of the checks that failed."""
        return [verdict for verdict in self.verdicts if not verdict.ok]

    @property
    def asserted(self) -> bool:
        """Whether every assert holds."""
        return all(verdict.ok for verdict in self.verdicts if verdict.kind == "assert")


def accepted(attempts: Sequence[Attempt]) -> Attempt:
    """The attempt that became the answer."""
    return next((attempt for attempt in attempts if attempt.accepted), attempts[-1])


class Candidate(BaseModel):
    """One sampled outcome.

    Args:
        answer: the signature's own outputs by name; empty when there is none.
        stages: the template's stages by name.
        cited: the ids of the cited items, as in the user's profile.
        attempts: the attempts at it; empty for a module without checks.
        survives: whether there is an answer and every assert holds for it.
        supported: whether this or a surviving candidate with the same answer cites evidence.
        support: the number of surviving candidates with the same answer.
        chosen: whether it became the answer.
        error: why there is no answer, or None.
    """

    answer: dict[str, SerializeAsAny[Any]]  # values of any type: the user's signature and template decide
    stages: dict[str, SerializeAsAny[Any]] = {}
    cited: list[str] = []
    attempts: list[Attempt] = []
    survives: bool = True
    supported: bool = False
    support: int = 0
    chosen: bool = False
    error: str | None = None
