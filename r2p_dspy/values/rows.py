"""Rows as programs and databases hold them, turned into columns of text."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, time
from enum import Enum
from typing import Any

import dspy
from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_jsonable_python

from r2p_dspy.errors import ConfigError


def rows_of(data: Any) -> list[Any]:
    """The rows of a table, a list or any other iterable; a single row is a list of one.

    Args:
        data: an iterable of rows, one row (see `columns_of`), a data frame of pandas, polars or pyarrow, or None.

    Raises:
        ConfigError: for anything else.

    Examples:
        >>> rows_of(None), rows_of({"text": "rain"}), rows_of(text for text in ("rain", "sea"))
        ([], [{'text': 'rain'}], ['rain', 'sea'])
    """
    if data is None:
        return []
    for method, options in (("to_pylist", {}), ("to_dicts", {}), ("to_dict", {"orient": "records"}), ("tolist", {})):
        is_table = method != "to_dict" or hasattr(data, "iterrows")  # other classes have a `to_dict` too
        if is_table and callable(getattr(data, method, None)):
            return list(getattr(data, method)(**options))
    if _is_row(data):
        return [data]
    if isinstance(data, Iterable) and not isinstance(data, str | bytes):
        return list(data)
    raise ConfigError(f"a history is a list of items; this is {_described(data)}")


def columns_of(row: Any) -> dict[str, Any]:
    """The columns of one row by name; a bare value is a column `text`.

    Args:
        row: a mapping, a `dspy.Example`, a dataclass, a pydantic model, a named tuple, a row of a database with column
            names (`sqlite3.Row`), or a value that `text_of` takes.

    Raises:
        ConfigError: for a row without column names.

    Examples:
        >>> columns_of({"title": "Rain", 1: 2}), columns_of("rain")
        ({'title': 'Rain', '1': 2}, {'text': 'rain'})
    """
    if isinstance(row, Mapping):
        columns = dict(row)
    elif callable(as_dict := getattr(row, "_asdict", None)):
        columns = as_dict()
    elif isinstance(row, dspy.Type):  # an image, say, is a value, though pydantic's model too
        columns = {"text": row}
    elif isinstance(row, BaseModel):
        columns = dict(row)
    elif _is_dataclass(row):
        columns = {field.name: getattr(row, field.name) for field in fields(row)}
    elif _is_row(row):
        columns = {name: row[name] for name in row.keys()}  # noqa: SIM118  # iterating gives values
    elif isinstance(row, list | tuple):
        raise ConfigError(
            f"it is a {type(row).__name__} without column names; make it a dict, as dict(zip(names, row))"
        )
    else:
        columns = {"text": row}
    return {str(name): value for name, value in columns.items()}


def text_of(value: Any) -> str | None:
    """A value as the text that a prompt shows; None for a missing one: None, or the NaN, NaT and NA of tables.

    An enum's member is its value, a date is in ISO format, and what has parts is JSON.

    Raises:
        ConfigError: for a value that is no text, such as bytes or an image.

    Examples:
        >>> text_of(4), text_of(float("nan")), text_of(["rain", 2]), text_of(date(2024, 5, 1))
        ('4', None, '["rain", 2]', '2024-05-01')
    """
    if isinstance(value, Enum):
        return text_of(value.value)
    if isinstance(value, str):
        return str.__str__(value)
    if is_missing(value):
        return None
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, set | frozenset):
        value = sorted(filter(None, map(text_of, value)))  # a set's own order differs between processes
    if callable(getattr(value, "tolist", None)):  # numpy's scalars and arrays
        return text_of(value.tolist())
    if isinstance(value, bool | int | float):
        return str(value)
    return _json(value)


def without_fraction(value: Any) -> Any:
    """4 for 4.0, which tables write for whole numbers in columns with gaps; any other value as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def is_missing(value: Any) -> bool:
    """Whether a value is None, or the NaN, NaT or NA of a table."""
    try:
        return value is None or bool(value != value)
    except (TypeError, ValueError):  # pandas' NA has no truth value, and neither has an array
        return type(value).__name__ == "NAType"


def _is_row(value: Any) -> bool:
    """Whether a value is one row with column names."""
    if isinstance(value, Mapping | BaseModel) or _is_dataclass(value) or hasattr(value, "_asdict"):
        return True
    return hasattr(value, "keys") and hasattr(value, "__getitem__")  # sqlite3.Row, dspy.Example, rows of drivers


def _is_dataclass(value: Any) -> bool:
    return is_dataclass(value) and not isinstance(value, type)


def _json(value: Any) -> str:
    if isinstance(value, bytes | bytearray | memoryview | dspy.Type):
        raise ConfigError(f"is {_described(value)}, not text; leave it out")
    try:
        plain = to_jsonable_python(value, fallback=_native)
    except (PydanticSerializationError, TypeError, ValueError, RecursionError):
        raise ConfigError(f"is {_described(value)}, which cannot be written as text; give its text") from None
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def _native(value: Any) -> Any:
    """A value of numpy's in a list or a dict, as Python has it."""
    if callable(getattr(value, "tolist", None)):
        return value.tolist()
    raise TypeError(type(value).__name__)


def _described(value: Any) -> str:
    return f"of type {type(value).__name__}"
