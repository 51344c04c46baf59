"""One sampled outcome with all that came with it: the prediction or the error, the verdicts, the trace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import dspy

from r2p_dspy.checks import Check, judge
from r2p_dspy.modules.enforce import Trace
from r2p_dspy.outcome import Outcome, unshadowed
from r2p_dspy.prediction import Attempt, Candidate, R2PPrediction, Reasoning, accepted


@dataclass
class Sampled:
    """A candidate with all that came with it."""

    result: R2PPrediction | Exception
    candidate: Candidate  # as reports show it
    trace: Trace  # with the original predictors

    @classmethod
    def of(cls, result: dspy.Prediction | Exception, answer: str, trace: Trace) -> Sampled:
        """The result of a call; `answer` is the output that is reconciled."""
        if isinstance(result, Exception):
            error = f"{type(result).__name__}: {result}"
            return cls(result, Candidate(answer={}, survives=False, error=error), trace)
        prediction = R2PPrediction(result)
        details, outcome = prediction.details, unshadowed(prediction.details.outcome)
        names = outcome.answers if isinstance(result, R2PPrediction) else prediction.keys()
        fields = {name: prediction.get(name) for name in names}
        asserted = not details.attempts or accepted(details.attempts).asserted
        candidate = Candidate(
            answer=fields,
            stages=dict(outcome.stages),
            cited=[item.id for item in details.reasoning.cited],
            attempts=details.attempts,
            survives=answer in fields and outcome.error is None and asserted,
            error=outcome.error,
        )
        return cls(prediction, candidate, trace)

    def answering(self, name: str, text: str, checks: tuple[Check, ...]) -> Sampled | None:
        """This candidate with another text as its draft and its output `name`; None where it breaks an assert."""
        if not isinstance(self.result, R2PPrediction):
            return None
        prediction, details = self.result.copy(), self.result.details
        if unshadowed(details.inputs).labels:  # a label is chosen, not written
            return None
        fields = {**self.candidate.answer, name: text}
        stages = {**self.candidate.stages, **({"draft": text} if "draft" in self.candidate.stages else {})}
        outcome = Outcome(**{**vars(details.outcome), "fields": fields, "stages": stages})
        attempts = [attempt.model_copy(update={"accepted": False}) for attempt in details.attempts]
        if attempts:
            attempts.append(Attempt(verdicts=judge(checks, details.inputs, outcome), accepted=True))
            if not attempts[-1].asserted:
                return None
        prediction[name] = text
        reasoning = Reasoning({**details.reasoning.stages, **stages}, details.reasoning.cited)
        details = replace(details, outcome=outcome, reasoning=reasoning, attempts=attempts)
        candidate = self.candidate.model_copy(update={"answer": fields, "stages": stages, "attempts": attempts})
        return Sampled(R2PPrediction(prediction, details=details), candidate, self.trace)


def agreement(samples: Sequence[Sampled], chosen: int) -> str:
    """In words, how many candidates agree with one of them."""
    surviving = [sample for sample in samples if sample.candidate.survives]
    return f"{samples[chosen].candidate.support} of {len(surviving)} candidates that hold answer so"
