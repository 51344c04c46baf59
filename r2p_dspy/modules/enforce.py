"""Assertions and backtracking around any module, in a way that optimizers cannot see and metrics are not fooled by."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import dspy
from dspy.utils.exceptions import AdapterParseError
from pydantic import BaseModel

from r2p_dspy.checks import Assert, Check, Verdict, feedback, judge, parsed
from r2p_dspy.decoding.monitor import Intervention, enforcing
from r2p_dspy.errors import AssertionFailed, ConfigError
from r2p_dspy.modules.reason import Reason
from r2p_dspy.outcome import Inputs, Outcome
from r2p_dspy.prompting.adapter import active_adapter, watch
from r2p_dspy.prompting.parsing import given, read_outcome, unread, unread_step


class Attempt(BaseModel):
    """One attempt of a call.

    Args:
        verdicts: what each check said of it.
        accepted: whether it is the one that was answered with.
        interventions: what was corrected while it ran; then what came of it is the next attempt.
    """

    verdicts: list[Verdict]
    accepted: bool = False
    interventions: list[Intervention] = []

    @property
    def unmet(self) -> list[Verdict]:
        """The verdicts of the checks that did not hold."""
        return [verdict for verdict in self.verdicts if not verdict.ok]

    @property
    def asserted(self) -> bool:
        """Whether every assert holds."""
        return all(verdict.ok for verdict in self.verdicts if verdict.kind == "assert")


def accepted(attempts: list[Attempt]) -> Attempt:
    """The attempt that was answered with."""
    return next((attempt for attempt in attempts if attempt.accepted), attempts[-1])


def optimizing(active: bool = True) -> AbstractContextManager[None]:
    """Within it an unmet assert is recorded and scored instead of raised, as optimizers and evaluations need.

    `dspy.Evaluate` and the optimizers stop at their tenth exception; a hard task would abort them.

    Example:
        >>> with optimizing():
        ...     dspy.settings.r2p_optimizing
        True
    """
    return dspy.context(r2p_optimizing=active)


@dataclass
class _Try:
    """An attempt while it is made."""

    inputs: Inputs
    outcome: Outcome
    prediction: dspy.Prediction | None
    calls: list[tuple[type[dspy.Signature], str]]
    trace: list[Any] = field(default_factory=list)
    attempt: Attempt = field(default_factory=lambda: Attempt(verdicts=[]))
    corrected: list[Attempt] = field(default_factory=list)  # what it would have been without interventions
    run: Any = None  # how a `Reason` came to it, even to what cannot be read


class Enforce(dspy.Module):
    """Run a module until its checks hold: an unmet check goes back to the model as feedback, and it tries again.

    The outer trace gets the accepted attempt's entries alone, with the original predictors and inputs, so optimizers
    see neither feedback nor failures; the prediction holds every attempt's verdicts, so metrics see them all. State
    names are the wrapped module's own.

    Args:
        module: any module; with a `Reason`, the checks see its stages and the items as rendered, with another one the
            outputs of its predictors (`outcome.predictors`).
        checks: made with `Assert` and `Suggest`; whether the output could be read is always checked.
        max_backtracks: how often at most a call tries again, at least 0; a check may have a maximum of its own.
        max_interventions: how often at most an attempt is corrected while it runs, where the module is a `Reason` and
            its engine can be steered, at least 0.

    Raises:
        ValueError: for a negative `max_backtracks` or `max_interventions`, or a check that is neither `Assert` nor
            `Suggest`.

    A call returns the module's prediction, with `attempts` (list of `Attempt`), `violations` (the unmet verdicts of
    the accepted attempt) and `outcome`, and raises `AssertionFailed` when an assert does not hold in the end. A
    module's own output of such a name wins it.

    Example:
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
    ):
        super().__init__()
        for name, most in (("max_backtracks", max_backtracks), ("max_interventions", max_interventions)):
            if most < 0:
                raise ConfigError(f"{name} must be at least 0, not {most}")
        for check in checks:
            if not isinstance(check, Check):
                raise ConfigError(f"{check!r} is no check; wrap the function in Assert(...) or Suggest(...)")
        self.module = module
        first = () if any(check.function is parsed for check in checks) else (Assert(parsed),)
        self.checks = (*first, *checks)
        self.max_backtracks = max_backtracks
        self.max_interventions = max_interventions if isinstance(module, Reason) else 0

    def named_parameters(self) -> list[tuple[str, Any]]:
        return inner_parameters(self.module)

    def forward(self, **kwargs: Any) -> dspy.Prediction:
        tries: list[_Try] = []
        while self._goes_on(tries):
            trace: list[Any] = []
            adapter = self._adapter(tries)
            with dspy.context(adapter=adapter, trace=trace), enforcing(self.checks, self.max_interventions):
                try:
                    made = self.module(**kwargs)
                except AdapterParseError as error:
                    made = error
            tries.append(self._judged(kwargs, made, adapter.calls, trace))
        return self._accept(tries)

    async def aforward(self, **kwargs: Any) -> dspy.Prediction:
        tries: list[_Try] = []
        while self._goes_on(tries):
            trace: list[Any] = []
            adapter = self._adapter(tries)
            with dspy.context(adapter=adapter, trace=trace), enforcing(self.checks, self.max_interventions):
                try:
                    made = await self.module.acall(**kwargs)
                except AdapterParseError as error:
                    made = error
            tries.append(self._judged(kwargs, made, adapter.calls, trace))
        return self._accept(tries)

    def _goes_on(self, tries: list[_Try]) -> bool:
        if not tries:
            return True
        unmet = {verdict.check for verdict in tries[-1].attempt.unmet}
        return len(tries) <= self.max_backtracks and any(
            check.max_backtracks is None or self._blamed(tries, check.name) <= check.max_backtracks
            for check in self.checks
            if check.name in unmet
        )

    def _blamed(self, tries: list[_Try], check: str) -> int:
        return sum(any(verdict.check == check for verdict in one.attempt.unmet) for one in tries)

    def _adapter(self, tries: list[_Try]) -> Any:
        if not tries:
            return watch(active_adapter())
        return watch(active_adapter(), tries[-1].calls, feedback(tries[-1].attempt.verdicts))

    def _judged(self, kwargs: dict[str, Any], made: Any, calls: list[Any], trace: list[Any]) -> _Try:
        if isinstance(made, AdapterParseError):
            inputs, outcome, prediction = Inputs(fields=kwargs, items=given(kwargs).local()), unread(made), None
            calls = calls or [(made.signature, "")]  # an empty completion is not even parsed
        else:
            (inputs, outcome), prediction = read_outcome(self.module, kwargs, made, trace), made
        attempt = Attempt(verdicts=judge(self.checks, inputs, outcome))
        found = _Try(inputs, outcome, prediction, calls, trace, attempt, run=getattr(made, "_run", None))
        if interventions := getattr(found.run, "interventions", None):
            found.corrected = [_without(interventions, attempt)]
        return found

    def _accept(self, tries: list[_Try]) -> dspy.Prediction:
        # The latest of the best: most asserts met, then most checks met.
        best = max(reversed(tries), key=lambda one: (one.prediction is not None, _met(one, "assert"), _met(one, None)))
        best.attempt.accepted = True
        attempts = [attempt for one in tries for attempt in (*one.corrected, one.attempt)]
        made = best.prediction
        fields = dict(made.items()) if made is not None else dict.fromkeys(best.calls[-1][0].output_fields)
        extras = {"outcome": best.outcome, "violations": best.attempt.unmet, "attempts": attempts}
        answer = dspy.Prediction(**{**extras, **fields})
        answer._inputs, answer._outcome, answer._attempts = best.inputs, best.outcome, attempts
        answer._run, answer._completions = best.run, getattr(made, "_completions", None)
        for *_, step in best.trace:  # what happened is in the trace too, off the fields that demos are made of
            step._attempts = attempts
        outer = dspy.settings.trace
        if outer is not None and made is not None:
            outer.extend(best.trace)
            del outer[: -dspy.settings.max_trace_size]  # as DSPy keeps it; outside of optimizers it would grow forever
        elif outer is not None and getattr(dspy.settings, "r2p_reflecting", False):
            outer.append(unread_step(inner_parameters(self.module), best.inputs, *best.calls[-1]))
        if not best.attempt.asserted and not getattr(dspy.settings, "r2p_optimizing", False):
            raise AssertionFailed(answer, attempts)
        return answer


def inner_parameters(module: dspy.Module) -> list[tuple[str, Any]]:
    """A wrapped module's parameters under the names that they have without a wrapper around it."""
    if isinstance(module, dspy.Predict):
        return [("reason" if isinstance(module, Reason) else "predict", module)]
    return module.named_parameters()


def _without(interventions: Sequence[Intervention], attempt: Attempt) -> Attempt:
    """The attempt as it would have been had nobody intervened: what was corrected in it is unmet."""
    said = {one.check: one.message for one in reversed(interventions)}
    verdicts = [
        one.model_copy(update={"ok": False, "message": said.pop(one.check)}) if one.check in said else one
        for one in attempt.verdicts
    ]
    verdicts += [Verdict(check=check, kind="assert", ok=False, message=message) for check, message in said.items()]
    return Attempt(verdicts=verdicts, interventions=list(interventions))


def _met(one: _Try, kind: str | None) -> int:
    return sum(verdict.ok for verdict in one.attempt.verdicts if kind is None or verdict.kind == kind)
