"""The stages that cite the history, read as their own types, also after JSON."""

from typing import Any

from pydantic import TypeAdapter, ValidationError

from r2p_dspy.outcome import Outcome, unshadowed
from r2p_dspy.template import Evidence, Preference, Verification

_EVIDENCE = TypeAdapter(list[Evidence])
_PREFERENCES = TypeAdapter(list[Preference])
_VERIFICATION = TypeAdapter(Verification)


def evidence_of(outcome: Outcome) -> list[Evidence]:
    """An outcome's evidence, in order; empty where its template has no such stage."""
    return _read(_EVIDENCE, outcome, "evidence") or []


def preferences_of(outcome: Outcome) -> list[Preference]:
    """An outcome's preferences, in order; empty where its template has no such stage."""
    return _read(_PREFERENCES, outcome, "preferences") or []


def verification_of(outcome: Outcome) -> Verification | None:
    """An outcome's verification; None where its template has no such stage."""
    verification: Verification | None = _read(_VERIFICATION, outcome, "verification")
    return verification


def _read(adapter: TypeAdapter[Any], outcome: Outcome, stage: str) -> Any:
    """A stage as its own type, also after JSON; None where the template's stage of that name has another type."""
    try:
        return adapter.validate_python(unshadowed(outcome).stages.get(stage))
    except ValidationError:
        return None
