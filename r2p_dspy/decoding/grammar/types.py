"""Values of a type as grammars: as a format writes them bare, and inside lists and objects."""

from __future__ import annotations

import json
import types
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any, Union, get_args, get_origin

from dspy import Type as DspyType
from pydantic import BaseModel, TypeAdapter
from typing_extensions import is_typeddict

from r2p_dspy.decoding.grammar.lark import Rules, either, literal
from r2p_dspy.decoding.grammar.notation import Json, Member, Notation, Xml
from r2p_dspy.values.typed import as_text, labels_of

# Annotations and schemas are `Any`: the user's signature decides them.

_MOST_ENTRIES = 32  # of a list whose type has no limit, so that a loop comes to an end
_LISTED = 1000  # whole numbers of a range that are written out
_DATE = (
    r"[12][0-9]{3}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))"
    r"|[12][0-9](0[48]|[2468][048]|[13579][26])-02-29"
)
_CLOCK = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
_ZONE = r"(Z|[+-](0[0-9]|1[0-4]):[0-5][0-9])?"
_FORMATS = {"date": _DATE, "date-time": rf"({_DATE})T{_CLOCK}{_ZONE}", "time": rf"{_CLOCK}{_ZONE}"}
_INTEGER = "-?(0|[1-9][0-9]{0,14})"
_NUMBER = r"-?(0|[1-9][0-9]{0,11})(\.[0-9]{1,6})?"


class Types:
    """Grammars of values, as rules of one grammar.

    Args:
        rules: where rules go.
        notation: how the format writes values.
        characters: the most that a text may have, where its type has no limit.
        barred: characters with which a text does not begin that is the whole value.
    """

    def __init__(self, rules: Rules, notation: Notation, characters: int, barred: str = "") -> None:
        self.complete = True  # whether the grammar holds all that the types ask for
        self._rules, self._notation, self._characters, self._barred = rules, notation, characters, barred
        self._definitions: Mapping[str, Any] = {}
        self._references: dict[str, str] = {}
        self._in_elements = False
        self._level = 0  # of the whole value

    def value(self, annotation: Any, metadata: Sequence[Any] = (), level: int = 0) -> str:
        """The value of an output or a stage."""
        schema, validated = _described(annotation, metadata)
        self.complete &= not validated
        schema = {"type": "string"} if schema is None else schema
        self._definitions, self._references, self._level = schema.get("$defs", {}), {}, level
        if not self._notation.lines:
            return self._inner(schema, level)
        if labels := labels_of(annotation):
            return either(*map(self._notation.bare, labels))
        self._in_elements = is_nested(annotation)
        return self._bare(schema, level)

    def _bare(self, schema: Any, level: int) -> str:
        """A value that stands alone in its lines."""
        schema = self._resolved(schema)
        options = schema.get("anyOf", schema.get("oneOf"))
        if options:
            parts = [self._resolved(option) for option in _without_patterns(options)]
            texts = [part for part in parts if part.get("type") == "string" and "format" not in part]
            return self._bare(texts[0], level) if texts else either(*(self._bare(part, level) for part in parts))
        if "enum" in schema or "const" in schema:
            return either(*(self._notation.bare(as_text(value)) for value in schema.get("enum", [schema.get("const")])))
        kind = schema.get("type")
        if kind == "string":
            if (body := _FORMATS.get(schema.get("format", ""))) is not None:
                return self._rules.terminal(schema["format"].replace("-", ""), f"/{body}/")
            return self._text(schema)
        if kind == "null":
            return literal("None")
        if kind == "boolean":
            return '("True" | "False")'
        if kind in ("array", "object") and isinstance(self._notation, Xml) and not self._in_elements:
            self._notation = Json(tags=True)  # as DSPy's XML adapter writes a set or a dict
        if kind in ("integer", "number", "array", "object"):
            return self._inner(schema, level)
        self.complete = False
        return self._text({})

    def _text(self, schema: Mapping[str, Any]) -> str:
        self._notice(schema)
        if "maxLength" in schema:
            least, most = schema.get("minLength", 1), schema["maxLength"]
            return self._notation.short_text(self._rules, least, most, self._barred)
        return self._notation.text(self._rules, self._characters, self._barred)

    def _inner(self, schema: Any, level: int) -> str:
        """A value inside a list, an object, or an answer in JSON."""
        if "$ref" in schema:
            return self._reference(schema["$ref"], level)
        notation = self._notation
        options = schema.get("anyOf", schema.get("oneOf"))
        if options:
            return either(*(self._inner(option, level) for option in _without_patterns(options)))
        if "enum" in schema or "const" in schema:
            return either(*map(notation.constant, schema.get("enum", [schema.get("const")])))
        kind = schema.get("type")
        if kind == "string":
            if (body := _FORMATS.get(schema.get("format", ""))) is not None:
                return notation.quoted(self._rules.terminal(schema["format"].replace("-", ""), f"/{body}/"))
            self._notice(schema)
            most = schema.get("maxLength", self._characters)
            barred = self._barred if level == self._level else ""
            return notation.string(self._rules, min(1, most), most, barred)
        if kind == "integer":
            return self._integer(schema)
        if kind == "number":
            self.complete &= not any("imum" in key or key == "multipleOf" for key in schema)
            return self._rules.terminal("NUMBER", f"/{_NUMBER}/")
        if kind == "boolean":
            return notation.boolean()
        if kind == "null":
            return notation.constant(None)
        if kind == "array":
            return self._array(schema, level)
        if kind == "object":
            return self._object(schema, level)
        self.complete = False
        return notation.string(self._rules, 1, self._characters)

    def _array(self, schema: Mapping[str, Any], level: int) -> str:
        if "prefixItems" in schema:
            return self._notation.sequence([self._inner(part, level + 1) for part in schema["prefixItems"]], level)
        most = schema.get("maxItems", max(_MOST_ENTRIES, schema.get("minItems", 0)))
        entry = self._rules.rule("entry", self._inner(schema.get("items", {}), level + 1))
        return self._notation.list(entry, schema.get("minItems", 0), most, level)

    def _object(self, schema: Mapping[str, Any], level: int) -> str:
        if properties := schema.get("properties"):
            needed = schema.get("required", ())
            values = ((key, self._inner(value, level + 1)) for key, value in properties.items())
            return self._notation.object([Member(key, value, key not in needed) for key, value in values], level)
        key = schema.get("propertyNames", {"type": "string", "maxLength": 60})
        if isinstance(self._notation, Json) and isinstance(schema.get("additionalProperties"), dict):
            value = self._inner(schema["additionalProperties"], level + 1)
            return self._notation.dictionary(self._inner(key, level + 1), value, _MOST_ENTRIES, level)
        self.complete = False
        return self._notation.object([], level)

    def _integer(self, schema: Mapping[str, Any]) -> str:
        low = schema.get("minimum", schema.get("exclusiveMinimum", -2) + 1 if "exclusiveMinimum" in schema else None)
        high = schema.get("maximum", schema.get("exclusiveMaximum", 2) - 1 if "exclusiveMaximum" in schema else None)
        self.complete &= "multipleOf" not in schema
        if low is None and high is None:
            return self._rules.terminal("INTEGER", f"/{_INTEGER}/")
        low = low if low is not None else min(-(10**9), high - 1)
        high = high if high is not None else max(10**9, low + 1)
        if high - low < _LISTED:
            return self._rules.terminal("INTEGER", f"/{'|'.join(map(str, range(low, high + 1)))}/")
        bounds = json.dumps({"type": "integer", "minimum": low, "maximum": high})
        return self._rules.rule("integer", f"%json {bounds}")

    def _reference(self, reference: str, level: int) -> str:
        """The rule of a named part of a schema, which may contain itself."""
        key = f"{reference} {level if getattr(self._notation, 'indent', False) else 0}"
        if key not in self._references:
            self._references[key] = self._rules.reserve(f"part_{len(self._references)}")
            deeper = level if level < 8 else 0  # a part that contains itself keeps one indent from there on
            body = self._inner(self._definitions[reference.rsplit("/", 1)[-1]], deeper)
            self._rules.define(self._references[key], body)
        return self._references[key]

    def _resolved(self, schema: Any) -> Any:
        return self._definitions[schema["$ref"].rsplit("/", 1)[-1]] if "$ref" in schema else schema

    def _notice(self, schema: Mapping[str, Any]) -> None:
        self.complete &= "pattern" not in schema and "format" not in schema and schema.get("minLength", 1) <= 1


def _without_patterns(options: Sequence[Any]) -> Sequence[Any]:
    """The options without texts that have a pattern, such as those by which pydantic takes a number."""
    plain = [option for option in options if "pattern" not in option]
    return plain or options


def schema_of(annotation: Any, metadata: Sequence[Any] = ()) -> dict[str, Any] | None:
    """The JSON Schema of a type; None where it has none, or where DSPy reads it in its own way."""
    return _described(annotation, metadata)[0]


def _described(annotation: Any, metadata: Sequence[Any]) -> tuple[dict[str, Any] | None, bool]:
    """The JSON Schema of a type, if it has one, and whether it has validators of its own, which no grammar can hold."""
    try:
        return _describe(annotation, tuple(metadata))
    except TypeError:  # not hashable
        return _describe.__wrapped__(annotation, tuple(metadata))


@lru_cache(maxsize=256)
def _describe(annotation: Any, metadata: tuple[Any, ...]) -> tuple[dict[str, Any] | None, bool]:
    if isinstance(annotation, type) and issubclass(annotation, DspyType):
        return None, True
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(Annotated[(annotation, *metadata)] if metadata else annotation)
        return adapter.json_schema(by_alias=False), any(_kinds(adapter.core_schema))
    except Exception:  # pydantic raises many kinds for types that JSON cannot describe
        return None, True


def _kinds(schema: Any) -> Iterator[str]:
    """The functions in pydantic's schema of a type."""
    if isinstance(schema, Mapping):
        if str(schema.get("type", "")).startswith("function-"):
            yield str(schema["type"])
        for part in schema.values():
            yield from _kinds(part)
    elif isinstance(schema, list | tuple):
        for part in schema:
            yield from _kinds(part)


def is_nested(annotation: Any) -> bool:
    """Whether DSPy's XML adapter writes a type in elements of its own; others stand in lines."""
    parts = [part for part in get_args(annotation) if part is not types.NoneType]
    if get_origin(annotation) in (Union, types.UnionType) and len(parts) == 1:
        annotation = parts[0]
    if get_origin(annotation) is list:
        return True
    return is_typeddict(annotation) or (isinstance(annotation, type) and issubclass(annotation, BaseModel))
