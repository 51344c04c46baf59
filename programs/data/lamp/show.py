"""One example as a person would read it."""

import textwrap
from pathlib import Path

import dspy

from programs.data.dataset import personas
from programs.data.lamp.files import rows
from programs.data.personas import MAKERS
from programs.data.personas.world import case
from programs.data.personas.world import example as example_of
from programs.tasks.task import Task
from programs.text import one_line, short_repr
from r2p_dspy import Profile, Recency
from r2p_dspy.errors import DataError

_MOST = 400  # characters of a text that are shown


def persona(task: Task, split: str, name: str | None = None) -> dspy.Example:
    """An example of the persona world (synthetic).

    Args:
        task: one that it has.
        split: whose first persona to take, "train" or "dev", where none is named.
        name: a persona's number, which is the id in results.

    Raises:
        DataError: for a task that the persona world does not have.
        ValueError: for what is no persona's number.

    Example:
        >>> from programs.tasks import TASKS
        >>> persona(TASKS["lamp3"], "dev", "42").id
        '42'
    """
    made = personas(task, seed=0, limit=1)
    if name is None:
        return {"train": made.train, "dev": made.dev}[split][0]
    if not name.isdecimal():
        raise DataError(f"a persona's id is a number, not {short_repr(name)}; give --data DIR for LaMP's own")
    return example_of(task, case(MAKERS[task.name], int(name)))


def found(task: Task, directory: Path, split: str, name: str | None = None) -> dspy.Example:
    """An example of LaMP's files: the one of that id, or the first.

    Raises:
        DataError: where there is none of that id; where it is flawed, with all that is wrong with it.
    """
    if not directory.is_dir():
        raise DataError(f"{directory}: there is no such directory; name the one with {task.lamp}'s files")
    for row in rows(task, directory, split):
        if name in (None, row.id):
            if row.example is not None:
                return row.example
            if name is not None:
                raise DataError(" ".join(map(str, row.flaws)))
    what = "no question without flaw" if name is None else f"no question {name}"
    raise DataError(one_line(f"{directory / f'{split}_questions.json'} has {what}; see `data check {directory}`"))


def text(task: Task, example: dspy.Example, width: int = 100, most: int | None = _MOST) -> str:
    """The question, the history from the oldest item to the newest, and the gold.

    Args:
        task: says what the fields are.
        example: of this task.
        width: of a line.
        most: how much of a text is shown, in characters; None for all.

    Example:
        >>> from programs.tasks import TASKS
        >>> item = {"id": "7", "description": "A diver finds a wreck.", "label": "classic", "date": "2019-04-02"}
        >>> asked = dspy.Example(id="110", description="A keeper of a lighthouse.", profile=[item], tag="psychology")
        >>> print(text(TASKS["lamp2"], asked))
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
    items = list(Recency(k=len(example[task.profile]))("", Profile.of(example[task.profile])))[::-1]
    lines = [
        one_line(f"question {example.get('id')}"),
        *_field(task.question, example[task.question], 2, width, most),
        "",
    ]
    lines.append(
        f"history: {len(items)} item{'' if len(items) == 1 else 's'}{', oldest first' if len(items) > 1 else ''}"
    )
    for item in items:
        lines.append("  " + one_line(" · ".join(filter(None, (item.date, f"item {item.id}", item.label)))))
        for name in task.fields:
            lines += _field(name, item.fields[name], 4, width, most)
    gold = _field(task.answer, example[task.answer], 2, width, most)
    return "\n".join([*lines, "", "gold", *gold])


def _field(name: str, value: str, indent: int, width: int, most: int | None) -> list[str]:
    """A field's name and text, on lines that are no longer than `width`."""
    text = value if most is None or len(value) <= most else f"{value[:most]}… ({len(value) - most:,} more characters)"
    first, *others = [one_line(line) for line in text.splitlines() if line.strip()] or [""]
    inner = " " * (indent + 2)
    lines = textwrap.wrap(f"{name}: {first}", width, initial_indent=" " * indent, subsequent_indent=inner)
    for line in others:
        lines += textwrap.wrap(line, width, initial_indent=inner, subsequent_indent=inner)
    return lines
