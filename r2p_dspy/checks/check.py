"""What a check is, how it is written, and how all checks of a program are run."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel

from r2p_dspy.errors import CheckError, ConfigError
from r2p_dspy.outcome import Inputs, Outcome, unshadowed

Answer = bool | tuple[bool, str]
CheckFunction = Callable[[Inputs, Outcome], Answer]
Kind = Literal["assert", "suggest"]
PARSED = "parsed"  # the name of the check that judges unreadable outcomes too


class Verdict(BaseModel):
    """The result of a check for one outcome.

    Args:
        check: the check's name.
        kind: "assert" or "suggest".
        ok: whether it holds.
        message: what to change; empty where it holds.
        stage: the stage after which the check runs, or "".
    """

    check: str
    kind: Kind
    ok: bool
    message: str = ""
    stage: str = ""


@dataclass(frozen=True)
class Check:
    """A named check; write `Assert(function)` or `Suggest(function)`.

    Args:
        function: a plain function, or any object that is called with (`Inputs`, `Outcome`). It returns a bool, or
            (bool, message that says what to change).
        kind: "assert": when it fails, the call retries, and raises after the last retry; "suggest": when it fails, the
            call retries, and records the failure after the last retry.
        name: the name in reports; the function's name by default.
        after: the stage after which it can run; a group stage ends with its last stage. None: at the end.
        max_backtracks: the most retries that it causes, at least 0; None: the program's own maximum.

    Raises:
        ConfigError: `max_backtracks` is negative, or the function is async or takes other arguments.
    """

    function: CheckFunction
    kind: Kind
    name: str
    after: str | None = None
    max_backtracks: int | None = None

    def __post_init__(self) -> None:
        if self.max_backtracks is not None and self.max_backtracks < 0:
            raise ConfigError(f"max_backtracks of check {self.name!r} must be at least 0, not {self.max_backtracks}")
        if (problem := _problem(self.function)) is not None:
            raise ConfigError(f"check {self.name!r} {problem}")

    def __call__(self, inputs: Inputs, outcome: Outcome) -> Verdict:
        """Run the check.

        Raises:
            CheckError: the function raised an exception, or returned neither a bool nor (bool, message).
        """
        try:
            result = self.function(inputs, outcome)
        except Exception as error:
            raise CheckError(f"check {self.name!r} failed with {type(error).__name__}: {error}") from error
        ok, message = self._read(result)
        message = "" if ok else message or f"The answer does not pass the check {self.name!r}."
        return Verdict(check=self.name, kind=self.kind, ok=ok, message=message, stage=self.after or "")

    def _read(self, result: object) -> tuple[bool, str]:
        ok, message = result if isinstance(result, tuple) and len(result) == 2 else (result, "")
        if isinstance(ok, bool | np.bool_) and isinstance(message, str):
            return bool(ok), message
        if inspect.iscoroutine(result):
            result.close()  # else Python warns that nobody awaited it
        # Truth alone would let a score of 0.1, a list of faults or the text "no" pass.
        raise CheckError(f"check {self.name!r} returned {_types(result)}; let it return a bool, or (bool, message)")


def _problem(function: Any) -> str | None:  # whatever a user wraps
    """Why a function cannot be a check, as far as its definition tells."""
    if isinstance(function, Check):
        return "wraps a check; wrap its function instead, as in Suggest(checks.quoted)"
    if not callable(function):
        return f"is no function but {_types(function)}; write a function of (inputs, outcome)"
    inner = _inner(function)
    if any(map(inspect.iscoroutinefunction, (inner, type(inner).__call__))):
        return "is async; make it a plain function, since it also runs while a model writes and in training"
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some functions of C extensions do not tell
        return None
    try:
        signature.bind(None, None)
    except TypeError:
        return f"takes {signature}; let it take (inputs, outcome)"
    return None


def _inner(function: Any) -> Any:
    """A function without the arguments that `functools.partial` has fixed."""
    while isinstance(function, partial):
        function = function.func
    return function


def _name(function: CheckFunction) -> str:
    inner = _inner(function)
    return str(getattr(inner, "__name__", type(inner).__name__))


def _types(value: object) -> str:
    """The type of a value in a message, without the value: it may hold a user's texts."""
    if isinstance(value, tuple):
        return f"({', '.join(type(part).__name__ for part in value)})"
    return "None" if value is None else type(value).__name__


def Assert(  # noqa: N802
    function: CheckFunction, *, after: str | None = None, name: str | None = None, max_backtracks: int | None = None
) -> Check:
    """A check that must hold: when it fails, the call retries, and raises after the last retry.

    Args:
        function, after, name, max_backtracks: see `Check`.

    Examples:
        >>> short = Assert(lambda inputs, outcome: (len(outcome.tag) < 9, "Shorten the tag."), name="short")
        >>> short(Inputs(fields={}), Outcome(fields={"tag": "comedy"})).ok
        True
    """
    return Check(function, "assert", name or _name(function), after, max_backtracks)


def Suggest(  # noqa: N802
    function: CheckFunction, *, after: str | None = None, name: str | None = None, max_backtracks: int | None = None
) -> Check:
    """A check that should hold: when it fails, the call retries; then the failure is recorded in `violations`.

    Arguments as in `Assert`.

    Examples:
        >>> Suggest(lambda inputs, outcome: outcome.tag != "", after="draft", name="filled").kind
        'suggest'
    """
    return Check(function, "suggest", name or _name(function), after, max_backtracks)


def validated(checks: Sequence[Check]) -> tuple[Check, ...]:
    """The checks as they are; ConfigError where one is no check, or two have one name."""
    names: set[str] = set()
    for check in checks:
        if not isinstance(check, Check):
            raise ConfigError(f"{check!r} is no check; wrap the function in Assert(...) or Suggest(...)")
        if check.name in names:
            raise ConfigError(f"two checks are named {check.name!r}; give one another name, as in Assert(f, name=...)")
        names.add(check.name)
    return tuple(checks)


def combined(built_in: Sequence[Check], checks: Sequence[Check]) -> tuple[Check, ...]:
    """The built-in checks, then a program's own. A check with the name of a built-in one replaces it.

    It takes the built-in's place, and runs after the same stage unless it names another.

    Raises:
        ConfigError: see `validated`.

    Examples:
        >>> yes, no = (lambda inputs, outcome: True), (lambda inputs, outcome: False)
        >>> built_in = [Assert(no, after="evidence", name="never")]
        >>> relaxed, added = combined(built_in, [Suggest(yes, name="added"), Suggest(no, name="never")])
        >>> (relaxed.name, relaxed.kind, relaxed.after), added.name
        (('never', 'suggest', 'evidence'), 'added')
    """
    own = {check.name: check for check in validated(checks)}
    replaced = [
        replace(own[check.name], after=own[check.name].after or check.after) if check.name in own else check
        for check in built_in
    ]
    places = {check.name for check in replaced}
    return (*replaced, *(check for check in own.values() if check.name not in places))


def judge(checks: tuple[Check, ...], inputs: Inputs, outcome: Outcome) -> list[Verdict]:
    """The verdicts of all checks; for an unreadable outcome, every check fails and only `parsed` has a message."""
    readable = unshadowed(outcome).error is None
    return [
        check(inputs, outcome)
        if readable or check.name == PARSED
        else Verdict(check=check.name, kind=check.kind, ok=False, stage=check.after or "")
        for check in checks
    ]


def feedback(verdicts: list[Verdict]) -> str:
    """The unmet checks' messages, one a line, in order; empty when all hold."""
    return "\n".join(verdict.message for verdict in verdicts if not verdict.ok and verdict.message)
