"""What becomes of a call whose assert stays unmet: it raises, it returns what it has, or a fallback answers."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import dspy

from r2p_dspy.errors import ConfigError
from r2p_dspy.modules.failures import AssertionFailed
from r2p_dspy.modules.steps import Call, Steps
from r2p_dspy.outcome import Outcome
from r2p_dspy.prediction import R2PPrediction, Reasoning

Fallback = Callable[[AssertionFailed], Any]  # Any: a dict, a prediction, or an awaitable of one
OnUnmet = Literal["raise", "return"] | Fallback


def checked_policy(on_unmet: OnUnmet) -> OnUnmet:
    """The policy as it is; ConfigError where it is none."""
    if isinstance(on_unmet, dspy.Module):  # as an attribute, optimizers would tune it and `save` would store it
        raise ConfigError("on_unmet takes no module; wrap it, as in on_unmet=lambda failure: module(**failure.inputs)")
    if on_unmet not in ("raise", "return") and not callable(on_unmet):
        raise ConfigError(f'on_unmet is "raise", "return" or a function of the AssertionFailed, not {on_unmet!r}')
    return on_unmet


def settle(failure: AssertionFailed, on_unmet: OnUnmet, outputs: Sequence[str]) -> Steps[R2PPrediction]:
    """What a call gives back in place of an answer that meets its asserts.

    Args:
        failure: what the call came to.
        on_unmet: "raise" raises it, "return" gives its prediction, a function is called with it and answers.
        outputs: the fields that a fallback's answer must have.

    Raises:
        AssertionFailed: with "raise".
        ConfigError: the fallback's answer lacks a field, or the fallback is async and the call is not.
    """
    if on_unmet == "raise":
        raise failure
    if on_unmet == "return":
        return failure.prediction
    try:
        result = yield Call(partial(_asked, on_unmet), partial(_awaited, on_unmet), {"failure": failure})
    except Exception as error:
        raise error from error.__cause__ or failure
    return _answer(failure, getattr(on_unmet, "__name__", type(on_unmet).__name__), result, outputs)


def _asked(fallback: Fallback, failure: AssertionFailed) -> Any:
    result = fallback(failure)
    if inspect.isawaitable(result):
        if inspect.iscoroutine(result):
            result.close()  # else Python warns that nobody awaited it
        raise ConfigError("the fallback on_unmet is async; call the program with `await program.acall(...)`")
    return result


async def _awaited(fallback: Fallback, failure: AssertionFailed) -> Any:
    result = fallback(failure)
    return await result if inspect.isawaitable(result) else result


def _answer(failure: AssertionFailed, name: str, result: Any, outputs: Sequence[str]) -> R2PPrediction:
    """A fallback's answer with the attempts of the failure, so that metrics see the unmet assert."""
    if not isinstance(result, Mapping | dspy.Example):
        kind = type(result).__name__
        raise ConfigError(f"the fallback {name!r} returned {kind}; let it return a dict or a prediction")
    if missing := [output for output in outputs if output not in result]:
        raise ConfigError(f"the fallback {name!r} returned no {missing[0]!r}; it needs {', '.join(outputs)}")
    answer = R2PPrediction(result)
    details = answer.details
    if not isinstance(result, R2PPrediction):
        # The rejected attempt's reasoning did not lead to this answer, and its evidence does not support it.
        fields = dict(answer.items())
        outcome = Outcome(fields=fields, answers=tuple(fields))
        details = replace(failure.prediction.details, outcome=outcome, reasoning=Reasoning({}), interventions=[])
    own = [attempt for attempt in details.attempts if all(attempt is not other for other in failure.attempts)]
    decision = f"the fallback {name!r} answered, because the check {failure.check!r} is unmet"
    return R2PPrediction(
        answer,
        details=replace(
            details,
            attempts=[*failure.attempts, *own],
            decision=decision,
            warnings=[*details.warnings, decision],
            unreadable=None,
        ),
    )
