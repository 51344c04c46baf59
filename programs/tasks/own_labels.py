"""A task of LaMP's with other labels: tags or ratings of somebody's own, in files or rows of the same shape."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import dspy

from programs.tasks.task import Task, TaskError, after
from r2p_dspy.profile import Profile

_LIST = re.compile(r"\[[^\[\]]*\]\s*(?:\w+\s*)?:\s*")  # "tags: [a, b] description: ", which the text follows


def with_labels(base: Task, labels: Sequence[str], name: str, instructions: str = "") -> Task:
    """A task that is like another one, but for its labels. Its prompts name the labels, and not films.

    Args:
        base: a task whose items have a label, such as `lamp2`.
        labels: the legal answers.
        name: of the new task.
        instructions: what the model should do; "" for a sentence that fits any labels.

    Raises:
        TaskError: for a base without labels, and for labels that cannot be used.

    Examples:
        >>> from programs.tasks.lamp2 import TASK
        >>> topics = with_labels(TASK, ["design", "research"], "topics")
        >>> topics.labels, topics.query("Which topic? topics: [design, research] article: Ask your users.")
        (('design', 'research'), 'Ask your users.')
    """
    if base.label is None:
        raise TaskError(f"the items of {base.name} have no labels; take a base that has them, such as lamp2", "base")
    answer: Any = Literal[tuple(labels)] if labels else str  # type: ignore[misc]
    fields: dict[str, Any] = {
        base.question: (str, dspy.InputField(desc=f"the text that needs a {base.answer}")),
        base.profile: (Profile, dspy.InputField(desc=f"texts that the user gave a {base.answer}")),
        base.answer: (answer, dspy.OutputField(desc=f"the {base.answer} that this user would give")),
    }
    instructions = instructions or f"Choose the {base.answer} that this user would give to the text."
    listed = f"Which {base.answer} does this text get? {base.answer}s: [{', '.join(labels)}] {base.question}: "
    return replace(
        base,
        name=name,
        signature=dspy.make_signature(fields, instructions),
        labels=tuple(labels),
        lamp="",
        shape=base.shape,
        query=_question,
        wording=lambda text: listed + text,
    )


def _question(text: str) -> str:
    """What follows the list of labels in an input, else its first colon."""
    listed = _LIST.search(text)
    return text[listed.end() :].strip() if listed else after(":")(text)
