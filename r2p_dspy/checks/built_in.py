"""The built-in checks: pure functions of (inputs, outcome), one for each promise of the template."""

from enum import Enum
from typing import Any

from r2p_dspy.checks.check import Answer, Assert, Check, Suggest
from r2p_dspy.checks.cited_stages import evidence_of, preferences_of, verification_of
from r2p_dspy.outcome import Inputs, Outcome, unshadowed
from r2p_dspy.values.folding import find_quote, meant, same_label
from r2p_dspy.values.typed import as_text, from_text, plain, same

_REPEATED = 200  # characters of the model's own words in a message


def parsed(inputs: Inputs, outcome: Outcome) -> Answer:
    """The text could be read as the signature's fields."""
    error = unshadowed(outcome).error
    return error is None, f"Write every field, each of its type: {error}"


def stages(inputs: Inputs, outcome: Outcome) -> Answer:
    """Every stage is filled (a list may be empty), in the template's order; no text is the prompt's own placeholder."""
    outcome = unshadowed(outcome)
    for name, value in {**outcome.stages, **{name: outcome.fields.get(name) for name in outcome.answers}}.items():
        if isinstance(value, str) and value.strip() == f"{{{name}}}":
            return False, f"Write the {name} itself; {value.strip()} only stands for it in the prompt."
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
    """Every quote stands, word for word, in the cited item; typography and case aside (see `find_quote`)."""
    items = unshadowed(inputs).items
    for evidence in evidence_of(outcome):
        item, quote = items.get(evidence.item), evidence.quote
        if item is not None and find_quote(quote, item.text) is None:
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
    """A preference's label is the label of each of its items; typography and case aside (see `meant`)."""
    items, labels = unshadowed(inputs).items, unshadowed(inputs).labels
    for preference in preferences_of(outcome):
        if preference.label is None:
            continue
        for item in map(items.get, preference.items):
            if item is None:
                continue
            if item.label is None:
                return False, f"Item {item.id} has no label; leave the preference's label null."
            if not same_label(preference.label, item.label, labels):
                return False, f"The label of item {item.id} is {item.label}, not {_short(preference.label)}."
    return True, ""


def approved(inputs: Inputs, outcome: Outcome) -> Answer:
    """The answer is the draft that the verification approved; a draft that is no value of the answer's type passes."""
    outcome = unshadowed(outcome)
    verification, draft = verification_of(outcome), outcome.stages.get("draft")
    if verification is not None and not verification.approved:
        return False, "The verification rejects the draft; write a draft that it can approve."
    if verification is None or draft is None or len(outcome.answers) != 1:
        return True, ""
    (name,), labels = outcome.answers, unshadowed(inputs).labels
    kept = _drafted(outcome.fields.get(name), as_text(draft), labels)
    return kept, f"The {name} must be the approved draft, {_short(draft)}."


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


def _drafted(value: Any, draft: str, labels: tuple[str, ...]) -> bool:
    """Whether an answer is the draft, read as the answer's type, as far as it can be read so."""
    if (label := meant(draft, labels)) is not None:
        return same(label, value)
    if labels and not isinstance(value, Enum):  # a member may stand there by its name
        return True
    if type(value) is str:
        return _plain(value) == _plain(draft)
    try:
        return _same_json(plain(from_text(type(value), draft)), plain(value))
    except (ValueError, TypeError):
        return True


def _same_json(first: Any, second: Any) -> bool:
    """Whether two pieces of JSON are the same, with their texts compared as labels, since they may be labels."""
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(_same_json, first, second))
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(_same_json(first[key], second[key]) for key in first)
    return same_label(as_text(first), as_text(second))


def _short(value: object) -> str:
    """A model's words, shortened for a message: a loop would fill the next prompt."""
    text = str(value)
    return text if len(text) <= _REPEATED else f"{text[:_REPEATED]}…"


def _plain(text: str) -> str:
    return " ".join(text.split())


def _listed(ids: list[str]) -> str:
    return ", ".join(ids) or "nothing: the history is empty"
