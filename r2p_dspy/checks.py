"""Checks: pure functions of (inputs, outcome), written once and used as assertion, monitor, feedback and reward."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, TypeAdapter, ValidationError

from r2p_dspy.errors import CheckError, ConfigError
from r2p_dspy.outcome import Inputs, Outcome, unshadowed
from r2p_dspy.template import Evidence, Preference, Verification

Answer = bool | tuple[bool, str]
CheckFunction = Callable[[Inputs, Outcome], Answer]
Kind = Literal["assert", "suggest"]
_EVIDENCE = TypeAdapter(list[Evidence])
_PREFERENCES = TypeAdapter(list[Preference])
_VERIFICATION = TypeAdapter(Verification)
_REPEATED = 200  # characters of the model's own words in a message


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


def parsed(inputs: Inputs, outcome: Outcome) -> Answer:
    """The text could be read as the signature's fields."""
    error = unshadowed(outcome).error
    return error is None, f"Write every field, each of its type: {error}"


def stages(inputs: Inputs, outcome: Outcome) -> Answer:
    """Every stage is filled (a list may be empty), and the stages stand in the template's order."""
    outcome = unshadowed(outcome)
    for name, value in outcome.stages.items():
        if value is None or (isinstance(value, str) and not value.strip()):
            return False, f"Fill the stage {name}."
    expected = [name for name in outcome.stages if name in outcome.order]
    kept = not outcome.order or list(outcome.order) == expected
    return kept, f"Write the stages in this order: {', '.join(expected)}."


def cited(inputs: Inputs, outcome: Outcome) -> Answer:
    """Every cited id is that of a retrieved item, and at least one item is cited if there is any."""
    known = [item.id for item in unshadowed(inputs).items]
    if known and unshadowed(outcome).stages.get("evidence") == []:
        return False, f"Cite at least one item as evidence, from {_listed(known)}."
    ids = [evidence.item for evidence in evidence_of(outcome)]
    ids += [item for preference in preferences_of(outcome) for item in preference.items]
    for item_id in ids:
        if item_id not in known:
            return False, f"There is no item {_short(item_id)}; cite only {_listed(known)}."
    return True, ""


def quoted(inputs: Inputs, outcome: Outcome) -> Answer:
    """Every quote stands, word for word, in the cited item."""
    items = unshadowed(inputs).items
    for evidence in evidence_of(outcome):
        item, quote = items.get(evidence.item), evidence.quote
        if item is not None and (not quote.strip() or _plain(quote) not in _plain(item.text)):
            return False, f'The quote "{_short(quote)}" does not stand in item {item.id}; copy it word for word.'
    return True, ""


def backed(inputs: Inputs, outcome: Outcome) -> Answer:
    """Every preference rests on items that are cited as evidence."""
    if "evidence" not in unshadowed(outcome).stages:
        return True, ""
    evidence = {quote.item for quote in evidence_of(outcome)}
    for preference in preferences_of(outcome):
        if not preference.items or not set(preference.items) <= evidence:
            return False, f'The preference "{_short(preference.statement)}" must name items of the evidence.'
    return True, ""


def labelled(inputs: Inputs, outcome: Outcome) -> Answer:
    """A preference's label is the label of each of its items."""
    for preference in preferences_of(outcome):
        if preference.label is None:
            continue
        for item in map(unshadowed(inputs).items.get, preference.items):
            if item is not None and item.label != preference.label:
                if item.label is None:
                    return False, f"Item {item.id} has no label; leave the preference's label null."
                return False, f"The label of item {item.id} is {item.label}, not {_short(preference.label)}."
    return True, ""


def approved(inputs: Inputs, outcome: Outcome) -> Answer:
    """The answer is the draft that the verification approved."""
    outcome = unshadowed(outcome)
    verification, draft = _read(_VERIFICATION, outcome, "verification"), outcome.stages.get("draft")
    if verification is not None and not verification.approved:
        return False, "The verification rejects the draft; write a draft that it can approve."
    if verification is None or draft is None or len(outcome.answers) != 1:
        return True, ""
    name = outcome.answers[0]
    return _drafted(outcome.fields.get(name), str(draft)), f"The {name} must be the approved draft, {_short(draft)}."


# In the order of the stages, so that the first message is about the first mistake.
BUILT_IN: tuple[Check, ...] = (
    Assert(parsed),
    Assert(stages),
    Assert(cited, after="evidence"),
    Assert(quoted, after="evidence"),
    Assert(backed, after="preferences"),
    Assert(labelled, after="preferences"),
    Suggest(approved),
)


def judge(checks: tuple[Check, ...], inputs: Inputs, outcome: Outcome) -> list[Verdict]:
    """The verdicts of all checks; for an unreadable outcome, every check fails and only `parsed` has a message."""
    readable = unshadowed(outcome).error is None
    return [
        check(inputs, outcome)
        if readable or check.function is parsed
        else Verdict(check=check.name, kind=check.kind, ok=False, stage=check.after or "")
        for check in checks
    ]


def feedback(verdicts: list[Verdict]) -> str:
    """The unmet checks' messages, one a line, in order; empty when all hold."""
    return "\n".join(verdict.message for verdict in verdicts if not verdict.ok and verdict.message)


def evidence_of(outcome: Outcome) -> list[Evidence]:
    """An outcome's evidence, in order; empty where its template has no such stage."""
    return _read(_EVIDENCE, outcome, "evidence") or []


def preferences_of(outcome: Outcome) -> list[Preference]:
    """An outcome's preferences, in order; empty where its template has no such stage."""
    return _read(_PREFERENCES, outcome, "preferences") or []


def _read(adapter: TypeAdapter[Any], outcome: Outcome, stage: str) -> Any:
    """A stage as its own type, also after JSON; None where the template's stage of that name has another type."""
    try:
        return adapter.validate_python(unshadowed(outcome).stages.get(stage))
    except ValidationError:
        return None


def _drafted(value: Any, draft: str) -> bool:
    """Whether a value equals a draft; for a typed value, a draft that is not JSON is accepted."""
    if isinstance(value, str) or value is None:
        return _plain(str(value)) == _plain(draft)
    try:
        return bool(json.loads(draft) == TypeAdapter(Any).dump_python(value, mode="json"))
    except ValueError:
        return True


def _short(value: object) -> str:
    """A model's words, shortened for a message: a loop would fill the next prompt."""
    text = str(value)
    return text if len(text) <= _REPEATED else f"{text[:_REPEATED]}…"


def _plain(text: str) -> str:
    return " ".join(text.split())


def _listed(ids: list[str]) -> str:
    return ", ".join(ids) or "nothing: the history is empty"
