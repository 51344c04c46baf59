"""From what a module returned to the typed inputs and outcome that checks see."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import dspy
from dspy.adapters.utils import parse_value
from dspy.utils.exceptions import AdapterParseError

from r2p_dspy.checks import evidence_of
from r2p_dspy.modules.reason import Reason, Run
from r2p_dspy.outcome import Inputs, Outcome
from r2p_dspy.profile import Item, Profile
from r2p_dspy.prompting import tags
from r2p_dspy.template import Template

# How a field is marked by the Chat, XML and JSON adapters.
_MARKS = (r"(?m)^[^\S\n]*\[\[ ## {} ## \]\]", r"<{}>", r'"{}"\s*:')


def read_outcome(
    module: dspy.Module, kwargs: dict[str, Any], prediction: dspy.Prediction, trace: Sequence[tuple[Any, ...]] = ()
) -> tuple[Inputs, Outcome]:
    """What went into a call, and what came of it.

    Args:
        module: what was called; a `Reason` yields stages, any other module fields alone.
        kwargs: what it was called with.
        prediction: what it returned.
        trace: of the call: (predictor, inputs, prediction) for each of its steps.

    Returns:
        The inputs, with the items as rendered, and the outcome.
    """
    if isinstance(module, Reason):
        run: Run = prediction._run
        fields = {name: prediction[name] for name in module.answers}
        if module.thought is not None:
            thought = prediction.get(module.thought)
            outcome = read_thought(module.template, str(thought) if thought else run.text, fields)
        else:
            stages = {stage: prediction[name] for stage, name in module.stages.items()}
            order = written_order(run.text, module.stages)
            outcome = Outcome(fields=fields, stages=stages, order=order, answers=module.answers)
        return Inputs(fields=kwargs, items=run.items, labels=module.labels), outcome
    items = given(kwargs).local()
    fields = dict(prediction.items())
    steps = {id(predictor): dict(made.items()) for predictor, _, made in trace}
    names = module.named_predictors() if not isinstance(module, dspy.Predict) else ()
    predictors = {name: steps[id(one)] for name, one in names if id(one) in steps}
    return Inputs(fields=kwargs, items=items), Outcome(fields=fields, answers=tuple(fields), predictors=predictors)


def given(fields: Mapping[str, Any]) -> Profile:
    """The profile among a call's arguments, as it was given; an empty one if there is none."""
    return next((value for value in fields.values() if isinstance(value, Profile)), Profile())


def cited(inputs: Inputs, outcome: Outcome) -> tuple[Item, ...]:
    """The items that an outcome cites, in the order in which they were first cited.

    They are found by their place in the profile that was given: so they are the user's own, whole, and under their own
    ids.
    """
    own = {str(place): item for place, item in enumerate(given(inputs.fields), start=1)}
    named = dict.fromkeys(one.item for one in evidence_of(outcome))
    found = ((local, inputs.items.get(local)) for local in named)
    return tuple(own.get(local, item) for local, item in found if item is not None)


def read_thought(template: Template, text: str, fields: dict[str, Any]) -> Outcome:
    """The outcome of a template on the thinking carrier.

    Args:
        template: whose stages are between the tags.
        text: the thinking, or the whole completion.
        fields: the signature's own outputs.

    Returns:
        The outcome; a stage that is missing or empty is None, and one that is not of its type is the error.
    """
    found, order = tags.read(template, text), tuple(one.name for one in tags.sections(template, text))
    stages: dict[str, Any] = {}
    for stage in template.leaves():
        written = found.stages.get(stage.name)
        try:
            stages[stage.name] = None if written is None else parse_value(written, stage.type)
        except Exception:  # whatever pydantic, or the repair of broken JSON, makes of it
            return Outcome(error=f"the stage {stage.name} is not of its type.")
    return Outcome(fields=fields, stages=stages, order=order, answers=tuple(fields))


def unread(error: AdapterParseError) -> Outcome:
    """The outcome of a completion that could not be read as the signature's fields."""
    signature = error.signature
    found = written_order(error.lm_response or "", {name: name for name in signature.output_fields})
    missing = [name for name in signature.output_fields if name not in found]
    # A native thought stands beside the text, so it is the last that is missing from it.
    missing.sort(key=lambda name: signature.output_fields[name].annotation is dspy.Reasoning)
    if missing:
        return Outcome(error=f"the field {missing[0]} is missing.")
    named = re.search(r"Failed to parse field (\w+)", str(error))
    if named is None or named[1] not in signature.output_fields:
        return Outcome(error="the answer cannot be read.")
    return Outcome(error=f"the field {named[1]} is not of its type.")


def written_order(text: str, names: dict[str, str]) -> tuple[str, ...]:
    """The keys of `names` in the order in which the fields they name first stand in a completion.

    It knows the marks of DSPy's Chat, JSON and XML adapters; a field that is not there is left out. A completion is
    in the format whose mark comes first; what looks like another's mark is text.

    Example:
        >>> written_order("[[ ## b ## ]]\\n1\\n[[ ## a ## ]]\\n2", {"A": "a", "B": "b"})
        ('B', 'A')
    """
    found: list[dict[int, str]] = []
    for mark in _MARKS:
        places = {key: re.search(mark.format(name), text) for key, name in names.items()}
        found.append({place.start(): key for key, place in places.items() if place})
    first = min(filter(None, found), key=min, default={})
    return tuple(first[start] for start in sorted(first))


def unread_step(
    parameters: Sequence[tuple[str, Any]], inputs: Inputs, signature: type[dspy.Signature], text: str
) -> tuple[Any, dict[str, Any], Any]:
    """What cannot be read, as GEPA takes it in a trace: left out, the worst answers would never be reflected on.

    Args:
        parameters: of the module that was run, by name.
        inputs: what the model was given.
        signature: what it was asked for.
        text: what it wrote.
    """
    from dspy.teleprompt.bootstrap_trace import FailedPrediction

    asked = [found for _, found in parameters if isinstance(found, dspy.Predict)]
    outputs = {*signature.output_fields}  # of which a thought may have been taken off
    predictor = next((found for found in asked if outputs <= {*found.signature.output_fields}), asked[0])
    profiles = [name for name, value in inputs.fields.items() if isinstance(value, Profile)]
    return predictor, {**inputs.fields, **dict.fromkeys(profiles, inputs.items)}, FailedPrediction(text)
