"""A user's task file in YAML: its keys, and what is wrong in which line."""

from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import dspy
import yaml
from pydantic import BaseModel, Field, StringConstraints, ValidationError

from programs.tasks.answer_checks import READY, Rules
from programs.tasks.task import Task, TaskError, check_name, check_once, unknown
from r2p_dspy.checks import Assert, Check, Suggest
from r2p_dspy.profile import Profile

_HELP = "docs/your-task.md shows one"
_OF_TEXTS = 0.2  # the task score of a text that is good enough for a demo: no text is the gold itself
_FORCES = {"assert": Assert, "suggest": Suggest}


class History(BaseModel, extra="forbid"):
    """What an item of the profile has."""

    fields: list[str]
    label: str | None = None
    desc: str = ""


class TaskFile(BaseModel, extra="forbid"):
    """The keys of a task file."""

    task: str
    instructions: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
    inputs: Annotated[dict[str, str], Field(min_length=1)]
    answer: Annotated[dict[str, str], Field(min_length=1, max_length=1)]
    profile: History
    metrics: list[str]
    labels: list[str] = []
    query: str | None = None
    checks: dict[Literal["assert", "suggest"], Rules] = {}

    def made(self) -> Task:
        """The task.

        Raises:
            TaskError: see `Task`; what it says of a field's name leads through the file's keys.
        """
        (answer,) = self.answer
        for key, names in (("inputs", self.inputs), ("answer", self.answer)):
            for name in names:
                check_name(name, key, name)
        check_once("field", ("profile", *self.inputs, answer), "inputs")
        fields: dict[str, Any] = {name: (str, dspy.InputField(**_desc(desc))) for name, desc in self.inputs.items()}
        fields["profile"] = (Profile, dspy.InputField(**_desc(self.profile.desc)))
        kind: Any = Literal[tuple(self.labels)] if self.labels else str  # type: ignore[misc]
        fields[answer] = (kind, dspy.OutputField(**_desc(self.answer[answer])))
        return Task(
            name=self.task,
            signature=dspy.make_signature(fields, self.instructions),
            question=self.query or next(iter(self.inputs)),
            answer=answer,
            fields=tuple(self.profile.fields),
            label=self.profile.label,
            labels=tuple(self.labels),
            metrics=tuple(self.metrics),
            threshold=1.0 if self.labels else _OF_TEXTS,
            checks=self._checks(),
        )

    def _checks(self) -> tuple[Check, ...]:
        made = {force: rules.functions() for force, rules in self.checks.items()}
        for name in made.get("suggest", {}):
            if name in made.get("assert", {}):
                raise TaskError(f"{name} is an assert already; keep one of the two", "checks", "suggest", name)
        return tuple(_FORCES[force](check, name=name) for force in made for name, check in made[force].items())


class _Loader(yaml.BaseLoader):
    """YAML in which every scalar is a text (`no` and `1` may be labels), and no key stands twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key.value!r} stands twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def from_yaml(path: Path, text: str) -> Task:
    """The task that a file's text says.

    Args:
        path: of the file, for what is said of it.
        text: what it holds; nothing of it is run.

    Raises:
        TaskError: in one line, with the file's line, and the nearest key, metric, check or input to an unknown one.
    """

    def fail(message: str, *where: str | int, line: int | None = None) -> NoReturn:
        at = line or _line(node, where)
        raise TaskError(f"{path}: line {at}: {' '.join(message.split())}") from None

    node: Any = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        data = None if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        fail(f"{error.problem or error.context}; {_HELP}", line=mark.line + 1 if mark else 1)
    except (yaml.YAMLError, RecursionError) as error:
        raise TaskError(f"{path}: it is no YAML ({' '.join(str(error).split())[:120]}); {_HELP}") from None
    if not isinstance(data, dict):
        what = f"a task file is keys with values, not {_show(data)}" if node else "it is empty"
        fail(f"{what}; {_HELP}", line=1)
    try:
        return TaskFile.model_validate(data).made()
    except TaskError as error:
        fail(str(error), *_place(error.where))
    except ValidationError as error:
        # An unknown key first: what is missing may be what it was meant to be.
        fault = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
        fail(_said(fault["type"], fault["msg"], fault["input"], [*map(str, fault["loc"])]), *fault["loc"])


def _place(where: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """Where an argument of `Task` stands in the file."""
    places = {"name": ("task",), "question": ("query",), "fields": ("profile", "fields"), "label": ("profile", "label")}
    return (*places.get(str(where[0]), where[:1]), *where[1:])


def _line(node: Any, where: tuple[str | int, ...]) -> int:
    """The line of what a way through keys and numbers leads to, or of the last that there is on the way."""
    line = node.start_mark.line
    for part in where:
        if isinstance(node, yaml.MappingNode):
            found = [(key.start_mark.line, value) for key, value in node.value if key.value == part]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            found = [(value.start_mark.line, value) for value in node.value[part : part + 1]]
        else:
            found = []
        if not found:
            break
        line, node = found[0]
    return int(line) + 1


_WANTED = {
    "string_type": "a text",
    "string_too_short": "a text",
    "list_type": "a list such as [a, b]",
    "dict_type": "keys with values",
    "model_type": "keys with values",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "greater_than": "at least 1",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "too_short": "one name and what it is",
    "too_long": "one name and what it is",
}


def _said(fault: str, message: str, value: Any, where: list[str]) -> str:
    """A fault that pydantic found, in words."""
    *above, key = where
    if fault == "missing":
        return f"{key} is missing{f' in {above[-1]}' if above else ''}; {_HELP}"
    if fault == "literal_error":
        return unknown("key", value, tuple(_FORCES))
    if fault == "extra_forbidden":
        models: dict[str, type[BaseModel]] = {"": TaskFile, "profile": History}
        known = models.get("".join(above))
        return unknown("key", key, tuple(known.model_fields)) if known else unknown("check", key, tuple(READY))
    name = f"entry {int(key) + 1} of {above[-1]}" if key.isdigit() else key
    return f"{name} is {_show(value)}, not {_WANTED.get(fault, message)}"


def _desc(text: str) -> dict[str, str]:
    return {"desc": text} if text else {}


def _show(value: Any) -> str:
    """A value in a few words; one that is no text may be endless, by what it refers to."""
    if not isinstance(value, str):
        return "a list" if isinstance(value, list) else "a mapping"
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:60]}…"
