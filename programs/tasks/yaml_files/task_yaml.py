"""A user's task file in YAML: its keys, and errors with their line."""

from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import dspy
import yaml
from pydantic import BaseModel, Field, StringConstraints, ValidationError

from programs.tasks import TASKS
from programs.tasks.own_labels import with_labels
from programs.tasks.task import Task, TaskError, check_name, check_unique, unknown
from programs.tasks.yaml_files.answer_checks import READY_CHECKS, CheckArguments
from r2p_dspy.checks import Assert, Check, Suggest
from r2p_dspy.profile import Profile

_HELP = "docs/your-task.md shows one"
_TEXT_THRESHOLD = 0.2  # the task score from which a text may become a demo; few texts equal the gold
_KINDS = {"assert": Assert, "suggest": Suggest}


class History(BaseModel, extra="forbid"):
    """The fields of the profile's items."""

    fields: list[str]
    label: str | None = None
    asked: str = ""
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
    language: str = "any"
    template: str = Task.template
    checks: dict[Literal["assert", "suggest"], CheckArguments] = {}

    def build(self) -> Task:
        """Build the task. For a field's name, the `where` of a TaskError is the path of keys in the file."""
        (answer,) = self.answer
        for key, names in (("inputs", self.inputs), ("answer", self.answer)):
            for name in names:
                check_name(name, key, name)
        check_unique("field", ("profile", *self.inputs, answer), "inputs")
        fields: dict[str, Any] = {name: (str, dspy.InputField(**_desc(desc))) for name, desc in self.inputs.items()}
        fields["profile"] = (Profile, dspy.InputField(**_desc(self.profile.desc)))
        answer_type: Any = Literal[tuple(self.labels)] if self.labels else str  # type: ignore[misc]
        fields[answer] = (answer_type, dspy.OutputField(**_desc(self.answer[answer])))
        return Task(
            name=self.task,
            signature=dspy.make_signature(fields, self.instructions),
            question=self.query or next(iter(self.inputs)),
            answer=answer,
            fields=tuple(self.profile.fields),
            label=self.profile.label,
            asked=self.profile.asked,
            labels=tuple(self.labels),
            metrics=tuple(self.metrics),
            threshold=1.0 if self.labels else _TEXT_THRESHOLD,
            language=self.language,
            template=self.template,
            checks=self._checks(),
        )

    def _checks(self) -> tuple[Check, ...]:
        functions = {kind: arguments.functions() for kind, arguments in self.checks.items()}
        for name in functions.get("suggest", {}):
            if name in functions.get("assert", {}):
                raise TaskError(f"{name} is an assert already; keep one of the two", "checks", "suggest", name)
        return tuple(_KINDS[kind](check, name=name) for kind in functions for name, check in functions[kind].items())


class DerivedTaskFile(BaseModel, extra="forbid"):
    """The keys of a task file that gives another task its own labels."""

    task: str
    base: str
    labels: list[str]
    instructions: str = ""

    def build(self) -> Task:
        """Build the task, see `with_labels`."""
        if self.base not in TASKS:
            raise TaskError(unknown("base", self.base, [task.name for task in TASKS.values() if task.label]), "base")
        return with_labels(TASKS[self.base], self.labels, self.task, " ".join(self.instructions.split()))


class _Loader(yaml.BaseLoader):
    """YAML in which every scalar is a text (`no` and `1` may be labels), and duplicate keys are errors."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"duplicate key {key.value!r}", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def from_yaml(path: Path, text: str) -> Task:
    """Build the task of a YAML file. Nothing in the file is run. A TaskError is one line, with the line in the file."""

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
        raise TaskError(f"{path}: it is not valid YAML ({' '.join(str(error).split())[:120]}); {_HELP}") from None
    if not isinstance(data, dict):
        what = f"a task file is a mapping of keys to values, not {_show(data)}" if node else "it is empty"
        fail(f"{what}; {_HELP}", line=1)
    kind: type[TaskFile] | type[DerivedTaskFile] = DerivedTaskFile if "base" in data else TaskFile
    try:
        return kind.model_validate(data).build()
    except TaskError as error:
        fail(str(error), *_key_path(error.where))
    except ValidationError as error:
        # An unknown key first: it may be a missing key with a typo.
        fault = min(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
        fail(_explain(kind, fault["type"], fault["msg"], fault["input"], [*map(str, fault["loc"])]), *fault["loc"])


def _key_path(where: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """The path of keys in the file for an argument of `Task`."""
    paths: dict[str, tuple[str, ...]] = {"name": ("task",), "question": ("query",)}
    paths |= {name: ("profile", name) for name in ("fields", "label", "asked")}
    return (*paths.get(str(where[0]), where[:1]), *where[1:])


def _line(node: Any, where: tuple[str | int, ...]) -> int:
    """The line of the value at a path of keys and positions, or of the last part of the path that exists."""
    line = node.start_mark.line
    for part in where:
        if isinstance(node, yaml.MappingNode):
            matches = [(key.start_mark.line, value) for key, value in node.value if key.value == part]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            matches = [(value.start_mark.line, value) for value in node.value[part : part + 1]]
        else:
            matches = []
        if not matches:
            break
        line, node = matches[0]
    return int(line) + 1


_EXPECTED = {
    "string_type": "a text",
    "string_too_short": "a text",
    "list_type": "a list such as [a, b]",
    "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "greater_than": "at least 1",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "too_short": "one name and what it is",
    "too_long": "one name and what it is",
}


def _explain(kind: type[BaseModel], fault: str, message: str, value: Any, where: list[str]) -> str:
    """A fault that pydantic reports, in plain words."""
    *above, key = where
    if fault == "missing":
        return f"{key} is missing{f' in {above[-1]}' if above else ''}; {_HELP}"
    if fault == "literal_error":
        return unknown("key", value, tuple(_KINDS))
    if fault == "extra_forbidden":
        models: dict[str, type[BaseModel]] = {"": kind, "profile": History}
        known = models.get("".join(above))
        return unknown("key", key, tuple(known.model_fields)) if known else unknown("check", key, tuple(READY_CHECKS))
    name = f"entry {int(key) + 1} of {above[-1]}" if key.isdigit() else key
    return f"{name} is {_show(value)}, not {_EXPECTED.get(fault, message)}"


def _desc(text: str) -> dict[str, str]:
    return {"desc": text} if text else {}


def _show(value: Any) -> str:
    """A value in a few words. Only texts are shown, because references can make other values endless."""
    if not isinstance(value, str):
        return "a list" if isinstance(value, list) else "a mapping"
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:60]}…"
