"""The texts of a call's inputs, which strangers may have written, unable to pass for structure in prompt and answer."""

from collections.abc import Mapping
from copy import copy
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, get_args

import dspy
from dspy.adapters import Adapter
from pydantic import BaseModel

from r2p_dspy.profile import Profile
from r2p_dspy.prompting.xml import element_names
from r2p_dspy.values.neutral import Neutral, neutralizer

# Any: a signature decides the types of its values.


def neutral_for(signature: type[dspy.Signature], reserved: tuple[str, ...], adapter: Adapter) -> Neutral:
    """What breaks the structure that a signature's prompts and answers have.

    All formats are broken whichever the adapter is, since an answer in another format is read too. XML alone has names
    below those of the outputs; it marks the inputs by tags too, which a question about HTML may well hold.

    Args:
        reserved: names that mark structure beside the outputs', such as those of stages in a thought.
    """
    xml = isinstance(adapter, dspy.XMLAdapter)
    elements = (*signature.input_fields, *element_names(signature)) if xml else ()
    headers = (*signature.input_fields, "completed")
    return neutralizer(tuple(dict.fromkeys([*signature.output_fields, *reserved])), headers, elements)


def neutral_inputs(signature: type[dspy.Signature], inputs: Mapping[str, Any], neutral: Neutral) -> dict[str, Any]:
    """A call's inputs with neutral texts, also in lists, dicts and models. Media stay as they are."""
    texts = {name for name, info in signature.input_fields.items() if not _is_medium(info.annotation)}
    return {name: _neutral(value, neutral) if name in texts else value for name, value in inputs.items()}


def _neutral(value: Any, neutral: Neutral) -> Any:
    if isinstance(value, Enum):
        return value
    if isinstance(value, str):
        return neutral(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):  # a named one takes its parts one by one
        return type(value)(*(_neutral(part, neutral) for part in value))
    if isinstance(value, (list, tuple, set, frozenset)):
        kind = next(kind for kind in (list, tuple, set, frozenset) if isinstance(value, kind))
        return kind(_neutral(part, neutral) for part in value)
    if is_dataclass(value) and not isinstance(value, type):
        return _with_neutral(value, {part.name: getattr(value, part.name) for part in fields(value)}, neutral)
    if isinstance(value, dict):
        return {_neutral(key, neutral): _neutral(part, neutral) for key, part in value.items()}
    if isinstance(value, Profile):
        return value.local(neutral)
    if isinstance(value, BaseModel) and not _is_medium(type(value)):
        own = {name: getattr(value, name) for name in type(value).model_fields}
        texts = {name: (part, _neutral(part, neutral)) for name, part in {**own, **(value.model_extra or {})}.items()}
        changed = {name: text for name, (part, text) in texts.items() if text != part}
        return value.model_copy(update=changed) if changed else value
    return value


def _with_neutral(value: Any, parts: Mapping[str, Any], neutral: Neutral) -> Any:
    """A dataclass with neutral parts; it is not made anew, which might compute or refuse something."""
    twin = copy(value)
    for name, part in parts.items():
        object.__setattr__(twin, name, _neutral(part, neutral))
    return twin


def _is_medium(annotation: Any) -> bool:
    """Whether a type is one of DSPy's own for media and tools, or a collection of them."""
    if isinstance(annotation, type) and issubclass(annotation, dspy.Type):
        return True
    return any(map(_is_medium, get_args(annotation)))
