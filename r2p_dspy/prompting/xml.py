"""Reading answers in the XML adapter's format as models write them: with bare `&` and `<` in their texts."""

import re
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Element:
    """A top-level element of an answer."""

    name: str
    start: int  # where its opening tag begins
    text: str  # between its tags
    end: int  # where its closing tag ends, or the text's end
    closed: bool


def elements(names: Collection[str], text: str) -> Iterator[Element]:
    """The elements of these names in an answer so far, without those inside others; the last may be unfinished.

    Examples:
        >>> [element.name for element in elements(["a", "b"], "<a><b>1</b></a> and <b />")]
        ['a', 'b']
    """
    opens = re.compile(rf"<({'|'.join(map(re.escape, names))})\s*(/?)>")
    end = 0
    while (tag := opens.search(text, end)) is not None:
        inner_end, end = (tag.end(), tag.end()) if tag[2] else _closing(tag[1], text, tag.end())
        closed = bool(tag[2]) or inner_end < end
        yield Element(tag[1], tag.start(), text[tag.end() : inner_end].strip(), end, closed)


def _closing(name: str, text: str, start: int) -> tuple[int, int]:
    """Where the closing tag of an element begins and ends, past inner elements of its name; else the text's end."""
    depth = 1
    for tag in re.finditer(rf"<(/?){re.escape(name)}\s*(/?)>", text[start:]):
        depth += -1 if tag[1] else not tag[2]
        if depth == 0:
            return start + tag.start(), start + tag.end()
    return len(text), len(text)


@lru_cache(maxsize=64)
def element_names(signature: type[dspy.Signature]) -> tuple[str, ...]:
    """The names of all elements that an answer may have."""
    names = ["item", "entry"]  # DSPy's own, of lists and of keys that are no names
    for name, info in signature.output_fields.items():
        annotation: Any = info.annotation  # pydantic's says that it may be None
        names += [name, *_properties(TypeAdapter(annotation).json_schema(by_alias=False))]
    return tuple(dict.fromkeys(names))


@lru_cache(maxsize=64)
def _not_an_element(signature: type[dspy.Signature]) -> re.Pattern[str]:
    names = "|".join(map(re.escape, element_names(signature)))
    # An entry may have its key as an attribute.
    return re.compile(rf"<(?!/?(?:{names})(?:\s+key=(?:\"[^\"]*\"|'[^']*'))?\s*/?>)")


def _properties(schema: Any) -> Iterator[str]:
    """The names of all properties in a JSON schema."""
    if isinstance(schema, dict):
        yield from schema.get("properties", {})
        for part in schema.values():
            yield from _properties(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _properties(part)
