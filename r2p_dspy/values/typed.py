"""Values of any type, converted in one place: their labels, their JSON, their text, and when two are the same."""

import enum
import json
import math
import types
from collections.abc import Iterable, Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from functools import lru_cache, partial
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import json_repair
from dspy.adapters.utils import parse_value
from pydantic import BeforeValidator, TypeAdapter
from pydantic_core import to_jsonable_python

from r2p_dspy.values.folding import meant

# Annotations and values are `Any`: the user's signature decides them.

_UNIONS = (Union, types.UnionType)
_DEEPEST = 1000  # brackets that are not closed: to repair them takes long, and then fails
_SCALARS = (int, float, Decimal, date, time, timedelta)


def labels_of(annotation: Any) -> tuple[str, ...]:
    """The labels of a type that allows only a few values, as DSPy prompts them; () for any other type.

    Such types are `Literal`, `Enum` (by its values), `bool`, and unions of these. Where None is allowed too, "None" is
    one of the labels.

    Examples:
        >>> labels_of(Literal["comedy", "drama"]), labels_of(bool | None), labels_of(str)
        (('comedy', 'drama'), ('True', 'False', 'None'), ())
    """
    return tuple(_choices(annotation))


def has_labels(annotation: Any) -> bool:
    """Whether a type has labels, or a type inside it, such as the items of a list.

    Examples:
        >>> has_labels(list[bool]), has_labels(list[int])
        (True, False)
    """
    return bool(_choices(annotation)) or any(map(has_labels, get_args(annotation)))


def is_scalar(annotation: Any) -> bool:
    """Whether the values of a type are labels, numbers or dates, which fit in a line; None may be allowed too.

    Examples:
        >>> is_scalar(Literal["a", 2]), is_scalar(int | None), is_scalar(str), is_scalar(list[int])
        (True, True, False, False)
    """
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return is_scalar(parts[0])
    if origin in _UNIONS:
        return all(part is types.NoneType or is_scalar(part) for part in parts)
    return bool(_choices(annotation)) or (isinstance(annotation, type) and issubclass(annotation, _SCALARS))


def allows_none(annotation: Any) -> bool:
    """Whether None is a value of a type.

    Examples:
        >>> allows_none(int | None), allows_none(Literal["a", None]), allows_none(int)
        (True, True, False)
    """
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return None in parts
    if origin is Annotated:
        return allows_none(parts[0])
    return annotation in (None, types.NoneType) or (origin in _UNIONS and any(map(allows_none, parts)))


def says_none(annotation: Any, value: Any) -> bool:
    """Whether a model's text says None where the type allows it; DSPy reads "None" as a text where it may be one.

    Examples:
        >>> says_none(str | None, "null"), says_none(str, "None")
        (True, False)
    """
    return isinstance(value, str) and value.strip().lower() in ("none", "null") and allows_none(annotation)


def plain(value: Any) -> Any:
    """A value as JSON has it: an `Enum` as its value, a date as ISO text, a model as a dict, a set as a sorted list.

    Examples:
        >>> from datetime import date
        >>> plain({"seen": date(2024, 5, 6), "tags": {"b", "a"}})
        {'seen': '2024-05-06', 'tags': ['a', 'b']}
    """
    if isinstance(value, set | frozenset):
        return sorted(map(plain, value), key=json.dumps)
    if isinstance(value, Mapping):
        return {as_text(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return to_jsonable_python(value, inf_nan_mode="strings", fallback=str)


def as_text(value: Any) -> str:
    """A value as a text to compare: texts as they are, numbers without idle zeros, other values as JSON.

    Examples:
        >>> as_text(4.0), as_text(True), as_text(None), as_text(["a", 1])
        ('4', 'True', 'None', '["a", 1]')
    """
    if isinstance(value, enum.Enum):
        return as_text(value.value)
    if isinstance(value, float | Decimal) and math.isfinite(value):
        return f"{Decimal(str(value)).normalize():f}"
    if value is None or isinstance(value, str | int | float | Decimal):
        return str(value)
    jsonable = plain(value)
    return jsonable if isinstance(jsonable, str) else json.dumps(jsonable, ensure_ascii=False, sort_keys=True)


def same(first: Any, second: Any) -> bool:
    """Whether two answers are the same, where each may be a typed value, its JSON, or its text.

    Examples:
        >>> same(4, "4.0"), same(["a"], '["a"]'), same(None, "comedy"), same("comedy", "Comedy")
        (True, True, False, False)
    """
    if as_text(first).strip() == as_text(second).strip():
        return True
    return _equals(first, second) or _equals(second, first)


def read(annotation: Any, value: Any) -> Any:
    """A value of a type, from what `plain` made of it, or from JSON in a text.

    Raises:
        ValueError: it is no value of that type.

    Examples:
        >>> from datetime import date
        >>> read(date | None, "2024-05-06"), read(Literal[1, 2], "2"), read(list[int], "[1]")
        (datetime.date(2024, 5, 6), 2, [1])
    """
    choices = _choices(annotation)
    if (text := as_text(value)) in choices:
        return choices[text]
    try:
        return _adapter(annotation).validate_python(value)  # first, since JSON in a text would round a `Decimal`
    except ValueError:
        return parse(annotation, value)


def parse(annotation: Any, value: Any) -> Any:
    """A value of a type, as DSPy reads it from a model's text.

    Raises:
        ValueError: it is no value of that type, or nested too deeply for Python's and for JSON's readers.
    """
    if isinstance(value, str) and is_too_deep(value):
        raise ValueError("it is nested too deeply")
    try:
        return parse_value(value, annotation)
    except (RecursionError, MemoryError):  # Python's reader says so of 10,000 signs
        raise ValueError("it is nested too deeply") from None


def is_too_deep(text: str) -> bool:
    """Whether a text opens far more brackets than it closes.

    Examples:
        >>> is_too_deep("(" * 5000), is_too_deep("[]" * 5000)
        (True, False)
    """
    return any(text.count(start) - text.count(end) > _DEEPEST for start, end in ("()", "[]", "{}"))


def from_text(annotation: Any, text: str) -> Any:
    """The value of a type that a model's text means; labels are read by meaning, also inside lists.

    Raises:
        ValueError: it means no value of that type, or more than one.

    Examples:
        >>> from_text(Literal["romance", "drama"], '"Romance".'), from_text(str | None, "null"), from_text(int, "4")
        ('romance', None, 4)
    """
    if says_none(annotation, text):
        return None
    if is_too_deep(text):
        raise ValueError("it is nested too deeply")
    try:
        return read(annotation, text)
    except ValueError:
        by_meaning: TypeAdapter[Any] = TypeAdapter(_lenient(annotation))
    try:
        return by_meaning.validate_python(text)
    except ValueError:
        return by_meaning.validate_python(json_repair.loads(text))


def _choices(annotation: Any) -> dict[str, Any]:
    """The values of a type that allows only a few, by their labels."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _choices(parts[0])
    if origin in _UNIONS:
        of_parts = [{"None": None} if part is types.NoneType else _choices(part) for part in parts]
        return {label: value for choices in of_parts for label, value in choices.items()} if all(of_parts) else {}
    values: Iterable[Any] = parts if origin is Literal else ()
    if annotation is bool:
        values = (True, False)
    elif _is_enum(annotation):
        values = tuple(annotation)
    return {as_text(value): value for value in values}


def _is_enum(annotation: Any) -> bool:
    return isinstance(annotation, enum.EnumType) and not issubclass(annotation, enum.Flag)


def _lenient(annotation: Any) -> Any:
    """The same type, with labels that are read by meaning."""
    if _choices(annotation):
        return Annotated[annotation, BeforeValidator(partial(_chosen, annotation))]
    origin = get_origin(annotation)
    parts = tuple(map(_lenient, get_args(annotation)))
    if origin in _UNIONS:
        return Union[parts]  # noqa: UP007  # of any number of types
    if origin is Annotated:
        return annotation
    return types.GenericAlias(origin, parts) if isinstance(origin, type) else annotation


def _chosen(annotation: Any, value: Any) -> Any:
    """The value whose label is meant, or else whose name in an `Enum`; any other value as it is."""
    choices = _choices(annotation)
    members = [choice for choice in choices.values() if isinstance(choice, enum.Enum)]
    names = {name: member for member in members for name in (member.name, f"{type(member).__name__}.{member.name}")}
    for known in (choices, names):
        if (label := meant(as_text(value), tuple(known))) is not None:
            return known[label]
    return value


def _equals(typed: Any, other: Any) -> bool:
    """Whether a value that is no text equals another one, read as its type."""
    if typed is None or isinstance(typed, str | enum.Enum):
        return False
    try:
        return bool(plain(read(type(typed), other)) == plain(typed))
    except (ValueError, TypeError):
        return False


@lru_cache(maxsize=256)
def _adapter(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(annotation)
