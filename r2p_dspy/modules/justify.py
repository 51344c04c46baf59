"""Justification: the right answer is known, and the model is to reason towards it."""

from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from typing import Any, cast

import dspy

from r2p_dspy.checks import Answer, Assert, Check, preferences_of
from r2p_dspy.outcome import Inputs, Outcome, unshadowed
from r2p_dspy.profile import Profile
from r2p_dspy.values.typed import as_text
from r2p_dspy.values.words import words

_RUN = 4  # words of an answer in a row that tell it
_REQUEST = (
    "The right answer is known: {}\n"
    "Reason towards it, as somebody would who does not know it yet: say what is asked without it, cite the items that "
    "lead to it, and write it as it stands above."
)


def justifying(answers: Mapping[str, Any]) -> AbstractContextManager[None]:
    """Within it R2P modules reason towards known answers.

    A model that cannot answer can often say why an answer is right. What it writes is taught as if it had found the
    answer by itself: the request stands in the prompt alone, never in a trace, a demo or a prediction's inputs. An
    engine that can be constrained writes the answers word for word, and costs no call of the model for them. The stages
    before the answer must not tell it: the checks of `untold` hold that.

    Args:
        answers: the value of each output that is known, by name.

    Source: STaR's rationalization (arXiv 2203.14465, section 3.2); for personalization REST-PG (arXiv 2501.04167).

    Examples:
        >>> with justifying({"tag": "comedy"}):
        ...     known_answers()
        {'tag': 'comedy'}
    """
    return cast(AbstractContextManager[None], dspy.context(r2p_known=dict(answers)))


def known_answers() -> dict[str, Any]:
    """The answers that modules are to reason towards now; empty outside of `justifying`."""
    return dict(getattr(dspy.settings, "r2p_known", None) or {})


def request(answers: Mapping[str, Any]) -> str:
    """What the prompt says of known answers; empty where there are none."""
    if not answers:
        return ""
    texts = {name: as_text(value) for name, value in answers.items()}
    lines = texts.values() if len(texts) == 1 else (f"{name}: {text}" for name, text in texts.items())
    return _REQUEST.format("\n".join(lines))


def untold(answers: Mapping[str, Any], stages: Collection[str]) -> list[Check]:
    """The checks that the reasoning gives no known answer away before the evidence leads to it.

    What may not stand in the requirements, unless the inputs hold it: four words in a row of an answer, or all of a
    shorter one. In preferences only four words, since a shorter answer may be the label that they are about.

    Args:
        answers: the known answers.
        stages: the names of the template's stages.
    """
    texts = [as_text(value) for value in answers.values()]
    long = [text for text in texts if len(words(text)) >= _RUN]

    def requirements(inputs: Inputs, outcome: Outcome) -> Answer:
        return _keeps(inputs, [as_text(unshadowed(outcome).stages.get("requirements") or "")], texts)

    def preferences(inputs: Inputs, outcome: Outcome) -> Answer:
        return _keeps(inputs, [preference.statement for preference in preferences_of(outcome)], long)

    checks = {"requirements": requirements, "preferences": preferences}
    return [Assert(check, name=f"untold_{stage}", after=stage) for stage, check in checks.items() if stage in stages]


def _keeps(inputs: Inputs, written: Collection[str], answers: Collection[str]) -> Answer:
    seen = unshadowed(inputs)
    fields = (value for value in seen.fields.values() if not isinstance(value, Profile))
    given = "\n".join([*map(as_text, fields), *(item.text for item in seen.items)])
    told = any(tells(text, answer, given) for text in written for answer in answers)
    return not told, "This gives the answer away before the evidence leads to it; say it without the answer."


def tells(text: str, answer: str, given: str = "") -> bool:
    """Whether a text tells an answer that what was given does not tell.

    Examples:
        >>> tells("It asks for a comedy.", "comedy"), tells("It asks for a tag.", "comedy")
        (True, False)
        >>> tells("Fix the parser of dates at once", "fix the parser of dates", given="The parser of dates fails.")
        True
    """
    run = min(_RUN, len(words(answer)))
    if not run:
        return False
    return bool((_runs(answer, run) & _runs(text, run)) - _runs(given, run))


def _runs(text: str, length: int) -> set[tuple[str, ...]]:
    found = words(text)
    return {tuple(found[start : start + length]) for start in range(len(found) - length + 1)}
