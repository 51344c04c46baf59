"""The JSON Schema of an answer, for servers that take nothing else."""

from collections.abc import Mapping, Sequence
from typing import Any

from r2p_dspy.decoding.grammar.citing import Shown
from r2p_dspy.decoding.grammar.types import schema_of
from r2p_dspy.template import Evidence, Preference

# Schemas are `Any`: what JSON can hold.


def answer_schema(
    fields: Mapping[str, tuple[Any, Sequence[Any], Sequence[str]]], items: Sequence[Shown]
) -> dict[str, Any]:
    """The schema of an answer in JSON: the fields, and the ids and labels of the items that it may cite.

    Args:
        fields: of each field its type, what bounds it, and the only texts that it may be, if there are any.
        items: the items that can be cited.
    """
    definitions: dict[str, Any] = {}
    properties = {name: _field(*field, items, definitions) for name, field in fields.items()}
    whole = _closed(properties)
    return {**whole, "$defs": definitions} if definitions else whole


def _field(kind: Any, metadata: Sequence[Any], labels: Sequence[str], items: Sequence[Shown], definitions: Any) -> Any:
    if kind == list[Evidence]:
        return _list({"item": _one_of([item.id for item in items]), "quote": {"type": "string"}}, items)
    if kind == list[Preference]:
        bearing = [item.label for item in items if item.label]
        label = {"anyOf": [_one_of(bearing), {"type": "null"}]} if bearing else {"type": "null"}
        ids = {"type": "array", "items": _one_of([item.id for item in items])}
        return _list({"statement": {"type": "string"}, "items": ids, "label": label}, items)
    if labels:
        return _one_of(labels)
    schema = schema_of(kind, metadata) or {"type": "string"}
    definitions.update({name: _strict(part) for name, part in schema.get("$defs", {}).items()})
    return _strict({key: value for key, value in schema.items() if key != "$defs"})


def _list(properties: dict[str, Any], items: Sequence[Shown]) -> Any:
    # Servers that hold answers to a schema do not all know the number of entries; the checks do.
    return {"type": "array", "items": _closed(properties)} | ({} if items else {"maxItems": 0})


def _one_of(texts: Sequence[str]) -> Any:
    return {"type": "string", "enum": [*dict.fromkeys(texts)]} if texts else {"type": "string"}


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": [*properties],
        "additionalProperties": False,
    }


def _strict(schema: Any) -> Any:
    """A schema whose objects have all their properties and no others, as servers demand."""
    if isinstance(schema, list):
        return [_strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: _strict(part) for key, part in schema.items() if key not in ("title", "default")}
    if isinstance(inner.get("properties"), dict):
        return {**inner, **_closed(inner["properties"])}
    return inner
