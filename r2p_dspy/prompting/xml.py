"""Reading answers in the XML adapter's format as models write them: with bare `&` and `<` in their texts."""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any
from xml.etree.ElementTree import ParseError

import dspy
from dspy.utils.exceptions import AdapterParseError
from pydantic import TypeAdapter

_BARE = re.compile(r"&(?!(?:amp|lt|gt|quot|apos|#\d+|#x[0-9a-fA-F]+);)")


def parse_lenient(
    parse: Callable[[type[dspy.Signature], str], dict[str, Any]], signature: type[dspy.Signature], completion: str
) -> dict[str, Any]:
    """Parse with an adapter's method; a completion that is no well-formed XML is read as it was meant."""
    try:
        return parse(signature, completion)
    except AdapterParseError as error:
        if not isinstance(error.__cause__, ParseError):
            raise
        with dspy.context(callbacks=[]):  # a user's callbacks have heard of this answer already
            return parse(signature, escaped(signature, completion))


def escaped(signature: type[dspy.Signature], completion: str) -> str:
    """A completion in which only the signature's own elements are markup.

    Models copy a quote as it stands, `Tom & Jerry` or `x < y`, and an XML parser refuses the whole answer for it.

    Examples:
        >>> escaped(dspy.Signature("film -> tag"), "<tag>\\nrhythm & blues <3\\n</tag>")
        '<tag>\\nrhythm &amp; blues &lt;3\\n</tag>'
    """
    return _not_an_element(signature).sub("&lt;", _BARE.sub("&amp;", completion))


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
