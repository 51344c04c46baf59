"""A sampled outcome and all that came with it: prediction or error, verdicts, trace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dspy

from r2p_dspy.checks import Check, judge
from r2p_dspy.modules.enforce import Attempt, accepted
from r2p_dspy.modules.voting import Candidate
from r2p_dspy.outcome import Inputs, Outcome
from r2p_dspy.prompting.parsing import cited


@dataclass
class Sampled:
    """A candidate with what it came with.

    Args:
        made: the prediction, or what was raised instead of one.
        candidate: what is told about it.
        trace: of the call, with the original predictors.
    """

    made: Any
    candidate: Candidate
    trace: list[Any]

    @classmethod
    def of(cls, made: Any, answer: str, trace: list[Any]) -> Sampled:
        """What a call came to.

        Args:
            made: a prediction or an exception.
            answer: the output that is reconciled.
            trace: of the call.
        """
        if isinstance(made, Exception):
            return cls(made, Candidate(answer={}, survives=False, error=f"{type(made).__name__}: {made}"), trace)
        outcome: Outcome | None = getattr(made, "_outcome", None)
        inputs: Inputs | None = getattr(made, "_inputs", None)
        attempts: list[Attempt] = getattr(made, "_attempts", None) or []
        fields = {name: made.get(name) for name in outcome.answers} if outcome is not None else dict(made.items())
        held = fields.get(answer) is not None and (not attempts or accepted(attempts).asserted)
        stages = dict(outcome.stages) if outcome is not None else {}
        error = outcome.error if outcome is not None else None
        cites = cited(inputs, outcome) if inputs is not None and outcome is not None else ()
        candidate = Candidate(
            answer=fields,
            stages=stages,
            cited=[item.id for item in cites],
            attempts=attempts,
            survives=held,
            error=error,
        )
        return cls(made, candidate, trace)

    @property
    def met(self) -> int:
        """How many checks hold."""
        attempts = self.candidate.attempts
        return sum(verdict.ok for verdict in accepted(attempts).verdicts) if attempts else 0

    def answering(self, name: str, answer: str, checks: tuple[Check, ...]) -> Sampled | None:
        """This candidate with another text for an answer, drafted anew; None where an assert does not hold for that."""
        fields = {**self.candidate.answer, name: answer}
        stages = {**self.candidate.stages, **({"draft": answer} if "draft" in self.candidate.stages else {})}
        made = dspy.Prediction(**{**dict(self.made.items()), name: answer})
        attempts = self.candidate.attempts
        if (outcome := getattr(self.made, "_outcome", None)) is not None:
            if self.made._inputs.labels:  # one of a list is chosen, not written
                return None
            outcome = outcome.model_copy(update={"fields": fields, "stages": stages})
            last = Attempt(verdicts=judge(checks, self.made._inputs, outcome), accepted=True)
            if not last.asserted:
                return None
            attempts = [*(one.model_copy(update={"accepted": False}) for one in attempts), last]
            made._inputs, made._outcome, made._attempts = self.made._inputs, outcome, attempts
            made._run, made._completions = self.made._run, self.made._completions
        candidate = self.candidate.model_copy(update={"answer": fields, "stages": stages, "attempts": attempts})
        return Sampled(made, candidate, self.trace)


def agreement(runs: Sequence[Sampled], chosen: int) -> str:
    """In words, how many agree with the candidate at a place."""
    held = [run for run in runs if run.candidate.survives]
    return f"{runs[chosen].candidate.support} of {len(held)} candidates that hold answer so"
