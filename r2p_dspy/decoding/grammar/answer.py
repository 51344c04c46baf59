"""The form of one call's answers: a constraint from the template, the signature and the items that the prompt shows."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dspy
from dspy.adapters import Adapter

from r2p_dspy.decoding.constraining import Grammar
from r2p_dspy.decoding.grammar import frames
from r2p_dspy.decoding.grammar.citing import LabelRule, Shown, citable, evidence, preferences
from r2p_dspy.decoding.grammar.frames import CLOSE, OPEN, Frame
from r2p_dspy.decoding.grammar.lark import Rules, either, literal
from r2p_dspy.decoding.grammar.notation import Json, Notation, Xml
from r2p_dspy.decoding.grammar.quotes import beginnings
from r2p_dspy.decoding.grammar.schema import answer_schema
from r2p_dspy.decoding.grammar.types import Types, is_nested
from r2p_dspy.profile import Item
from r2p_dspy.prompting.shapes import writes_markers
from r2p_dspy.template import Evidence, Preference, Template
from r2p_dspy.values.typed import labels_of

_CHARACTERS_PER_TOKEN = 4  # of English, about
_MOST_QUOTABLE = 20_000  # characters of an item, from its beginning
_MOST_TOGETHER = 80_000  # of all items; llguidance refuses grammars of some hundred thousand
_MOST_ITEMS = 100  # that can be cited, for the same reason
_ANYTHING = "%llguidance {}\nstart: /(?s:.*)/"
# Where an evidence names its item, in JSON and in XML; a quote holds these with escapes only.
_CITED = re.compile(r'"item":\s*("(?:[^"\\]|\\.)*"|\d+)|<item>([^<]*)</item>')


@dataclass(frozen=True)
class Limits:
    """How much an answer may have of each part; a model that repeats itself comes to its end.

    Args:
        words: the fewest and the most words of a quote, separated by white space.
        citations: the most items that are cited as evidence, each once.
        preferences: the most preferences.
        stage_tokens: the most tokens of a text in a stage, about: four characters count as one.
        answer_tokens: the same for a text in an output.
    """

    words: tuple[int, int] = (1, 20)
    citations: int = 8
    preferences: int = 8
    stage_tokens: int = 300
    answer_tokens: int = 1000


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
    """

    name: str
    annotation: Any
    metadata: tuple[Any, ...]
    notation: Notation
    characters: int
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class AnswerGrammar:
    """A constraint on the answers of one call (see `Constraint`); `constraint_for` makes one.

    Args:
        slots: the values of an answer, in order.
        frame: what stands around them.
        items: the items that the prompt shows.
        label_rule: which labels a preference may have, see `preferences`.
        limits: how much an answer may have of each part.
        opened: whether the prompt opens the thought; None where this is not known, or where there is no thought.
        unconstrained: the names of the values whose types ask for more than the grammar holds.
        shortened: the ids of long items of which only the beginning can be quoted, and of items beyond the hundredth,
            which cannot be cited.
    """

    slots: tuple[Slot, ...]
    frame: Frame
    items: tuple[Shown, ...]
    label_rule: LabelRule = "cited"
    limits: Limits = Limits()
    opened: bool | None = None
    unconstrained: tuple[str, ...] = ()
    shortened: tuple[str, ...] = ()
    _grammars: dict[Any, Grammar] = field(default_factory=dict, repr=False)

    def grammar(self, text: str, /, *, whole: bool = False) -> Grammar:
        """What may follow an answer's text so far; any text, where that is not in the format."""
        place = self._place(text)
        if place is None:
            return Grammar(_ANYTHING)
        slot, lead = place
        cited = self._cited(text, slot)
        key = (slot, lead, cited, whole)
        if key not in self._grammars:
            self._grammars[key] = self._following(slot, lead, cited, whole)
        return self._grammars[key]

    def schema(self) -> dict[str, Any] | None:
        """The JSON Schema of the answer; None where the answer is no JSON."""
        if any(slot.notation.lines for slot in self.slots):
            return None
        fields = {slot.name: (slot.annotation, slot.metadata, slot.labels) for slot in self.slots}
        return answer_schema(fields, citable(self.items, self.slots[0].notation, self.limits.words))

    def _place(self, text: str) -> tuple[int, str] | None:
        """The value that comes next, and what is to be written before it as an expression."""
        if not text.strip() or text.strip() == OPEN:
            return 0, self._opening(text)
        in_answer = CLOSE in text
        for slot, joint in enumerate(self.frame.joints):
            if in_answer and CLOSE not in joint.marks and slot < self._first_answer():
                continue
            if (left := joint.left(text)) is not None:
                return slot, literal(left)
        return None

    def _opening(self, text: str) -> str:
        first = self.frame.joints[0].text
        if not first.startswith(OPEN):
            return literal(first.removeprefix(text) if first.startswith(text) else first)
        rest = first.removeprefix(f"{OPEN}\n")
        if text:
            return literal(rest if text.endswith("\n") else f"\n{rest}")
        begins = {True: either(literal("\n"), ""), False: literal(f"{OPEN}\n"), None: f'("{OPEN}\\n" | "\\n")?'}
        return f"{begins[self.opened]} {literal(rest)}"

    def _first_answer(self) -> int:
        """The place of the first value after a thought; 0 where there is no thought."""
        return next((slot for slot, joint in enumerate(self.frame.joints) if CLOSE in joint.marks), 0)

    def _cited(self, text: str, slot: int) -> tuple[str, ...] | None:
        """The ids that the evidence in a text cites; None where it has none yet, or none can be read."""
        ids: list[str] = []
        for at in (at for at in range(slot) if self.slots[at].annotation == list[Evidence]):
            mark = self.frame.joints[at].marks[0]
            begun = text.rpartition(mark)[2] if mark in text else ""
            value = begun.partition(self.frame.joints[at + 1].marks[0])[0]
            if not begun.strip():
                return None
            for quoted, element in _CITED.findall(value):
                ids.append(_id_of(json.loads(quoted, strict=False)) if quoted else _id_of(element))
        known = {item.id for item in self.items}
        if not any(self.slots[at].annotation == list[Evidence] for at in range(slot)):
            return None
        return tuple(dict.fromkeys(each for each in ids if each in known))

    def _following(self, slot: int, lead: str, cited: tuple[str, ...] | None, whole: bool) -> Grammar:
        stop = len(self.slots) if whole else self._pause(slot)
        rules, parts = Rules(), [lead]
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
            most = limits.preferences
            return preferences(rules, slot.notation, items, self.label_rule, slot.characters, most, level)
        if slot.labels:
            return either(*map(slot.notation.bare, slot.labels))
        return Types(rules, slot.notation, slot.characters).value(slot.annotation, slot.metadata, level)


def constraint_for(
    outputs: Mapping[str, Any],  # pydantic's `FieldInfo`
    items: Sequence[Item],
    adapter: Adapter,
    *,
    template: Template | None = None,
    stages: Mapping[str, str] | None = None,
    answers: Sequence[str] = (),
    thinks: bool = False,
    opened: bool | None = None,
    label_rule: LabelRule = "cited",
    limits: Limits = Limits(),
) -> AnswerGrammar | None:
    """The constraint on the answers of a call.

    Args:
        outputs: the output fields of the predictor's signature, by name, in order.
        items: the items that the prompt shows, as it shows them.
        adapter: the adapter that makes the prompt.
        template: the stages, where there are any.
        stages: the output field of each stage; empty where the stages stand in the thought.
        answers: the names of the user's own outputs.
        thinks: whether the stages stand in the model's thought.
        opened: whether the prompt opens that thought; None where this is not known.
        label_rule: which labels a preference may have: "cited", the one that all its items bear, or "items", any.
        limits: how much an answer may have of each part.

    Returns:
        The constraint; None for an adapter whose format is not known.

    Examples:
        >>> signature = dspy.Signature("film -> tag: bool")
        >>> constraint = constraint_for(signature.output_fields, [], dspy.ChatAdapter(), answers=["tag"])
        >>> print(constraint.grammar("").source)
        %llguidance {}
        start: "[[ ## tag ## ]]\\n" ("True" | "False") "\\n\\n[[ ## completed ## ]]"
    """
    notation: Notation
    if isinstance(adapter, dspy.XMLAdapter):
        notation = Xml()
    elif isinstance(adapter, dspy.JSONAdapter):
        notation = Json(lines=False, indent=True)
    elif writes_markers(adapter):
        notation = Json()
    else:
        return None
    labels = labels_of(outputs[answers[0]].annotation) if len(answers) == 1 else ()
    fields = {field: stage for stage, field in (stages or {}).items()}
    slots: list[Slot] = []
    if thinks and template is not None:
        for stage in template.leaves():
            known = labels if stage.name == "draft" else ()
            slots.append(_stage(stage.name, stage.type, Json(tags=True), limits, known))
    shown = [name for name in outputs if not thinks or name in answers]
    for name in shown:
        info = outputs[name]
        if name in fields:
            slots.append(_stage(name, info.annotation, notation, limits, labels if fields[name] == "draft" else ()))
        else:
            size = limits.answer_tokens * _CHARACTERS_PER_TOKEN
            slots.append(Slot(name, info.annotation, tuple(info.metadata), notation, size))
    frame = _frame(notation, [*shown], [outputs[name].annotation for name in shown])
    if thinks and template is not None:
        frame = frames.thinking(template, frame)
    share = min(_MOST_QUOTABLE, _MOST_TOGETHER // max(1, min(len(items), _MOST_ITEMS)))
    texts = {item.id: tuple(item.fields.values()) for item in items}
    cited = tuple(Shown(item.id, beginnings(texts[item.id], share), item.label) for item in items[:_MOST_ITEMS])
    whole = {item.id for item in cited if item.texts == texts[item.id]}
    shortened = tuple(item.id for item in items if item.id not in whole)
    bounded = tuple(slot.name for slot in slots if not _holds(slot))
    return AnswerGrammar(tuple(slots), frame, cited, label_rule, limits, opened, bounded, shortened)


def _stage(name: str, kind: Any, notation: Notation, limits: Limits, labels: tuple[str, ...]) -> Slot:
    size = limits.stage_tokens * _CHARACTERS_PER_TOKEN
    return Slot(name, kind, (), notation, size, labels if kind is str else ())


def _frame(notation: Notation, names: list[str], kinds: list[Any]) -> Frame:
    if isinstance(notation, Xml):
        return frames.xml(names, [is_nested(kind) for kind in kinds])
    return frames.chat(names) if notation.lines else frames.json(names)


def _holds(slot: Slot) -> bool:
    """Whether the grammar holds all that a value's type asks for."""
    if slot.annotation in (list[Evidence], list[Preference]):
        return True
    types = Types(Rules(), slot.notation, slot.characters)
    types.value(slot.annotation, slot.metadata)
    return types.complete


def _id_of(value: Any) -> str:
    return Evidence(item=value, quote="").item
