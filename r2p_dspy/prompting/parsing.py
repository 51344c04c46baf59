"""Reading completions: the outcome of a thought, the order of fields, the cited items."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

import dspy
from dspy.teleprompt.bootstrap_trace import FailedPrediction

from r2p_dspy.checks import evidence_of
from r2p_dspy.outcome import Inputs, Outcome, unshadowed
from r2p_dspy.profile import Item, Profile
from r2p_dspy.prompting import tags
from r2p_dspy.prompting.xml import elements
from r2p_dspy.template import Template
from r2p_dspy.values.typed import parse

# How a field is marked by the Chat and JSON adapters.
_MARKS = (r"(?m)^[^\S\n]*\[\[ ## {} ## \]\]", r'"{}"\s*:')


def given(fields: Mapping[str, Any]) -> Profile:
    """The profile among a call's arguments; an empty one if there is none."""
    return next((value for value in fields.values() if isinstance(value, Profile)), Profile())


def own_items(inputs: Inputs) -> dict[str, Item]:
    """The user's own items, whole, by the local ids under which a prompt shows them."""
    return {str(place): item for place, item in enumerate(given(unshadowed(inputs).fields), start=1)}


def cited(inputs: Inputs, outcome: Outcome) -> tuple[Item, ...]:
    """The items that an outcome cites, in the order of their first citation: the user's own, whole, under own ids."""
    own, items = own_items(inputs), unshadowed(inputs).items
    local_ids = dict.fromkeys(evidence.item for evidence in evidence_of(outcome))
    shown = ((local_id, items.get(local_id)) for local_id in local_ids)
    return tuple(own.get(local_id, item) for local_id, item in shown if item is not None)


def read_thought(template: Template, text: str, fields: dict[str, Any]) -> Outcome:
    """The outcome of a template on the thinking carrier, from the thinking or the whole completion.

    A stage that is missing or empty is None; one that is not of its type is the outcome's error.
    """
    texts, order = tags.read(template, text), tuple(section.name for section in tags.sections(template, text))
    stages: dict[str, Any] = {}
    for stage in template.leaves():
        written = texts.get(stage.name)
        try:
            stages[stage.name] = None if written is None else parse(stage.type, written)
        except Exception:  # pydantic and the repair of broken JSON raise many kinds
            return Outcome(error=f"the stage {stage.name} is not of its type.")
    return Outcome(fields=fields, stages=stages, order=order, answers=tuple(fields))


def written_order(text: str, names: dict[str, str]) -> tuple[str, ...]:
    """The keys of `names` in the order in which their fields first stand in a completion.

    It knows the marks of DSPy's Chat, JSON and XML adapters and leaves out missing fields. A completion has the format
    whose mark comes first; the marks of other formats are text.
    """
    by_format: list[dict[int, str]] = []
    for mark in _MARKS:
        places = {key: re.search(mark.format(name), text) for key, name in names.items()}
        by_format.append({place.start(): key for key, place in places.items() if place})
    starts: dict[str, int] = {}
    for element in elements(names.values(), text):
        starts.setdefault(element.name, element.start)
    by_format.append({starts[name]: key for key, name in names.items() if name in starts})
    first = min(filter(None, by_format), key=min, default={})
    return tuple(first[start] for start in sorted(first))


def without_thought(text: str) -> str:
    """A completion without the thought that it begins with, which may rehearse the answer.

    Examples:
        >>> without_thought("<think>[[ ## tag ## ]] or so</think>comedy")
        'comedy'
    """
    before, closed, after = text.partition("</think>")
    return after if closed and before.lstrip().startswith("<think>") else text


def unread_step(
    parameters: Sequence[tuple[str, Any]], inputs: Inputs, signature: type[dspy.Signature], text: str
) -> tuple[dspy.Predict, dict[str, Any], FailedPrediction]:
    """A trace step for an unreadable completion, as GEPA reads it: without it GEPA would not see the worst answers."""
    predictors = [parameter for _, parameter in parameters if isinstance(parameter, dspy.Predict)]
    outputs = {*signature.output_fields}  # DSPy may have taken the thought out of it
    signatures = [cast(type[dspy.Signature], predictor.signature) for predictor in predictors]  # never None
    fitting = (each for each, own in zip(predictors, signatures) if outputs <= {*own.output_fields})
    predictor = next(fitting, predictors[0])
    inputs = unshadowed(inputs)
    profiles = [name for name, value in inputs.fields.items() if isinstance(value, Profile)]
    return predictor, {**inputs.fields, **dict.fromkeys(profiles, inputs.items)}, FailedPrediction(text)
