"""Making the constraint of a call: from the predictor's outputs, the template, the adapter and the items."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, Literal

import dspy
from dspy.adapters import Adapter

from r2p_dspy.decoding.grammar import frames
from r2p_dspy.decoding.grammar.answer import AnswerGrammar, Slot
from r2p_dspy.decoding.grammar.citing import LabelRule, Shown
from r2p_dspy.decoding.grammar.frames import Frame
from r2p_dspy.decoding.grammar.lark import Rules
from r2p_dspy.decoding.grammar.limits import LIMITS, Limits
from r2p_dspy.decoding.grammar.notation import FORMAT_MARKS, PROMPT_MARKS, Json, Notation, Xml
from r2p_dspy.decoding.grammar.quotes import beginnings
from r2p_dspy.decoding.grammar.types import Types, is_nested
from r2p_dspy.profile import Item
from r2p_dspy.prompting.shapes import writes_markers
from r2p_dspy.template import Evidence, Preference, Template
from r2p_dspy.values.typed import labels_of

_CHARACTERS_PER_TOKEN = 4  # of English, about
_MOST_QUOTABLE = 20_000  # characters of an item, from its beginning
_MOST_TOGETHER = 80_000  # of all items; llguidance refuses grammars of some hundred thousand
_MOST_ITEMS = 100  # that can be cited, for the same reason


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
    tokens: int | None = None,
    known: Mapping[str, Any] = MappingProxyType({}),
    limits: Limits = LIMITS,
    quotable: Collection[str] = (),
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
        tokens: that a call may write; the limits are lowered so that an answer comes to its end within them.
        known: answers that are to be written as they are, by output; the draft then is the first of them.
        limits: how much an answer may have of each part.
        quotable: the fields of items that are quoted, whole where they are short; () for pieces of all. An item without
            any of them is quoted from all.

    Returns:
        The constraint; None for an adapter whose format is not known.

    Examples:
        >>> signature = dspy.Signature("film -> tag: bool")
        >>> constraint = constraint_for(signature.output_fields, [], dspy.ChatAdapter(), answers=["tag"])
        >>> print(constraint.grammar("").source)
        %llguidance {}
        start: "[[ ## tag ## ]]\\n" ("True" | "False") "\\n\\n[[ ## completed ## ]]"
    """
    notation = _notation(adapter)
    if notation is None:
        return None
    kinds = {name: _known_type(info.annotation, known.get(name)) for name, info in outputs.items()}
    labels = labels_of(kinds[answers[0]]) if len(answers) == 1 else ()
    names = [name for name in outputs if not thinks or name in answers]
    if tokens is not None:
        parts = [leaf.type for leaf in template.leaves()] if template is not None else []
        texts = [name for name in answers if kinds[name] is str]
        limits = limits.within(tokens, parts, answers=len(texts))
    frame = _frame(notation, names, [kinds[name] for name in names])
    shown, shortened = _shown(items, quotable)
    begun = {text.lstrip()[:1] for item in shown for text in item.texts}  # as the user begins
    barred = "".join(mark for mark in FORMAT_MARKS if mark not in begun) if shown else PROMPT_MARKS
    stage_of = partial(_stage, limits=limits, labels=labels, barred=barred)
    slots: list[Slot] = []
    if thinks and template is not None:
        frame = frames.thinking(template, frame)
        in_tags = Json(tags=True)
        slots = [stage_of(each.name, each.name, each.type, in_tags) for each in template.leaves()]
    of_field = {field: stage for stage, field in (stages or {}).items()}
    for name in names:
        info = outputs[name]
        if name in of_field:
            slots.append(stage_of(name, of_field[name], info.annotation, notation))
        else:
            size = limits.answer_tokens * _CHARACTERS_PER_TOKEN
            metadata = tuple(info.metadata) if kinds[name] is info.annotation else ()
            slots.append(Slot(name, kinds[name], metadata, notation, size, barred=barred))
    unconstrained = tuple(slot.name for slot in slots if not _holds(slot))
    return AnswerGrammar(tuple(slots), frame, shown, label_rule, limits, opened, unconstrained, shortened)


def _known_type(annotation: Any, value: Any) -> Any:
    """The type of an output whose value is known: that value alone, where a type can say so."""
    return Literal[value] if isinstance(value, str | int) and value != "" else annotation


def _notation(adapter: Adapter) -> Notation | None:
    if isinstance(adapter, dspy.XMLAdapter):
        return Xml()
    if isinstance(adapter, dspy.JSONAdapter):
        return Json(lines=False, indent=True)
    return Json() if writes_markers(adapter) else None


def _frame(notation: Notation, names: Sequence[str], kinds: Sequence[Any]) -> Frame:
    if isinstance(notation, Xml):
        return frames.xml(names, [is_nested(kind) for kind in kinds])
    return frames.chat(names) if notation.lines else frames.json(names)


def _stage(
    name: str, stage: str, kind: Any, notation: Notation, *, limits: Limits, labels: tuple[str, ...], barred: str
) -> Slot:
    size = (limits.stage_tokens if kind is str else limits.statement_tokens) * _CHARACTERS_PER_TOKEN
    if stage == "draft":
        return Slot(name, kind, (), notation, size, labels if kind is str else (), barred)
    return Slot(name, kind, (), notation, size, barred=FORMAT_MARKS)


def _shown(items: Sequence[Item], quotable: Collection[str]) -> tuple[tuple[Shown, ...], tuple[str, ...]]:
    """The items as far as they can be quoted, and the ids of those that were shortened for it."""
    share = min(_MOST_QUOTABLE, _MOST_TOGETHER // max(1, min(len(items), _MOST_ITEMS)))
    chosen = {item.id: tuple(item.fields[name] for name in quotable if item.fields.get(name)) for item in items}
    texts = {item.id: chosen[item.id] or tuple(item.fields.values()) for item in items}
    shown = tuple(
        Shown(item.id, beginnings(texts[item.id], share), item.label, bool(chosen[item.id]))
        for item in items[:_MOST_ITEMS]
    )
    whole = {item.id for item in shown if item.texts == texts[item.id]}
    return shown, tuple(item.id for item in items if item.id not in whole)


def _holds(slot: Slot) -> bool:
    """Whether the grammar holds all that a value's type asks for."""
    if slot.annotation in (list[Evidence], list[Preference]):
        return True
    types = Types(Rules(), slot.notation, slot.characters)
    types.value(slot.annotation, slot.metadata)
    return types.complete
