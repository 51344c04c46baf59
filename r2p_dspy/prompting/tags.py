"""The template in running text: every stage between tags of its name, nested as the template nests.

This is how stages travel inside a model's native thinking. Tags are ordinary text, never special tokens.
"""

import json
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from dspy.adapters.utils import serialize_for_json
from pydantic import BaseModel

from r2p_dspy.template import Stage, Template

_FENCED = re.compile(r"```\w*\n(.*?)\n?```", re.DOTALL)


@dataclass(frozen=True)
class Section:
    """A stretch of text that belongs to one stage."""

    name: str
    start: int  # where its opening tag begins
    text: str  # between the tags, without a code fence around it
    end: int  # where its closing tag ends, or where the stage was cut off
    closed: bool  # whether its own closing tag is there


def read(template: Template, text: str) -> dict[str, str]:
    """Read the text of each stage from a model's thinking or its whole completion, in the order in which they stand.

    The thinking may stand between `<think>` tags, of which the first, both or none are there. Tags may be dressed in
    markdown. Text outside the stages is ignored. Of a stage that stands more than once the last text counts, as it
    corrects the others.
    """
    stages: dict[str, str] = {}
    for section in sections(template, thought(template, text)):
        if section.text or section.name not in stages:
            stages.pop(section.name, None)
            stages[section.name] = section.text
    return {name: text for name, text in stages.items() if text}


def sections(template: Template, text: str) -> Iterator[Section]:
    """The stretches of a text that belong to stages, in order; the last may be cut off."""
    leaves = {stage.name for stage in template.leaves()}
    inside: tuple[str, int, int] | None = None  # the open stage: its name, and where its opening begins and ends
    for tag in _tags(template).finditer(text):
        name, closes, empty = tag["name"].lower(), bool(tag["closes"]), bool(tag["empty"])
        if inside is not None:
            own = closes and name == inside[0]
            yield Section(
                inside[0], inside[1], _plain(text[inside[2] : tag.start()]), tag.end() if own else tag.start(), own
            )
            inside = None
        if name in leaves and not closes:
            if empty:
                yield Section(name, tag.start(), "", tag.end(), True)
            else:
                inside = (name, tag.start(), tag.end())
    if inside is not None:
        yield Section(inside[0], inside[1], _plain(text[inside[2] :]), len(text), False)


def thought(template: Template, text: str) -> str:
    """The part of a completion that is the thinking; the whole completion where that part has no stage."""
    before, _, _ = text.partition("</think>")
    inner = before.partition("<think>")[2] if "<think>" in before else before
    return inner if _tags(template).search(inner) else text


def render(template: Template, stages: Mapping[str, Any]) -> str:
    """Stages as a model is to write them; values other than text as JSON."""
    return _nested(template.stages, lambda stage: _written(stages[stage.name]))


def skeleton(template: Template) -> str:
    """The template as instructions: each stage's instruction between its tags, with the JSON shape of typed stages."""
    return _nested(
        template.stages,
        lambda stage: stage.instruction if stage.type is str else f"{stage.instruction} As JSON: {shape(stage.type)}",
    )


def guide(template: Template) -> str:
    """The prompt's instruction to follow a template while thinking."""
    return f"Think in these steps, in this order, each between its tags:\n{skeleton(template)}"


def opening(template: Template, name: str, text: str = "") -> str:
    """The tags that open a stage after a text: of the groups to close and to open, and its own."""
    path = next((*path, name) for stage, path in template.walk() if stage.name == name)
    within = _within(template, text)
    shared = 0
    while shared < len(within) and within[shared] == path[shared]:
        shared += 1
    return _closings(within[shared:]) + "".join(f"<{group}>\n" for group in path[shared:])


def closing(template: Template, text: str) -> str:
    """The closing tags of the groups that are open at the end of a text."""
    return _closings(_within(template, text))


def _within(template: Template, text: str) -> list[str]:
    """The groups that are open at the end of a text, outer ones first."""
    groups = {stage.name for stage, _ in template.walk() if stage.stages}
    within: list[str] = []
    for tag in _tags(template).finditer(text):
        name = tag["name"].lower()
        if name in groups and not tag["empty"]:
            if not tag["closes"]:
                within.append(name)
            elif name in within:
                del within[within.index(name) :]
    return within


def _closings(groups: list[str]) -> str:
    return "".join(f"</{group}>\n" for group in reversed(groups))


def shape(annotation: Any) -> str:
    """The JSON shape of a type, in short, such as `[{"item": "text", "quote": "text"}]`."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is list:
        return f"[{shape(arguments[0])}]"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(shape, arguments))
    if origin is Literal:
        return " or ".join(map(json.dumps, arguments))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = annotation.model_fields.items()
        return "{" + ", ".join(f'"{name}": {shape(info.annotation)}' for name, info in fields) + "}"
    names = {str: '"text"', bool: "true or false", int: "number", float: "number", type(None): "null"}
    return names.get(annotation, "value")


@cache
def _tags(template: Template) -> re.Pattern[str]:
    names = "|".join(re.escape(stage.name) for stage, _ in template.walk())
    dressed = r"(?:^[ \t]*#{1,6}[ \t]+)?(?P<dress>\*\*|__|`)?"
    # No space after the `<`: that is how `neutralize` breaks the tags of strangers, which a model may repeat.
    tag = rf"<(?P<closes>/)?(?P<name>{names})[ \t]*(?P<empty>/)?>"
    return re.compile(rf"{dressed}{tag}(?(dress)(?P=dress))?", re.IGNORECASE | re.MULTILINE)


def _nested(stages: tuple[Stage, ...], text: Callable[[Stage], str]) -> str:
    return "\n".join(
        f"<{stage.name}>\n{_nested(stage.stages, text) if stage.stages else text(stage)}\n</{stage.name}>"
        for stage in stages
    )


def _written(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(serialize_for_json(value), ensure_ascii=False)


def _plain(text: str) -> str:
    text = text.strip()
    fenced = _FENCED.fullmatch(text)
    return fenced[1].strip() if fenced else text
