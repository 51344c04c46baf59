"""Reading an answer, also one that is not in the format that was asked for: a model that likes JSON writes JSON."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from functools import partial
from types import MappingProxyType
from typing import Any

import dspy
from dspy.utils.exceptions import AdapterParseError

from r2p_dspy.prompting.labels import Parse, parse_by_meaning
from r2p_dspy.prompting.xml import parse_lenient
from r2p_dspy.values.typed import allows_none

# The formats of DSPy's adapters, and how each marks a field. BAML's answers are JSON.
_FORMATS: Mapping[str, tuple[type[dspy.ChatAdapter], str]] = MappingProxyType(
    {
        "JSON": (dspy.JSONAdapter, r"[\"']{}[\"']\s*:(?!\s*null\b)"),
        "XML": (dspy.XMLAdapter, r"<{}\s*/?>"),
        "chat": (dspy.ChatAdapter, r"\[\[ ## {} ## \]\]"),
    }
)
_CLOSE = "</think>"


def read(parse: Parse, signature: type[dspy.Signature], completion: str) -> tuple[dict[str, Any], str]:
    """Read a completion's fields with an adapter's method, else in the formats of DSPy's other adapters.

    Servers that do not separate thoughts leave them in the text; a thought fills the field that asks for one.

    Args:
        parse: of the adapter that made the prompt.
        signature: the fields.
        completion: the text.

    Returns:
        The fields, and the format in which they were read: "JSON", "XML" or "chat"; "" for the adapter's own.

    Raises:
        AdapterParseError: the adapter's own error, if no format has every field, each of its type.

    Examples:
        >>> read(dspy.ChatAdapter().parse, dspy.Signature("film -> tag"), 'Sure: {"tag": "comedy"}')
        ({'tag': 'comedy'}, 'JSON')
    """
    try:
        return _parse(parse, signature, completion), ""
    except AdapterParseError:
        for shape, parse_shape, text, thought in _readings(parse, signature, completion):
            # A format that cannot carry a type raises errors of many kinds. Callbacks have heard of the answer.
            with suppress(Exception), dspy.context(callbacks=[]):
                wanted = signature.delete(next(iter(thought))) if thought else signature
                return {**_parse(parse_shape, wanted, text), **thought}, shape
        raise


def _readings(
    parse: Parse, signature: type[dspy.Signature], completion: str
) -> Iterator[tuple[str, Parse, str, dict[str, dspy.Reasoning]]]:
    """What to try: a format, how to parse it, the text without its thought, and the field that gets the thought."""
    before, closed, after = completion.partition(_CLOSE)
    if closed:
        name = thought_field(signature)
        thought = {} if name is None else {name: dspy.Reasoning(content=before)}
        yield "", parse, after, thought
        yield from ((*each, after, thought) for each in _other_formats(signature, after, thought))
    yield from ((*each, completion, {}) for each in _other_formats(signature, completion))


def _other_formats(
    signature: type[dspy.Signature], text: str, known: Collection[str] = ()
) -> tuple[tuple[str, Parse], ...]:
    """The formats in which every field stands in a text, with a value that is not null unless it may be.

    Looking first spares the slow repair of what is no JSON.
    """
    outputs = ((name, info) for name, info in signature.output_fields.items() if name not in known)
    names = [re.escape(name) for name, info in outputs if info.is_required() and not allows_none(info.annotation)]
    return tuple(
        (shape, adapter().parse)
        for shape, (adapter, mark) in _FORMATS.items()
        if all(re.search(mark.format(name), text) for name in names)
    )


def _parse(parse: Parse, signature: type[dspy.Signature], text: str) -> dict[str, Any]:
    try:
        return parse_by_meaning(partial(parse_lenient, parse), signature, text)
    except RecursionError:  # the repair of JSON follows thousands of brackets down
        raise AdapterParseError(
            adapter_name=type(getattr(parse, "__self__", None)).__name__,
            signature=signature,
            lm_response=text,
            message="It is nested too deeply.",
        ) from None


def thought_field(signature: type[dspy.Signature]) -> str | None:
    """The output that asks for a thought."""
    outputs = signature.output_fields.items()
    return next((name for name, info in outputs if info.annotation is dspy.Reasoning), None)
