"""An answer of every type: as a value, as a model writes it, and another one."""

import enum
from datetime import date, datetime
from decimal import Decimal
from typing import Literal

import dspy
from pydantic import BaseModel

from tests.film import Film, program


class Mood(str, enum.Enum):  # noqa: UP042  # as most people write it
    HAPPY = "happy"
    SAD = "sad"


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Step(enum.Enum):
    FIRST = enum.auto()
    LAST = enum.auto()


class Showing(BaseModel):
    day: date
    mood: Mood
    seats: int = 3


TYPES = {
    "str": (str, "happy", "happy", "sad"),
    "Literal": (Literal["happy", "sad"], "happy", "happy", "sad"),
    "Literal of int": (Literal[1, 2], 1, "1", "2"),
    "Literal of many": (Literal["a", 2, True, None], None, "None", "a"),
    "str Enum": (Mood, Mood.HAPPY, "happy", "sad"),
    "Enum": (Colour, Colour.RED, "red", "blue"),
    "Enum by name": (Colour, Colour.RED, "RED", "blue"),
    "IntEnum": (Level, Level.LOW, "1", "2"),
    "auto Enum": (Step, Step.FIRST, "FIRST", "LAST"),
    "bool": (bool, False, "False", "True"),
    "int": (int, 0, "0", "7"),
    "float": (float, 0.5, "0.5", "7"),
    "Decimal": (Decimal, Decimal("1.5"), "1.50", "7"),
    "date": (date, date(2024, 5, 6), "2024-05-06", "1999-01-01"),
    "datetime": (datetime, datetime(2024, 5, 6, 7, 8), "2024-05-06T07:08:00", "1999-01-01T00:00:00"),
    "list": (list[str], ["a", "b"], '["a", "b"]', '["c"]'),
    "empty list": (list[str], [], "[]", '["c"]'),
    "list of Literal": (list[Literal["a", "b"]], ["a"], '["a"]', '["b"]'),
    "list of Enum": (list[Mood], [Mood.SAD], '["sad"]', '["happy"]'),
    "set": (set[str], {"a", "b", "c"}, '["c", "b", "a"]', '["d"]'),
    "dict": (dict[str, int], {"a": 1}, '{"a": 1}', '{"a": 2}'),
    "Optional int, None": (int | None, None, "None", "1999"),
    "Optional int": (int | None, 1999, "1999", "None"),
    "Optional str, None": (str | None, None, "None", "sad"),
    "Optional Enum": (Mood | None, Mood.HAPPY, "happy", "None"),
    "Optional Enum, None": (Mood | None, None, "null", "sad"),
    "Optional Literal": (Literal["happy", "sad"] | None, "happy", "happy", "None"),
    "pydantic": (
        Showing,
        Showing(day=date(2024, 5, 6), mood=Mood.SAD),
        '{"day": "2024-05-06", "mood": "sad"}',
        '{"day": "2024-05-07", "mood": "sad", "seats": 4}',
    ),
    "list of pydantic": (
        list[Showing],
        [Showing(day=date(2024, 5, 6), mood=Mood.SAD)],
        '[{"day": "2024-05-06", "mood": "sad", "seats": 3}]',
        "[]",
    ),
}


def typed_program(annotation, **options):
    """The film program, whose tag is of another type."""
    return program(signature=Film.delete("tag").append("tag", dspy.OutputField(), annotation), **options)
