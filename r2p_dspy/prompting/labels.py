"""Reading typed outputs by meaning: `Romance.` for the label `romance`, None where the type allows it, before prose."""

from collections.abc import Callable
from typing import Any

import dspy
from dspy.utils.exceptions import AdapterParseError

from r2p_dspy.values.typed import from_text, has_labels, is_scalar, says_none

Parse = Callable[[type[dspy.Signature], str], dict[str, Any]]


def parse_by_meaning(parse: Parse, signature: type[dspy.Signature], completion: str) -> dict[str, Any]:
    """Parse a completion with an adapter's method; where that fails, read labels, numbers and dates by their meaning.

    Raises:
        AdapterParseError: the completion cannot be read, or an output means no value of its type, or more than one.
    """
    annotations = {name: info.annotation for name, info in signature.output_fields.items()}
    try:
        fields = parse(signature, completion)
    except AdapterParseError as error:
        short = [name for name, kind in annotations.items() if has_labels(kind) or is_scalar(kind)]
        if not short:
            raise
        texts = signature
        for name in short:
            texts = texts.with_updated_fields(name, type_=str)
        try:
            with dspy.context(callbacks=[]):  # they have heard of the completion
                fields = parse(texts, completion)
            fields |= {name: _meant(annotations[name], fields[name]) for name in short}
        except (AdapterParseError, ValueError):
            raise error from None
    return {name: None if says_none(annotations[name], value) else value for name, value in fields.items()}


def _meant(annotation: Any, text: str) -> Any:
    """The value that a text means, or its first line alone: some models go on to explain their answer."""
    try:
        return from_text(annotation, text)
    except ValueError:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if not lines or not is_scalar(annotation) or any(_means_one(annotation, line) for line in lines[1:]):
            raise
        return from_text(annotation, lines[0])


def _means_one(annotation: Any, text: str) -> bool:
    try:
        from_text(annotation, text)
    except ValueError:
        return False
    return True
