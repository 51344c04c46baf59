"""What a check is, how it is written, and how all checks of a program are run."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

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
        function: takes (`Inputs`, `Outcome`); returns ok, or (ok, message that says what to change).
        kind: "assert": when it fails, the call retries, and raises after the last retry; "suggest": when it fails, the
            call retries, and records the failure after the last retry.
        name: the name in reports; the function's name by default.
        after: the stage after which it can run; None for the end.
        max_backtracks: the most retries that it causes, at least 0; None: the program's own maximum.

    Raises:
        ConfigError: `max_backtracks` is negative.
    """

    function: CheckFunction
    kind: Kind
    name: str
    after: str | None = None
    max_backtracks: int | None = None

    def __post_init__(self) -> None:
        if self.max_backtracks is not None and self.max_backtracks < 0:
            raise ConfigError(f"max_backtracks of check {self.name!r} must be at least 0, not {self.max_backtracks}")

    def __call__(self, inputs: Inputs, outcome: Outcome) -> Verdict:
        """Run the check.

        Raises:
            CheckError: the function raised an exception or returned None.
        """
        try:
            result = self.function(inputs, outcome)
            ok, message = result if isinstance(result, tuple) else (result, "")
        except Exception as error:
            raise CheckError(f"check {self.name!r} failed with {type(error).__name__}: {error}") from error
        if ok is None:
            raise CheckError(f"check {self.name!r} returned None; let it return ok, or (ok, message)")
        message = "" if ok else message or f"The answer does not pass the check {self.name!r}."
        return Verdict(check=self.name, kind=self.kind, ok=bool(ok), message=message, stage=self.after or "")


def _name(function: CheckFunction) -> str:
    return getattr(function, "__name__", type(function).__name__)


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
