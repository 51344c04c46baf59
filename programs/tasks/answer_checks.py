"""Ready-made checks of an answer, which a task file names with an argument: `max_words: 10`."""

import re
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, PositiveInt, StringConstraints

from r2p_dspy.checks import Answer, CheckFunction
from r2p_dspy.outcome import Inputs, Outcome


def max_words(most: int) -> CheckFunction:
    """At most so many words."""
    return _check(
        lambda text: len(text.split()) <= most,
        lambda name, text: f"Shorten the {name} to at most {most} words; it has {len(text.split())}.",
    )


def min_words(least: int) -> CheckFunction:
    """At least so many words."""
    return _check(
        lambda text: len(text.split()) >= least,
        lambda name, text: f"Let the {name} be at least {least} words; it has {len(text.split())}.",
    )


def max_characters(most: int) -> CheckFunction:
    """At most so many characters."""
    return _check(
        lambda text: len(text) <= most,
        lambda name, text: f"Shorten the {name} to at most {most} characters; it has {len(text)}.",
    )


def one_line(wanted: bool) -> CheckFunction:
    """All on one line."""
    return _check(
        lambda text: len(text.splitlines()) <= 1 or not wanted,
        lambda name, text: f"Write the {name} on one line.",
    )


def avoid(phrases: list[str]) -> CheckFunction:
    """None of these words and phrases, upper or lower case.

    Example:
        >>> check = avoid(["asap"])
        >>> check(Inputs(fields={}), Outcome(fields={"subject": "Keys, ASAP!"}, answers=("subject",)))
        (False, 'Leave "asap" out of the subject.')
    """
    patterns = {phrase: re.compile(rf"(?<!\w){re.escape(phrase)}(?!\w)", re.IGNORECASE) for phrase in phrases}

    def found(text: str) -> list[str]:
        return [f'"{phrase}"' for phrase, pattern in patterns.items() if pattern.search(text)]

    return _check(
        lambda text: not found(text),
        lambda name, text: f"Leave {', '.join(found(text))} out of the {name}.",
    )


READY: dict[str, Callable[[Any], CheckFunction]] = {
    "max_words": max_words,
    "min_words": min_words,
    "max_characters": max_characters,
    "one_line": one_line,
    "avoid": avoid,
}


class Rules(BaseModel, extra="forbid"):
    """The arguments of ready-made checks, as a task file has them, by name."""

    max_words: PositiveInt | None = None
    min_words: PositiveInt | None = None
    max_characters: PositiveInt | None = None
    one_line: bool | None = None
    avoid: list[Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]] | None = None

    def functions(self) -> dict[str, CheckFunction]:
        """The check functions that are asked for, by name."""
        return {name: READY[name](argument) for name, argument in self if argument is not None}


def _check(holds: Callable[[str], bool], advice: Callable[[str, str], str]) -> CheckFunction:
    """A check of the text of the signature's first output."""

    def check(inputs: Inputs, outcome: Outcome) -> Answer:
        name = outcome.answers[0]
        text = str(outcome.fields.get(name) or "").strip()
        return holds(text), advice(name, text)

    return check
