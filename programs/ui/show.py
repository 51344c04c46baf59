"""Show a compiled program, and what differs between two of them."""

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

MAX_CHARS = 400  # of a text, unless all of it is wanted
_SAME, _OLD, _NEW = "  ", "- ", "+ "
_UNCOMPILED = "uncompiled"


def load_artifact(name: str) -> Artifact:
    """Read a program that the command line names: its file, its run's directory, or a task for its uncompiled program.

    Examples:
        >>> load_artifact("lamp2").predictors["reason"].demos
        []
    """
    path = Path(name)
    if name in TASKS and not path.is_file():
        return artifact_of(r2p(TASKS[name]), task=name, notes={"winner": _UNCOMPILED})
    return read_artifact(path / "program.json" if path.is_dir() else path)


def describe(artifact: Artifact, width: int = 100, max_chars: int | None = MAX_CHARS) -> Iterator[Line]:
    """Describe a program: its provenance, then each predictor's instructions, fields and demos.

    A line has `width` characters, and a text shows its first `max_chars`; None shows all of it.

    Examples:
        >>> empty = Artifact(task="mine", template=["draft"], predictors={})
        >>> print(*(line.text for line in describe(empty)), sep="\\n")
        program for mine
          stages: draft
    """
    yield Line(one_line(f"program for {artifact.task or 'any task'}"), "bold")
    for name, value in _facts(artifact).items():
        yield from _block(f"{name}: {value}", 2, width, max_chars)
    if artifact.redacted or any(predictor.demos for predictor in artifact.predictors.values()):
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
                yield from _value(field, value, width, max_chars)


def compare(before: Artifact, after: Artifact, width: int = 100, max_chars: int | None = MAX_CHARS) -> Iterator[Line]:
    """List what the second of two programs changes: facts, instructions by sentence, fields, and demos by id.

    Examples:
        >>> before, after = (Artifact(task=name, template=[], predictors={}) for name in ("mine", "yours"))
        >>> print(*(line.text for line in compare(before, after)), sep="\\n")
        program
        - task: mine
        + task: yours
        instructions, fields and demos are the same
    """
    lines = list[Line]()
    for name in dict.fromkeys([*before.predictors, *after.predictors]):
        empty = Predictor(instructions="", inputs={}, outputs={})
        old, new = before.predictors.get(name, empty), after.predictors.get(name, empty)
        lines += _changed_predictor(name, old, new, width, max_chars)
    yield from _changed_facts(before, after, width)
    yield from lines or [Line("instructions, fields and demos are the same")]


def demo_id(predictor: Predictor, demo: Mapping[str, Any]) -> str:
    """Eight hex digits of a demo's inputs: the same question about the same user has the same id."""
    inputs = {name: demo.get(name) for name in predictor.inputs}
    return digest(json.dumps(inputs, sort_keys=True))[:8]


def _facts(artifact: Artifact) -> dict[str, str]:
    """What a file says about its program as a whole, by name."""
    values = {"made": artifact.made, **artifact.notes, "settings": artifact.settings, "versions": artifact.versions}
    values["stages"] = artifact.template
    facts = {name.replace("_", " "): _words(value) for name, value in values.items() if value not in ("", {}, [], None)}
    if artifact.notes.get("winner") == _UNCOMPILED:
        facts["winner"] = "the uncompiled program: the task's own instructions, no demos"
    return facts


def _words(value: Any, inner: bool = False) -> str:
    """A piece of JSON as text: `a 1, b (c 2)`; an interval as `0.9 [0.8, 1.0]`."""
    if isinstance(value, dict) and set(value) == {"value", "low", "high"}:
        return "{value} [{low}, {high}]".format_map({key: _words(number) for key, number in value.items()})
    if isinstance(value, dict):
        text = ", ".join(f"{key} {_words(part, inner=True)}" for key, part in value.items())
        return f"({text})" if inner else text
    if isinstance(value, list):
        return ", ".join(map(_words, value))
    return value if isinstance(value, str) else json.dumps(value)


def _value(field: str, value: Any, width: int, max_chars: int | None) -> Iterator[Line]:
    """A field of a demo; a list, such as a history, takes a line per entry."""
    entries = value if isinstance(value, list) else []
    yield from _block(f"{field}:" if entries else f"{field}: {_entry(value)}", 2, width, max_chars)
    for entry in entries:
        yield from _block(_entry(entry), 4, width, max_chars)


def _entry(value: Any) -> str:
    if isinstance(value, dict):
        return " · ".join(f"{key}: {_words(part)}" for key, part in value.items())
    return _words(value)


def _block(text: str, indent: int, width: int, max_chars: int | None, style: str = "", mark: str = "") -> list[Line]:
    """Wrap a text at `width`, and indent what is wrapped. The text's own line breaks stay."""
    if max_chars is not None and len(text) > max_chars:
        text = f"{text[:max_chars]}… ({len(text) - max_chars:,} more characters)"
    first, inner = f"{mark}{' ' * indent}", " " * (len(mark) + indent + 2)
    lines: list[str] = []
    for line in filter(None, map(one_line, text.splitlines())):
        lines += textwrap.wrap(line, max(width, 20), initial_indent=inner if lines else first, subsequent_indent=inner)
    return [Line(line, style) for line in lines]


def _changed_facts(before: Artifact, after: Artifact, width: int) -> Iterator[Line]:
    old, new = ({"task": str(artifact.task), **_facts(artifact)} for artifact in (before, after))
    changed = [name for name in dict.fromkeys([*old, *new]) if old.get(name) != new.get(name)]
    if changed:
        yield Line("program", "bold")
    for name in changed:
        for facts, mark, style in ((old, _OLD, "red"), (new, _NEW, "green")):
            if name in facts:
                yield from _block(f"{name}: {facts[name]}", 0, width, None, style, mark)


def _changed_predictor(
    name: str, before: Predictor, after: Predictor, width: int, max_chars: int | None
) -> Iterator[Line]:
    if before.instructions != after.instructions:
        yield Line(one_line(f"{name}: instructions"), "bold")
        yield from _diff(_sentences(before.instructions), _sentences(after.instructions), width)
    old, new = _described(before), _described(after)
    if set(old) != set(new):  # another order changes nothing
        yield Line(one_line(f"{name}: fields"), "bold")
        yield from _diff([text for text in old if text not in new], [text for text in new if text not in old], width)
    old_demos, new_demos = ({demo_id(side, demo): demo for demo in side.demos} for side in (before, after))
    if old_demos == new_demos and before.left_out == after.left_out:
        return
    kept = [key for key, demo in old_demos.items() if new_demos.get(key) == demo]
    counts = f"{_counted(before)} → {_counted(after)}, {len(kept)} of them in both"
    yield Line(one_line(f"{name}: demos {counts}"), "bold")
    for demos, others, mark, style in ((old_demos, new_demos, _OLD, "red"), (new_demos, old_demos, _NEW, "green")):
        for key, demo in demos.items():
            if others.get(key) != demo:
                yield Line(f"{mark}demo {key}{', changed fields' if key in others else ''}", style)
                for field, value in demo.items():
                    if key not in others or others[key].get(field) != value:  # of a changed demo only its changes
                        for line in _value(field, value, width - 2, max_chars):
                            yield Line(f"{mark}{line.text}", style)


def _sentences(text: str) -> list[str]:
    """The sentences of a text; a line break ends one too."""
    return [part for line in text.splitlines() for part in re.split(r"(?<=[.!?:;])\s+", line.strip()) if part]


def _diff(before: Sequence[str], after: Sequence[str], width: int) -> Iterator[Line]:
    for what, start, end, begin, stop in difflib.SequenceMatcher(None, before, after).get_opcodes():
        same = what == "equal"
        for text in before[start:end]:
            yield from _block(text, 0, width, None, "" if same else "red", _SAME if same else _OLD)
        for text in () if same else after[begin:stop]:
            yield from _block(text, 0, width, None, "green", _NEW)


def _described(predictor: Predictor) -> list[str]:
    fields = {**predictor.inputs, **predictor.outputs}
    return [name if text in ("", f"${{{name}}}") else f"{name}: {text}" for name, text in fields.items()]


def _counted(predictor: Predictor) -> str:
    return f"{len(predictor.demos)}{f' ({predictor.left_out} left out)' if predictor.left_out else ''}"
