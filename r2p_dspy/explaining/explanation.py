"""What there is to tell of an answer, in the order in which a person asks for it; `as_text` and `as_html` tell it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from r2p_dspy.checks import evidence_of, preferences_of
from r2p_dspy.explaining.attempts import Attempt, Candidate
from r2p_dspy.outcome import Inputs, Outcome, unshadowed
from r2p_dspy.profile import Item, Profile
from r2p_dspy.prompting.parsing import own_items
from r2p_dspy.values.folding import find_quote
from r2p_dspy.values.media import without_media
from r2p_dspy.values.typed import as_text

_ARGUMENTS = ("config", "lm", "demos", "signature", "new_signature")  # of a call of DSPy's, no inputs of the signature
_NUMBER = re.compile(r"\d+")

Span = tuple[int, int]  # of characters of a text: the first, and the one behind the last


@dataclass(frozen=True)
class CitedItem:
    """An item that an answer cites.

    Args:
        id: its own id; as the model wrote it, where there is no such item.
        item: the user's own item; None where the model invented it.
        marks: where the quotes stand, by the names of its text fields; a field without a quote is left out.
        missing: the quotes that do not stand in it.
    """

    id: str
    item: Item | None
    marks: Mapping[str, Sequence[Span]]
    missing: Sequence[str] = ()


@dataclass(frozen=True)
class StatedPreference:
    """What the user prefers, with the own ids of the items that show it."""

    statement: str
    items: Sequence[str]
    label: str | None


@dataclass(frozen=True)
class Correction:
    """What the model was told to change.

    Args:
        attempt: the number of the attempt, from 1.
        stage: the stage that was being written; "" for a correction after the attempt.
        message: what was wrong. It names items as the prompt does.
    """

    attempt: int
    stage: str
    message: str

    @property
    def when(self) -> str:
        """When it came, in words."""
        return f"attempt {self.attempt}, {f'writing {self.stage}' if self.stage else 'at its end'}"


@dataclass(frozen=True)
class Explanation:
    """An answer and how it came about.

    Args:
        question: the inputs apart from the history, as texts by name.
        answers: the outputs, as texts by name.
        cited: the cited items, in the order of their first citation.
        preferences: what the user was found to prefer.
        corrections: what was corrected, and when, in order.
        item_numbers: the items that corrections name by their numbers in the prompt: number to own id.
        candidates: what was reconciled.
        decision: why the chosen candidate won.
        unmet: what the answer still fails, in words.
        warnings: what a reader must know.
    """

    question: Mapping[str, str]
    answers: Mapping[str, str]
    cited: Sequence[CitedItem]
    preferences: Sequence[StatedPreference]
    corrections: Sequence[Correction]
    item_numbers: Mapping[str, str]
    candidates: Sequence[Candidate]
    decision: str
    unmet: Sequence[str]
    warnings: Sequence[str]

    @classmethod
    def of(
        cls,
        answers: Mapping[str, Any],
        inputs: Inputs,
        outcome: Outcome,
        *,
        attempts: Sequence[Attempt] = (),
        candidates: Sequence[Candidate] = (),
        decision: str = "",
        warnings: Sequence[str] = (),
    ) -> Explanation:
        """What there is to tell of a call; the arguments are those of `Details`."""
        numbers = {item.id: item.ref or item.id for item in unshadowed(inputs).items}
        corrections = [*_corrections(attempts)]
        named = {number for correction in corrections for number in _NUMBER.findall(correction.message)}
        last = next((attempt for attempt in attempts if attempt.accepted), None)
        return cls(
            question={name: in_words(value) for name, value in question_of(inputs).items()},
            answers={name: in_words(value) for name, value in answers.items()},
            cited=cited_items(inputs, outcome),
            preferences=[
                StatedPreference(each.statement, [numbers.get(item, item) for item in each.items], each.label)
                for each in preferences_of(outcome)
            ],
            corrections=corrections,
            item_numbers={number: own for number, own in numbers.items() if number in named and number != own},
            candidates=candidates,
            decision=decision,
            unmet=[verdict.message or verdict.check for verdict in last.unmet] if last is not None else [],
            warnings=warnings,
        )


def question_of(inputs: Inputs) -> dict[str, Any]:
    """A call's inputs by name, without the history and without what is not given."""
    fields = unshadowed(inputs).fields
    return {
        name: value
        for name, value in fields.items()
        if value is not None and not isinstance(value, Profile) and name not in _ARGUMENTS
    }


def cited_items(inputs: Inputs, outcome: Outcome) -> list[CitedItem]:
    """The items that an outcome cites, each once, with the places of its quotes."""
    shown, own = unshadowed(inputs).items, own_items(inputs)
    quotes: dict[str, list[str]] = {}
    for evidence in evidence_of(outcome):
        quotes.setdefault(evidence.item, []).append(evidence.quote)
    cited = []
    for local_id, texts in quotes.items():
        as_shown = shown.get(local_id)
        if as_shown is None:
            cited.append(CitedItem(local_id, None, {}, texts))
            continue
        item = own.get(local_id, as_shown)
        marks, missing = marked(item, texts)
        cited.append(CitedItem(as_shown.ref or item.id, item, marks, missing))
    return cited


def marked(item: Item, quotes: Sequence[str]) -> tuple[dict[str, list[Span]], list[str]]:
    """Where quotes stand in an item's text fields, in order and without overlap; and those that do not stand there.

    Examples:
        >>> marked(Item(id="7", title="The sea", text="It rained, and rained."), ["sea It rained", "snow"])
        ({'title': [(4, 7)], 'text': [(0, 9)]}, ['snow'])
    """
    text, spans, missing = item.text, list[Span](), list[str]()
    for quote in quotes:
        own = find_quote(quote, text)
        start = -1 if own is None else text.find(own)
        if own is None or start < 0:
            missing.append(quote)
        else:
            spans.append((start, start + len(own)))
    marks: dict[str, list[Span]] = {}
    begin = 0
    for name, value in item.fields.items():
        end = begin + len(value)
        inside = [(max(start, begin) - begin, min(stop, end) - begin) for start, stop in _merged(spans)]
        if inside := [span for span in inside if span[0] < span[1]]:
            marks[name] = inside
        begin = end + 1  # the space between two fields
    return marks, missing


def in_words(value: Any) -> str:
    """A value as a person reads it: a text as it is, anything else as JSON, without media."""
    try:
        return without_media(as_text(value))
    except (ValueError, RecursionError):  # what has no JSON, such as a structure that holds itself
        return str(value)


def pieces(text: str, spans: Sequence[Span]) -> Iterator[tuple[str, bool]]:
    """A text in pieces, each with whether it is marked. None is empty.

    Examples:
        >>> list(pieces("a lighthouse", [(2, 7)]))
        [('a ', False), ('light', True), ('house', False)]
    """
    place = 0
    for start, end in spans:
        if text[place:start]:
            yield text[place:start], False
        yield text[start:end], True
        place = end
    if text[place:]:
        yield text[place:], False


def _merged(spans: Sequence[Span]) -> list[Span]:
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _corrections(attempts: Sequence[Attempt]) -> Iterator[Correction]:
    number = 1
    for attempt in attempts:
        if attempt.interventions:  # the attempt as it would have been without them; the next one has been corrected
            yield from (Correction(number, each.stage, each.message) for each in attempt.interventions)
            continue
        if not attempt.accepted:
            if attempt.unreadable is not None:
                yield Correction(number, "", f"it cannot be read: {attempt.unreadable.explain()}")
            else:
                messages = dict.fromkeys(verdict.message for verdict in attempt.unmet if verdict.message)
                yield from (Correction(number, "", message) for message in messages)
        number += 1
