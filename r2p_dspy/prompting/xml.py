"""Reading answers in the XML adapter's format as models write them: with bare `&` and `<` in their texts."""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Any

import dspy
from dspy.utils.exceptions import AdapterParseError
from pydantic import TypeAdapter

_BARE = re.compile(r"&(?!(?:amp|lt|gt|quot|apos|#\d+|#x[0-9a-fA-F]+);)")


def parse_lenient(
    parse: Callable[[type[dspy.Signature], str], dict[str, Any]], signature: type[dspy.Signature], completion: str
) -> dict[str, Any]:
    """Parse with an adapter's method; an answer that is no XML only for its texts is read as it was meant."""
    try:
        return parse(signature, completion)
    except AdapterParseError as error:
        meant = escaped(signature, completion) if error.adapter_name == "XMLAdapter" else completion
        # A user's callbacks have heard of this answer already.
        with suppress(AdapterParseError), dspy.context(callbacks=[]):
            if meant != completion:
                return parse(signature, meant)
        raise


def escaped(signature: type[dspy.Signature], completion: str) -> str:
    """A completion in which only the signature's own elements are markup.

    Models copy a quote as it stands, `Tom & Jerry` or `x < y`, and an XML parser refuses the whole answer for it. The
    tags in a thought are text too.

    Examples:
        >>> escaped(dspy.Signature("film -> tag"), "<tag>rhythm & blues <3</tag>")
        '<tag>rhythm &amp; blues &lt;3</tag>'
    """
    completion = _BARE.sub("&amp;", completion)
    for name, info in signature.output_fields.items():
        if info.annotation is dspy.Reasoning:
            thought = re.compile(rf"(?<=<{name}>).*?(?=</{name}>)", re.DOTALL)
            completion = thought.sub(lambda inner: inner[0].replace("<", "&lt;"), completion)
    return _not_an_element(signature).sub("&lt;", completion)


@lru_cache(maxsize=64)
def _not_an_element(signature: type[dspy.Signature]) -> re.Pattern[str]:
    names = {"item", "entry"}  # DSPy's own, of lists and of keys that are no names
    for name, info in signature.output_fields.items():
        names.add(name)
        names.update(_properties(TypeAdapter(info.annotation).json_schema(by_alias=False)))
    # An entry may have its key as an attribute.
    return re.compile(rf"<(?!/?(?:{'|'.join(map(re.escape, sorted(names)))})(?:\s+key=(?:\"[^\"]*\"|'[^']*'))?\s*/?>)")


def _properties(schema: Any) -> Iterator[str]:
    """The names of all properties in a JSON schema."""
    if isinstance(schema, dict):
        yield from schema.get("properties", {})
        for part in schema.values():
            yield from _properties(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _properties(part)
