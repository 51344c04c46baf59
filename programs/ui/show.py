"""A compiled program as a person reads it, and what is different between two of them."""

import difflib
import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from programs.tasks import TASKS
from programs.tasks.program import r2p
from programs.text import one_line
from programs.ui.terminal import Line
from r2p_dspy import Artifact, artifact_of, read_artifact
from r2p_dspy.artifact_file import Predictor
from r2p_dspy.files import digest

MOST = 400  # characters of a text that are shown
_SAME, _OLD, _NEW = "  ", "- ", "+ "
_UNCOMPILED = "uncompiled"


def found(name: str) -> Artifact:
    """What a command line names: a program's file, a run's directory, or a task for its uncompiled program.

    Raises:
        ArtifactError: see `read_artifact`.

    Example:
        >>> found("lamp2").predictors["reason"].demos
        []
    """
    path = Path(name)
    if name in TASKS and not path.is_file():
        return artifact_of(r2p(TASKS[name]), task=name, notes={"winner": _UNCOMPILED})
    return read_artifact(path / "program.json" if path.is_dir() else path)


def shown(artifact: Artifact, width: int = 100, most: int | None = MOST) -> Iterator[Line]:
    """Provenance, then each predictor's instructions, fields and demos.

    Args:
        artifact: a compiled program.
        width: of a line.
        most: how much of a text is shown, in characters; None for all.

    Example:
        >>> made = Artifact(task="mine", template=["draft"], predictors={})
        >>> print(*(line.text for line in shown(made)), sep="\\n")
        program for mine
          stages: draft
    """
    yield Line(one_line(f"program for {artifact.task or 'any task'}"), "bold")
    for name, value in _facts(artifact).items():
        yield from _block(f"{name}: {value}", 2, width, most)
    if artifact.redacted or any(one.demos for one in artifact.predictors.values()):
        yield from _block(artifact.warning, 2, width, None, "yellow")
    for name, predictor in artifact.predictors.items():
        yield Line("")
        yield Line(one_line(f"{name}: instructions"), "bold")
        yield from _block(predictor.instructions, 2, width, None)
        yield Line(one_line(f"{name}: fields"), "bold")
        for text in _described(predictor):
            yield from _block(text, 2, width, None)
        if not predictor.demos:
            yield Line(one_line(f"{name}: demos: {_counted(predictor)}"), "bold")
        for number, demo in enumerate(predictor.demos, start=1):
            where = f"{number} of {len(predictor.demos)}"
            yield Line(one_line(f"{name}: demo {where} (id {demo_id(predictor, demo)})"), "bold")
            for field, value in demo.items():
                yield from _value(field, value, width, most)


def changes(before: Artifact, after: Artifact, width: int = 100, most: int | None = MOST) -> Iterator[Line]:
    """What is different in the second of two programs: facts, instructions sentence by sentence, demos by id.

    Args:
        before, after: two compiled programs.
        width, most: as of `shown`.

    Example:
        >>> one, other = (Artifact(task=name, template=[], predictors={}) for name in ("mine", "yours"))
        >>> print(*(line.text for line in changes(one, other)), sep="\\n")
        program
        - task: mine
        + task: yours
        instructions, fields and demos are the same
    """
    facts, lines = [*_facts_apart(before, after, width)], list[Line]()
    for name in dict.fromkeys([*before.predictors, *after.predictors]):
        nothing = Predictor(instructions="", inputs={}, outputs={})
        one, other = before.predictors.get(name, nothing), after.predictors.get(name, nothing)
        lines += _predictor_apart(name, one, other, width, most)
    yield from facts
    yield from lines or [Line("instructions, fields and demos are the same")]


def demo_id(predictor: Predictor, demo: Mapping[str, Any]) -> str:
    """Eight hex digits that tell a demo by what it asks: the same question about the same user has the same id."""
    asked = {name: demo.get(name) for name in predictor.inputs}
    return digest(json.dumps(asked, sort_keys=True))[:8]


def _facts(artifact: Artifact) -> dict[str, str]:
    """What a file says of its program as a whole, each in one text."""
    given = {"made": artifact.made, **artifact.notes, "settings": artifact.settings, "versions": artifact.versions}
    given["stages"] = artifact.template
    facts = {name.replace("_", " "): _said(value) for name, value in given.items() if value not in ("", {}, [], None)}
    if artifact.notes.get("winner") == _UNCOMPILED:
        facts["winner"] = "the uncompiled program: instructions as the task has them, no demos"
    return facts


def _said(value: Any, inner: bool = False) -> str:
    """A piece of JSON in one text: `a 1, b (c 2)`; an interval as `0.9 [0.8, 1.0]`."""
    if isinstance(value, dict) and set(value) == {"value", "low", "high"}:
        return "{value} [{low}, {high}]".format_map({key: _said(one) for key, one in value.items()})
    if isinstance(value, dict):
        text = ", ".join(f"{key} {_said(one, inner=True)}" for key, one in value.items())
        return f"({text})" if inner else text
    if isinstance(value, list):
        return ", ".join(map(_said, value))
    return value if isinstance(value, str) else json.dumps(value)


def _value(field: str, value: Any, width: int, most: int | None, indent: int = 2) -> Iterator[Line]:
    """A field of a demo; a list, such as a history, with a line for each entry."""
    if not isinstance(value, list) or not value:
        yield from _block(f"{field}: {_entry(value)}", indent, width, most)
        return
    yield from _block(f"{field}:", indent, width, most)
    for one in value:
        yield from _block(_entry(one), indent + 2, width, most)


def _entry(value: Any) -> str:
    return " · ".join(f"{key}: {_said(one)}" for key, one in value.items()) if isinstance(value, dict) else _said(value)


def _block(text: str, indent: int, width: int, most: int | None, style: str = "", mark: str = "") -> list[Line]:
    """A text on lines no longer than `width`, what goes over indented further; its own lines stay lines."""
    if most is not None and len(text) > most:
        text = f"{text[:most]}… ({len(text) - most:,} more characters)"
    first, inner = f"{mark}{' ' * indent}", " " * (len(mark) + indent + 2)
    lines: list[str] = []
    for line in [one for one in map(one_line, text.splitlines()) if one]:
        lines += textwrap.wrap(line, max(width, 20), initial_indent=inner if lines else first, subsequent_indent=inner)
    return [Line(line, style) for line in lines]


def _facts_apart(before: Artifact, after: Artifact, width: int) -> Iterator[Line]:
    ours, theirs = ({"task": str(one.task), **_facts(one)} for one in (before, after))
    apart = [name for name in dict.fromkeys([*ours, *theirs]) if ours.get(name) != theirs.get(name)]
    if apart:
        yield Line("program", "bold")
    for name in apart:
        for facts, mark, style in ((ours, _OLD, "red"), (theirs, _NEW, "green")):
            if name in facts:
                yield from _block(f"{name}: {facts[name]}", 0, width, None, style, mark)


def _predictor_apart(name: str, before: Predictor, after: Predictor, width: int, most: int | None) -> Iterator[Line]:
    if before.instructions != after.instructions:
        yield Line(one_line(f"{name}: instructions"), "bold")
        yield from _diff(_sentences(before.instructions), _sentences(after.instructions), width)
    old, new = _described(before), _described(after)
    if set(old) != set(new):  # another order changes nothing
        yield Line(one_line(f"{name}: fields"), "bold")
        yield from _diff([one for one in old if one not in new], [one for one in new if one not in old], width)
    ours, theirs = ({demo_id(one, demo): demo for demo in one.demos} for one in (before, after))
    if ours == theirs and before.left_out == after.left_out:
        return
    kept = [one for one in ours if theirs.get(one) == ours[one]]
    counts = f"{_counted(before)} → {_counted(after)}, {len(kept)} of them in both"
    yield Line(one_line(f"{name}: demos {counts}"), "bold")
    for demos, others, mark, style in ((ours, theirs, _OLD, "red"), (theirs, ours, _NEW, "green")):
        for one, demo in demos.items():
            if others.get(one) != demo:
                yield Line(f"{mark}demo {one}{', what is different of it' if one in others else ''}", style)
                for field, value in demo.items():
                    if one not in others or others[one].get(field) != value:  # of a changed demo what changed
                        yield from _marked(_value(field, value, width - 2, most), mark, style)


def _marked(lines: Iterator[Line], mark: str, style: str) -> Iterator[Line]:
    return (Line(f"{mark}{line.text}", style) for line in lines)


def _sentences(text: str) -> list[str]:
    """The parts of a text that a reader compares: its lines, and their sentences."""
    return [part for line in text.splitlines() for part in re.split(r"(?<=[.!?:;])\s+", line.strip()) if part]


def _diff(before: Sequence[str], after: Sequence[str], width: int) -> Iterator[Line]:
    for what, start, end, begin, stop in difflib.SequenceMatcher(None, before, after).get_opcodes():
        if what == "equal":
            parts = [(_SAME, "", before[start:end])]
        else:
            parts = [(_OLD, "red", before[start:end]), (_NEW, "green", after[begin:stop])]
        for mark, style, texts in parts:
            for text in texts:
                yield from _block(text, 0, width, None, style, mark)


def _described(predictor: Predictor) -> list[str]:
    fields = {**predictor.inputs, **predictor.outputs}
    return [name if text in ("", f"${{{name}}}") else f"{name}: {text}" for name, text in fields.items()]


def _counted(predictor: Predictor) -> str:
    return f"{len(predictor.demos)}{f' ({predictor.left_out} left out)' if predictor.left_out else ''}"
