"""Assertions and backtracking around any module. Optimizers do not see them; metrics do."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, cast, get_args

import dspy
from dspy.utils.exceptions import AdapterParseError

from r2p_dspy.checks import PARSED, Assert, Check, Verdict, feedback, judge, parsed, validated
from r2p_dspy.decoding.constraining import Constrain
from r2p_dspy.decoding.monitor import Enforced, Intervention, enforcing
from r2p_dspy.errors import ConfigError
from r2p_dspy.modules.failures import AssertionFailed, UnreadableAnswer
from r2p_dspy.modules.on_unmet import OnUnmet, checked_policy, settle
from r2p_dspy.modules.reason import Reason
from r2p_dspy.modules.steps import Steps, arun, call, run
from r2p_dspy.outcome import Inputs, Outcome
from r2p_dspy.prediction import Attempt, Details, R2PPrediction, accepted
from r2p_dspy.prompting.adapter import Completion, RecordingAdapter, active_adapter
from r2p_dspy.prompting.causes import unread, unreadable_of
from r2p_dspy.prompting.citations import in_own_text
from r2p_dspy.prompting.parsing import given, unread_step

Trace = list[tuple[Any, ...]]  # of (predictor, inputs, prediction), as DSPy keeps it, untyped


def optimizing(active: bool = True) -> AbstractContextManager[None]:
    """Within it an unmet assert is recorded and scored instead of raised, as optimizers and evaluations need.

    `dspy.Evaluate` and the optimizers stop at their tenth exception; a hard task would abort them.

    Examples:
        >>> with optimizing():
        ...     dspy.settings.r2p_optimizing
        True
    """
    return cast(AbstractContextManager[None], dspy.context(r2p_optimizing=active))


@dataclass
class _Try:
    """An attempt, with all that an answer needs of it."""

    details: Details
    prediction: dspy.Prediction | None  # None for a completion that cannot be read
    completions: list[Completion]
    trace: Trace
    attempt: Attempt
    uncorrected: list[Attempt] = field(default_factory=list)  # the attempt as it would be without interventions

    @property
    def rank(self) -> tuple[bool, int, int]:
        """Attempts that meet most asserts come last, then those that meet most checks."""
        unmet = [verdict.kind for verdict in self.attempt.unmet]
        return self.prediction is not None, -unmet.count("assert"), -len(unmet)


class Enforce(dspy.Module):
    """Run a module and retry it while checks fail, with their messages as feedback to the model.

    The outer trace gets the steps of the accepted attempt alone, with the original predictors and inputs, so optimizers
    see neither feedback nor failures. Each step's prediction is an `R2PPrediction` with the details of the call, so
    metrics find the attempts in the trace of a program that is nested in another one. State names are the wrapped
    module's own.

    Args:
        module: any module. Around a `Reason` the checks see its stages and the items as rendered; around another module
            they see its fields and the outputs of its predictors (`outcome.predictors`).
        checks: made with `Assert` and `Suggest`. Whether the output can be read is always checked.
        max_backtracks: the most retries of one call, at least 0; a check may have a maximum of its own.
        max_interventions: the most corrections of one running attempt, at least 0; for a `Reason` whose engine can be
            steered.
        constrain: whether a `Reason` writes under a grammar, which its template and the shown items make: "auto" where
            the engine can, "on" with a warning where it cannot, "off".
        on_unmet: what to do when an assert fails after the last retry. "raise": raise `AssertionFailed`; "return":
            return the best attempt, whose `violations` say what is unmet; a function: it is called with the
            `AssertionFailed` and returns the answer, as a dict or a prediction. It may be async where the call is.

    A call returns an `R2PPrediction` with the module's fields. Under `optimizing()` it returns the best attempt,
    whatever `on_unmet` says.

    Raises:
        ConfigError: `max_backtracks` or `max_interventions` is negative, a check is no `Check`, two checks have one
            name, or `on_unmet` is none of these.
        AssertionFailed: in a call, an assert fails after the last retry, with `on_unmet="raise"`.

    Examples:
        >>> brief = Assert(lambda inputs, outcome: (len(outcome.answer) < 80, "Shorten it."), name="brief")
        >>> [name for name, _ in Enforce(dspy.ChainOfThought("question -> answer"), [brief]).named_predictors()]
        ['predict']
    """

    def __init__(
        self,
        module: dspy.Module,
        checks: Sequence[Check] = (),
        max_backtracks: int = 2,
        max_interventions: int = 2,
        on_unmet: OnUnmet = "raise",
        constrain: Constrain = "auto",
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        for name, most in (("max_backtracks", max_backtracks), ("max_interventions", max_interventions)):
            if most < 0:
                raise ConfigError(f"{name} must be at least 0, not {most}")
        checks = validated(checks)
        self.module = module
        first = () if any(check.name == PARSED for check in checks) else (Assert(parsed),)
        self.checks = (*first, *checks)
        self.max_backtracks = max_backtracks
        self.max_interventions = max_interventions if isinstance(module, Reason) else 0
        self.on_unmet = checked_policy(on_unmet)
        if constrain not in get_args(Constrain):
            raise ConfigError(f"unknown constrain {constrain!r}; it is one of {', '.join(get_args(Constrain))}")
        self.constrain = constrain

    def named_parameters(self) -> list[tuple[str, Any]]:
        return inner_parameters(self.module)

    def forward(self, **inputs: Any) -> R2PPrediction:
        return run(self._steps(inputs))

    async def aforward(self, **inputs: Any) -> R2PPrediction:
        return await arun(self._steps(inputs))

    def _steps(self, inputs: dict[str, Any]) -> Steps[R2PPrediction]:
        tries: list[_Try] = []
        enforced = Enforced(self.checks, self.max_interventions, self.constrain)
        while self._goes_on(tries):
            trace: Trace = []
            failed, message = (tries[-1].completions, feedback(tries[-1].attempt.verdicts)) if tries else ((), "")
            adapter = RecordingAdapter.of(active_adapter(), failed, message)
            with dspy.context(adapter=adapter, trace=trace), enforcing(enforced):
                try:
                    result = yield call(self.module, inputs)
                except AdapterParseError as error:
                    result = error
            if isinstance(result, AdapterParseError):
                tries.append(self._unreadable(inputs, result, adapter.completions))
            else:
                tries.append(self._read(inputs, result, adapter.completions, trace))
        answer = self._accept(tries)
        attempts, completion = answer.details.attempts, answer.details.completion
        if accepted(attempts).asserted or getattr(dspy.settings, "r2p_optimizing", False):
            return answer
        outputs = self.module.answers if isinstance(self.module, Reason) else ()
        return (yield from settle(AssertionFailed(answer, attempts, completion, inputs), self.on_unmet, outputs))

    def _goes_on(self, tries: list[_Try]) -> bool:
        if not tries:
            return True
        causes = [each.attempt.unreadable.cause for each in tries if each.attempt.unreadable is not None]
        last = tries[-1].attempt.unreadable
        # A model that was asked to be brief, and is cut off at the same limit again, would be so a third time.
        if last is not None and (last.is_final or (last.cause == "cut_off" and causes.count("cut_off") > 1)):
            return False
        unmet = [{verdict.check for verdict in each.attempt.unmet} for each in tries]
        return len(tries) <= self.max_backtracks and any(
            check.max_backtracks is None or sum(check.name in names for names in unmet) <= check.max_backtracks
            for check in self.checks
            if check.name in unmet[-1]
        )

    def _unreadable(self, inputs: dict[str, Any], error: AdapterParseError, completions: list[Completion]) -> _Try:
        if not completions:  # DSPy does not even parse an empty completion
            completions = [Completion(cast(type[dspy.Signature], error.signature), "")]
        if isinstance(error, UnreadableAnswer):
            details = error.details
        else:
            seen = Inputs(fields=inputs, items=given(inputs).local())
            why = unreadable_of(error)
            text = completions[-1].text or why.reply
            details = Details(outcome=unread(error), inputs=seen, completion=text, unreadable=why)
        return self._judged(details, None, completions, [])

    def _read(
        self, inputs: dict[str, Any], prediction: dspy.Prediction, completions: list[Completion], trace: Trace
    ) -> _Try:
        details = prediction.details if isinstance(prediction, R2PPrediction) else Details()
        if not isinstance(self.module, Reason):
            fields = dict(prediction.items())
            outputs = {id(predictor): dict(step.items()) for predictor, _, step in trace}
            names = self.module.named_predictors() if not isinstance(self.module, dspy.Predict) else ()
            predictors = {name: outputs[id(predictor)] for name, predictor in names if id(predictor) in outputs}
            details = replace(
                details,
                inputs=Inputs(fields=inputs, items=given(inputs).local()),
                outcome=Outcome(fields=fields, answers=tuple(fields), predictors=predictors),
                completion=completions[-1].text if completions else "",
            )
        return self._judged(details, prediction, completions, trace)

    def _judged(
        self, details: Details, prediction: dspy.Prediction | None, completions: list[Completion], trace: Trace
    ) -> _Try:
        verdicts = judge(self.checks, details.inputs, details.outcome)
        shape = next((completion.shape for completion in completions if completion.shape), "")
        completion = details.completion
        attempt = Attempt(verdicts=verdicts, unreadable=details.unreadable, shape=shape, completion=completion)
        interventions = details.interventions if isinstance(self.module, Reason) else []
        uncorrected = [_without(interventions, attempt)] if interventions else []
        return _Try(details, prediction, completions, trace, attempt, uncorrected)

    def _accept(self, tries: list[_Try]) -> R2PPrediction:
        # Prefer the attempt that meets most asserts, then most checks; on a tie, the latest.
        best = max(reversed(tries), key=lambda each: each.rank)
        best.attempt.accepted = True
        attempts = [attempt for each in tries for attempt in (*each.uncorrected, each.attempt)]
        details = in_own_text(replace(best.details, attempts=attempts))
        prediction = best.prediction
        if prediction is None:
            prediction = dspy.Prediction(dict.fromkeys(best.completions[-1].signature.output_fields))
        answer = R2PPrediction(prediction, details=details)
        if isinstance(self.module, Reason) and best.prediction is not None:
            for name, value in self.module.stage_fields(details.outcome).items():
                answer[name] = value
        outer = dspy.settings.trace
        if outer is not None and best.prediction is not None:
            outer.extend(_with_details(step, details) for step in best.trace)
            del outer[: -dspy.settings.max_trace_size]  # DSPy's own limit; outside of optimizers it would grow forever
        elif outer is not None and getattr(dspy.settings, "r2p_reflecting", False):
            outer.append(unread_step(inner_parameters(self.module), details.inputs, *best.completions[-1][:2]))
        return answer


def inner_parameters(module: dspy.Module) -> list[tuple[str, Any]]:
    """A wrapped module's parameters under the names that they have without the wrapper."""
    if isinstance(module, dspy.Predict):
        return [("reason" if isinstance(module, Reason) else "predict", module)]
    parameters: list[tuple[str, Any]] = module.named_parameters()
    return parameters


def _with_details(step: tuple[Any, ...], details: Details) -> tuple[Any, ...]:
    """A step of a trace whose prediction has the details of the call beside its fields, where demos do not see them."""
    *before, prediction = step
    if not isinstance(prediction, dspy.Prediction):  # a failure that a nested module recorded
        return step
    return (*before, R2PPrediction(prediction, details=details))


def _without(interventions: Sequence[Intervention], attempt: Attempt) -> Attempt:
    """The attempt as it would have been without interventions: each check that was corrected is unmet."""
    messages = {intervention.check: intervention.message for intervention in reversed(interventions)}
    verdicts = [
        verdict.model_copy(update={"ok": False, "message": messages.pop(verdict.check)})
        if verdict.check in messages
        else verdict
        for verdict in attempt.verdicts
    ]
    verdicts += [Verdict(check=check, kind="assert", ok=False, message=text) for check, text in messages.items()]
    return Attempt(verdicts=verdicts, interventions=list(interventions), shape=attempt.shape)
