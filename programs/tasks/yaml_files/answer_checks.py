"""Ready-made checks of an answer. A YAML task file names them with an argument: `max_words: 10`."""

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, PositiveInt, StringConstraints

from r2p_dspy.checks import Answer, CheckFunction
from r2p_dspy.outcome import Inputs, Outcome, unshadowed
from r2p_dspy.values.typed import as_text
from r2p_dspy.values.words import count_words, has_phrase


def max_words(most: int) -> CheckFunction:
    """The answer has at most this number of words, or characters of a script without spaces (see `count_words`)."""
    return _check(
        lambda text: count_words(text) <= most,
        lambda name, text: f"Shorten the {name} to at most {most} words; it has {count_words(text)}.",
    )


def min_words(least: int) -> CheckFunction:
    """The answer has at least this number of words, or characters of a script without spaces (see `count_words`)."""
    return _check(
        lambda text: count_words(text) >= least,
        lambda name, text: f"Let the {name} be at least {least} words; it has {count_words(text)}.",
    )


def max_characters(most: int) -> CheckFunction:
    """The answer has at most this number of characters."""
    return _check(
        lambda text: len(text) <= most,
        lambda name, text: f"Shorten the {name} to at most {most} characters; it has {len(text)}.",
    )


def one_line(enabled: bool) -> CheckFunction:
    """The answer is on one line; False disables the check."""
    return _check(
        lambda text: len(text.splitlines()) <= 1 or not enabled,
        lambda name, text: f"Write the {name} on one line.",
    )


def avoid(phrases: list[str]) -> CheckFunction:
    """The answer has none of these words and phrases, in upper or lower case.

    Examples:
        >>> check = avoid(["asap"])
        >>> check(Inputs(fields={}), Outcome(fields={"subject": "Keys, ASAP!"}, answers=("subject",)))
        (False, 'Leave "asap" out of the subject.')
    """

    def matches(text: str) -> list[str]:
        return [f'"{phrase}"' for phrase in dict.fromkeys(phrases) if has_phrase(text, phrase)]

    return _check(
        lambda text: not matches(text),
        lambda name, text: f"Leave {', '.join(matches(text))} out of the {name}.",
    )


READY_CHECKS: dict[str, Callable[[Any], CheckFunction]] = {
    "max_words": max_words,
    "min_words": min_words,
    "max_characters": max_characters,
    "one_line": one_line,
    "avoid": avoid,
}


class CheckArguments(BaseModel, extra="forbid"):
    """The arguments of ready-made checks in a task file, by the check's name; None for a check that is not used."""

    max_words: PositiveInt | None = None
    min_words: PositiveInt | None = None
    max_characters: PositiveInt | None = None
    one_line: bool | None = None
    avoid: list[Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]] | None = None

    def functions(self) -> dict[str, CheckFunction]:
        """The check functions with these arguments, by name."""
        return {name: READY_CHECKS[name](argument) for name, argument in self if argument is not None}


def _check(holds: Callable[[str], bool], advice: Callable[[str, str], str]) -> CheckFunction:
    """A check of the text of the signature's first output, from a condition and a message for the model."""

    def check(inputs: Inputs, outcome: Outcome) -> Answer:
        outcome = unshadowed(outcome)
        name = outcome.answers[0]
        value = outcome.fields.get(name)
        text = "" if value is None else as_text(value).strip()
        return holds(text), advice(name, text)

    return check
