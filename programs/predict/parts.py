"""The parts of an answer as files and services give them: what it cites, what it breaks, what it cost."""

from typing import Any

from dspy.utils.usage_tracker import UsageTracker

from r2p_dspy import Details
from r2p_dspy.template import Preference
from r2p_dspy.values.typed import plain

_TOKENS = ("prompt_tokens", "completion_tokens")


def evidence_of(details: Details, redact: bool = False) -> list[dict[str, Any]]:
    """The cited items under their own ids, each with its quote unless quotes are left out."""
    own_ids = {item.id: item.ref for item in details.retrieved}
    return [
        {"item": own_ids[evidence.item], **({} if redact else {"quote": evidence.quote})}
        for evidence in details.reasoning.stages.get("evidence") or ()
        if evidence.item in own_ids
    ]


def preferences_of(details: Details) -> list[dict[str, Any]]:
    """What the answer says of the user's preferences, with the items' own ids."""
    own_ids = {item.id: item.ref for item in details.retrieved}
    return [
        {**plain(preference), "items": [own_ids.get(item, item) for item in preference.items]}
        for preference in details.reasoning.stages.get("preferences") or ()
        if isinstance(preference, Preference)
    ]


def violations_of(details: Details, redact: bool = False) -> list[dict[str, Any]]:
    """The checks that the answer leaves unmet."""
    shown = {"check", "kind"} | (set() if redact else {"message"})
    return [verdict.model_dump(include=shown) for verdict in details.violations if verdict.message]


def usage_of(tracker: UsageTracker) -> dict[str, int]:
    """The calls of the language model, and their tokens."""
    calls = [call for calls in tracker.usage_data.values() for call in calls]
    return {"calls": len(calls), **{kind: sum(call.get(kind) or 0 for call in calls) for kind in _TOKENS}}
