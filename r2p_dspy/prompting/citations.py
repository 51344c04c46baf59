"""Cited texts as the items have them: a model may write a quote or a label in other typography than the item."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from r2p_dspy.outcome import Inputs, Outcome, unshadowed
from r2p_dspy.prediction import Details, Reasoning
from r2p_dspy.profile import Item
from r2p_dspy.prompting.parsing import own_items
from r2p_dspy.template import Evidence, Preference
from r2p_dspy.values.folding import find_quote, same_label

ItemOf = Callable[[str], Item | None]  # an item by its local id


def as_shown(inputs: Inputs, outcome: Outcome) -> Outcome:
    """An outcome with the quotes and labels of the items as the prompt shows them, as demos and training rows need."""
    return _cited_from(unshadowed(inputs).items.get, outcome)


def in_own_text(details: Details) -> Details:
    """Details with the quotes and labels of the user's own items, which prompts show neutralized.

    A quote or label that the items do not have stays as the model wrote it.
    """
    # First as shown: an item that was cut to fit has quotes, over two fields, that the whole item does not have.
    outcome = _cited_from(own_items(details.inputs).get, as_shown(details.inputs, details.outcome))
    if outcome is details.outcome:
        return details
    stages = {**details.reasoning.stages, **unshadowed(outcome).stages}
    return replace(details, outcome=outcome, reasoning=Reasoning(stages, details.reasoning.cited))


def _cited_from(item_of: ItemOf, outcome: Outcome) -> Outcome:
    """The outcome with the items' own quotes and labels; the same object where nothing changes."""
    stages = unshadowed(outcome).stages
    lists = {name: value for name, value in stages.items() if isinstance(value, list)}
    cited = {name: [_entry(item_of, entry) for entry in entries] for name, entries in lists.items()}
    return outcome if cited == lists else Outcome(**{**vars(outcome), "stages": {**stages, **cited}})


def _entry(item_of: ItemOf, entry: Any) -> Any:
    if isinstance(entry, Evidence):
        return _evidence(item_of, entry)
    return _preference(item_of, entry) if isinstance(entry, Preference) else entry


def _evidence(item_of: ItemOf, evidence: Evidence) -> Evidence:
    item = item_of(evidence.item)
    quote = None if item is None else find_quote(evidence.quote, item.text)
    return evidence if quote is None else evidence.model_copy(update={"quote": quote})


def _preference(item_of: ItemOf, preference: Preference) -> Preference:
    items = filter(None, map(item_of, preference.items))
    labels = [item.label for item in items if item.label is not None]
    if preference.label is None or preference.label in labels:
        return preference
    meant = next((label for label in labels if same_label(preference.label, label)), preference.label)
    return preference.model_copy(update={"label": meant})
