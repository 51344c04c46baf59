"""The form of one call's answers: a constraint from the template, the signature and the items that the prompt shows."""

from __future__ import annotations

import html
import json
import re
from dataclasses import dataclass, field
from typing import Any

from r2p_dspy.decoding.constraining import Grammar
from r2p_dspy.decoding.grammar.citing import LabelRule, Shown, citable, evidence, preferences
from r2p_dspy.decoding.grammar.frames import CLOSE, OPEN, Frame
from r2p_dspy.decoding.grammar.lark import Rules, either, literal
from r2p_dspy.decoding.grammar.limits import LIMITS, Limits
from r2p_dspy.decoding.grammar.notation import Notation
from r2p_dspy.decoding.grammar.schema import answer_schema
from r2p_dspy.decoding.grammar.types import Types
from r2p_dspy.template import Evidence, Preference

_ANYTHING = "%llguidance {}\nstart: /(?s:.*)/"
# Where an evidence names its item, in JSON and in XML; a quote holds these with escapes only.
_CITED = re.compile(r'"item":\s*("(?:[^"\\]|\\.)*"|\d+)|<item>([^<]*)</item>')


@dataclass(frozen=True)
class Slot:
    """A value of an answer: a stage of the template, or an output.

    Args:
        name: of the stage or the output.
        annotation: its type.
        metadata: what bounds it, as pydantic has it.
        notation: how it is written.
        characters: the most that a text in it may have.
        labels: the only texts that it may be; () for all.
        barred: characters with which a text does not begin.
    """

    name: str
    annotation: Any
    metadata: tuple[Any, ...]
    notation: Notation
    characters: int
    labels: tuple[str, ...] = ()
    barred: str = ""


@dataclass(frozen=True, eq=False)
class AnswerGrammar:
    """A constraint on the answers of one call (see `Constraint`); `constraint_for` makes one.

    Args:
        slots: the values of an answer, in order.
        frame: what stands around them.
        items: the items that the prompt shows.
        label_rule: which labels a preference may have, see `preferences`.
        limits: how much an answer may have of each part.
        opened: whether the prompt opens a thought; None where this is not known. A text of `<think>` says so too.
        unconstrained: the names of the values whose types ask for more than the grammar holds.
        shortened: the ids of long items of which only the beginning can be quoted, and of items beyond the hundredth,
            which cannot be cited.
    """

    slots: tuple[Slot, ...]
    frame: Frame
    items: tuple[Shown, ...]
    label_rule: LabelRule = "cited"
    limits: Limits = LIMITS
    opened: bool | None = None
    unconstrained: tuple[str, ...] = ()
    shortened: tuple[str, ...] = ()
    _grammars: dict[Any, Grammar] = field(default_factory=dict, repr=False)

    def grammar(self, text: str, /, *, whole: bool = False) -> Grammar:
        """What may follow an answer's text so far; any text, where that is not in the format."""
        place = self._place(text)
        if place is None:
            return Grammar(_ANYTHING)
        slot, left = place
        cited, beginning = self._cited(text, slot), text if left is None else ""
        key = (slot, left, beginning, cited, whole)
        if key not in self._grammars:
            self._grammars[key] = self._following(slot, left, beginning, cited, whole)
        return self._grammars[key]

    def schema(self) -> dict[str, Any] | None:
        """The JSON Schema of the answer; None where the answer is no JSON."""
        if any(slot.notation.lines for slot in self.slots):
            return None
        fields = {slot.name: (slot.annotation, slot.metadata, slot.labels) for slot in self.slots}
        return answer_schema(fields, citable(self.items, self.slots[0].notation, self.limits.words))

    def _place(self, text: str) -> tuple[int, str | None] | None:
        """The value that comes next, and what is to be written before it; None for that where the answer begins."""
        if text.strip() in ("", OPEN):
            return 0, None
        answer = self._first_answer() if CLOSE in text else 0
        for slot, joint in enumerate(self.frame.joints[answer:], start=answer):
            if (left := joint.left(text)) is not None:
                return slot, left
        return None

    def _opening(self, rules: Rules, text: str) -> str:
        """The beginning of the answer, after white space, or after the opening of a thought."""
        first = self.frame.joints[0].text
        opened = self.opened if OPEN not in text else True
        if not first.startswith(OPEN):
            if not opened:
                return literal(first)
            rules.define("thought[lazy]", rf"/(?s:.*)<\/{CLOSE[2:]}/")  # the model's own, without stages
            return f"thought {literal(chr(10) * 2 + first)}"
        rest = literal(first.removeprefix(f"{OPEN}\n"))
        line, tag = ("" if text.endswith("\n") else literal("\n")), literal(f"{OPEN}\n")
        if text and opened:
            return f"{line} {rest}".strip()
        begins = {True: either(line, ""), False: tag, None: either(tag, line, "")}
        return f"{begins[opened]} {rest}".strip()

    def _first_answer(self) -> int:
        """The place of the first value after a thought; 0 where there is no thought."""
        return next((slot for slot, joint in enumerate(self.frame.joints) if CLOSE in joint.marks), 0)

    def _cited(self, text: str, slot: int) -> tuple[str, ...] | None:
        """The ids that the evidence in a text cites; None where it has no evidence, or one that cannot be read."""
        places = [at for at in range(slot) if self.slots[at].annotation == list[Evidence]]
        values = [self._written(text, at) for at in places]
        known = {item.id for item in self.items}
        ids = dict.fromkeys(_id_of(*match) for value in values for match in _CITED.findall(value or ""))
        cited = tuple(each for each in ids if each in known)
        unread = None in values or (not cited and any("quote" in (value or "") for value in values))
        return None if unread or not places else cited

    def _written(self, text: str, slot: int) -> str | None:
        """What a text has as a value, up to the mark of the next one; the last counts, which corrects the others."""
        _, mark, value = text.rpartition(self.frame.joints[slot].marks[0])
        return value.partition(self.frame.joints[slot + 1].marks[0])[0] if mark else None

    def _following(self, slot: int, left: str | None, text: str, cited: tuple[str, ...] | None, whole: bool) -> Grammar:
        stop = len(self.slots) if whole else self._pause(slot)
        rules = Rules()
        parts = [self._opening(rules, text) if left is None else literal(left)]
        for at in range(slot, stop):
            parts.append(self._value(rules, at, cited))
            end = self.frame.joints[at + 1].text if at + 1 < len(self.slots) else self.frame.end
            parts.append(literal(end))
        return Grammar(rules.source(" ".join(filter(None, parts))), final=stop == len(self.slots))

    def _pause(self, slot: int) -> int:
        """The value before which to ask again, since preferences rest on the evidence that is written by then."""
        kinds = [each.annotation for each in self.slots]
        for at in range(slot, len(kinds)):
            if kinds[at] == list[Evidence] and list[Preference] in kinds[at:]:
                return at + 1
        return len(kinds)

    def _value(self, rules: Rules, at: int, cited: tuple[str, ...] | None) -> str:
        slot, limits = self.slots[at], self.limits
        level = 0 if slot.notation.lines else 1
        if slot.annotation in (list[Evidence], list[Preference]):
            items = citable(self.items, slot.notation, limits.words)
            if slot.annotation == list[Evidence]:
                return evidence(rules, slot.notation, items, limits.words, min(limits.citations, len(items)), level)
            if cited is not None:
                items = [item for item in self.items if item.id in cited]
            return preferences(rules, slot.notation, items, self.label_rule, slot.characters, limits.preferences, level)
        if slot.labels:
            return either(*map(slot.notation.bare, slot.labels))
        types = Types(rules, slot.notation, slot.characters, slot.barred)
        return types.value(slot.annotation, slot.metadata, level)


def _id_of(quoted: str, element: str) -> str:
    """An item's id as JSON or XML has it."""
    written = html.unescape(element).strip()
    if quoted:
        try:
            written = str(json.loads(quoted, strict=False))
        except ValueError:
            written = quoted
    return Evidence(item=written, quote="").item
