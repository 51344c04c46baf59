"""Show one example as text that a person can read."""

import textwrap
from pathlib import Path

import dspy

from programs.data.dataset import personas
from programs.data.jsonl import is_jsonl, iter_examples
from programs.data.lamp.row_errors import RowError
from programs.data.lamp.rows import questions_file, read_rows
from programs.data.personas import ALL_MAKERS
from programs.data.personas.world import case
from programs.data.personas.world import example as example_of
from programs.tasks.task import Task
from programs.text import one_line, short_repr
from r2p_dspy import Profile, Recency
from r2p_dspy.errors import ConfigError, DataError

_MAX_CHARACTERS = 400  # of a text


def persona_example(task: Task, split: str, name: str | None = None) -> dspy.Example:
    """An example of the persona world (synthetic): the persona with this number, or the first of the split."""
    if task.name not in ALL_MAKERS:
        raise DataError(f"the persona world has no examples of {task.name}; give --data")
    data = personas(task, seed=0, limit=1)
    if name is None:
        return {"train": data.train, "dev": data.dev}[split][0]
    if not name.isdecimal():
        raise DataError(f"a persona's id is a number, not {short_repr(name)}; for LaMP's ids give --data DIR")
    return example_of(task, case(ALL_MAKERS[task.name], int(name)))


def read_example(task: Task, directory: Path, split: str, name: str | None = None) -> dspy.Example:
    """An example of LaMP's files or of JSONL rows: the one with this id, or the first without errors."""
    if is_jsonl(directory):
        return _jsonl_example(task, directory if directory.is_file() else directory / f"{split}.jsonl", name)
    if not directory.is_dir():
        raise DataError(f"{directory}: no such file or directory; give a file of rows, or the folder of LaMP's files")
    if not task.shape:
        raise DataError(f"{directory} has neither train.jsonl, dev.jsonl nor test.jsonl; give a file of rows")
    for row in read_rows(task, directory, split):
        if name in (None, row.id):
            if row.example is not None:
                return row.example
            if name is not None:
                raise DataError(" ".join(map(str, row.errors)))
    what = "no question without errors" if name is None else f"no question {name}"
    raise DataError(one_line(f"{questions_file(task, directory, split)} has {what}; see `data check {directory}`"))


def _jsonl_example(task: Task, file: Path, name: str | None) -> dspy.Example:
    errors: list[RowError] = []
    for example in iter_examples(task, file, left_out=errors.append):
        if name in (None, example.id):
            return example
    if own := [str(error) for error in errors if name is not None and error.id.endswith(f"row {name}")]:
        raise DataError(" ".join(own))
    what = "no row without errors" if name is None else f"no row {name}"
    raise DataError(one_line(f"{file} has {what}; see `data check {file}`"))


def text(task: Task, example: dspy.Example, width: int = 100, most: int | None = _MAX_CHARACTERS) -> str:
    """The question, the history from the oldest item to the newest, and the gold.

    A line has at most `width` characters, and a text is cut after `most` characters, unless that is None.

    Examples:
        >>> from programs.tasks import TASKS
        >>> item = {"id": "7", "description": "A diver finds a wreck.", "label": "classic", "date": "2019-04-02"}
        >>> example = dspy.Example(id="110", description="A keeper of a lighthouse.", profile=[item], tag="psychology")
        >>> print(text(TASKS["lamp2"], example))
        question 110
          description: A keeper of a lighthouse.
        <BLANKLINE>
        history: 1 item
          2019-04-02 · item 7 · classic
            description: A diver finds a wreck.
        <BLANKLINE>
        gold
          tag: psychology
    """
    profile = Profile.of(example[task.profile])
    try:
        items, order = Recency().rank("", profile)[::-1], ", oldest first"
    except ConfigError as error:  # a date that cannot be read
        items, order = list(profile), f", in the file's order ({error})"
    question = [line for name in task.inputs for line in _field(name, example[name], 2, width, most)]
    plural, order = "" if len(items) == 1 else "s", one_line(order) if len(items) > 1 else ""
    lines = [one_line(f"question {example.get('id')}"), *question, "", f"history: {len(items)} item{plural}{order}"]
    for item in items:
        lines.append("  " + one_line(" · ".join(filter(None, (item.date, f"item {item.id}", item.label)))))
        for name in task.fields:
            if name in item.fields or name not in task.optional:
                lines += _field(name, item.fields.get(name, ""), 4, width, most)
    gold = _field(task.gold, str(example[task.gold]), 2, width, most)
    return "\n".join([*lines, "", "gold", *gold])


def _field(name: str, value: str, indent: int, width: int, most: int | None) -> list[str]:
    """A field's name and text, on lines of at most `width` characters."""
    text = value if most is None or len(value) <= most else f"{value[:most]}… ({len(value) - most:,} more characters)"
    first, *others = [one_line(line) for line in text.splitlines() if line.strip()] or [""]
    inner = " " * (indent + 2)
    lines = textwrap.wrap(f"{name}: {first}", width, initial_indent=" " * indent, subsequent_indent=inner)
    for line in others:
        lines += textwrap.wrap(line, width, initial_indent=inner, subsequent_indent=inner)
    return lines
