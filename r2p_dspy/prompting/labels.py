"""Reading typed outputs by meaning: `Romance.` for the label `romance`, and None where the type allows it."""

from collections.abc import Callable
from typing import Any

import dspy
from dspy.utils.exceptions import AdapterParseError

from r2p_dspy.values.typed import from_text, has_labels, says_none

Parse = Callable[[type[dspy.Signature], str], dict[str, Any]]


def parse_by_meaning(parse: Parse, signature: type[dspy.Signature], completion: str) -> dict[str, Any]:
    """Parse a completion with an adapter's method; where that fails, read outputs with labels by their meaning.

    Raises:
        AdapterParseError: the completion cannot be read, or an output means no label, or more than one.
    """
    annotations = {name: info.annotation for name, info in signature.output_fields.items()}
    try:
        fields = parse(signature, completion)
    except AdapterParseError as error:
        labelled = [name for name, annotation in annotations.items() if has_labels(annotation)]
        if not labelled:
            raise
        texts = signature
        for name in labelled:
            texts = texts.with_updated_fields(name, type_=str)
        try:
            with dspy.context(callbacks=[]):  # they have heard of the completion
                fields = parse(texts, completion)
            fields |= {name: from_text(annotations[name], fields[name]) for name in labelled}
        except (AdapterParseError, ValueError):
            raise error from None
    return {name: None if says_none(annotations[name], value) else value for name, value in fields.items()}
