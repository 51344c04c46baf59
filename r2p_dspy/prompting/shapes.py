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
from r2p_dspy.prompting.parsing import without_thought
from r2p_dspy.prompting.xml import parse_lenient
from r2p_dspy.values.typed import allows_none, is_too_deep

# The formats of DSPy's adapters: how each marks a field, and what follows a mark that has a value. BAML's are JSON.
_FORMATS: Mapping[str, tuple[type[dspy.ChatAdapter], str, str]] = MappingProxyType(
    {
        "JSON": (dspy.JSONAdapter, r"[\"']{}[\"']\s*:", r"(?!\s*null\b)"),
        "XML": (dspy.XMLAdapter, r"<{}\s*/?>", ""),
        "chat": (dspy.ChatAdapter, r"\[\[ ## {} ## \]\]", ""),
    }
)
_CLOSE = "</think>"
_END = "[[ ## completed ## ]]"
# More than newlines ends a line for the chat adapter. Within JSON that is no JSON any more, and a model that repeats an
# item may write them.
_LINE_ENDS = re.compile("[\v\f\x1c-\x1e\x85\u2028\u2029]")


def read(parse: Parse, signature: type[dspy.Signature], completion: str) -> tuple[dict[str, Any], str]:
    """Read a completion's fields with an adapter's method, else in the formats of DSPy's other adapters.

    Servers that do not separate thoughts leave them in the text; a thought fills the field that asks for one. DSPy
    reads a missing field as None where it may be None; a completion without any field is no answer all the same.

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
    text = completion if thought_field(signature) else without_thought(completion)
    own: dict[str, Any] | None = None
    try:
        own = _parse(parse, signature, text)
        if not _says_nothing(own):
            return own, ""
        error = _error(parse, signature, completion, "It has none of the fields.")
    except AdapterParseError as unread:
        error = unread
    for shape, parse_shape, part, thought in _readings(parse, signature, text):
        # A format that cannot carry a type raises errors of many kinds. Callbacks have heard of the answer.
        with suppress(Exception), dspy.context(callbacks=[]):
            wanted = signature.delete(next(iter(thought))) if thought else signature
            values = {**_parse(parse_shape, wanted, part), **thought}
            if own is None or not _says_nothing(values):
                return values, shape
    if own is not None and _other_formats(signature, text):  # None is written there
        return own, ""
    raise error


def _says_nothing(values: Mapping[str, Any]) -> bool:
    return bool(values) and all(value is None for value in values.values())


def _readings(
    parse: Parse, signature: type[dspy.Signature], completion: str
) -> Iterator[tuple[str, Parse, str, dict[str, dspy.Reasoning]]]:
    """What to try: a format, how to parse it, the text without its thought, and the field that gets the thought."""
    before, closed, after = completion.partition(_CLOSE)
    if closed:
        name = thought_field(signature)
        thought = {} if name is None else {name: dspy.Reasoning(content=before)}
        yield "", parse, after, {}  # the field may be there beside the thought
        if thought:
            yield "", parse, after, thought
        yield from ((*each, after, thought) for each in _other_formats(signature, after, thought))
    yield from ((*each, completion, {}) for each in _other_formats(signature, completion))


def _other_formats(
    signature: type[dspy.Signature], text: str, known: Collection[str] = ()
) -> tuple[tuple[str, Parse], ...]:
    """The formats in which fields stand in a text: every field that must, with a value that is not null.

    Looking first spares the slow repair of what is no JSON.
    """
    outputs = {re.escape(name): info for name, info in signature.output_fields.items() if name not in known}
    needed = [name for name, info in outputs.items() if info.is_required() and not allows_none(info.annotation)]
    return tuple(
        (shape, adapter().parse)
        for shape, (adapter, mark, value) in _FORMATS.items()
        if any(re.search(mark.format(name), text) for name in outputs)
        and all(re.search(mark.format(name) + value, text) for name in needed)
    )


def _parse(parse: Parse, signature: type[dspy.Signature], text: str) -> dict[str, Any]:
    if writes_markers(getattr(parse, "__self__", None)):
        text = _without_cut_mark(_LINE_ENDS.sub(" ", text))
    with suppress(RecursionError, MemoryError):  # JSON's repair follows brackets down, and Python's reader signs
        if not is_too_deep(text):
            return parse_by_meaning(partial(parse_lenient, parse), signature, text)
    raise _error(parse, signature, text, "It is nested too deeply.")


def _without_cut_mark(text: str) -> str:
    """A text without a last mark that the limit of tokens cut off: it would be part of the answer.

    Examples:
        >>> _without_cut_mark("[[ ## tag ## ]]\\ncomedy\\n\\n[[ ## compl")
        '[[ ## tag ## ]]\\ncomedy\\n'
    """
    before, _, last = text.rpartition("\n")
    return before if last.startswith("[[ ") and last != _END and _END.startswith(last) else text


def _error(parse: Parse, signature: type[dspy.Signature], text: str, message: str) -> AdapterParseError:
    name = type(getattr(parse, "__self__", None)).__name__
    return AdapterParseError(adapter_name=name, signature=signature, lm_response=text, message=message)


def writes_markers(adapter: object) -> bool:
    """Whether an adapter's answers have the chat adapter's field markers; not those of its JSON and XML subclasses."""
    return isinstance(adapter, dspy.ChatAdapter) and not isinstance(adapter, dspy.JSONAdapter | dspy.XMLAdapter)


def thought_field(signature: type[dspy.Signature]) -> str | None:
    """The output that asks for a thought."""
    outputs = signature.output_fields.items()
    return next((name for name, info in outputs if info.annotation is dspy.Reasoning), None)
