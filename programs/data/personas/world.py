"""The persona world: LaMP-format data with known truth.

A persona is a user with hidden preferences. Everything about persona `n` follows from its number alone; a seed only
chooses which personas are drawn. A persona's number also fixes its role, so that, whatever the seed, nobody is
evaluated on whom anything was trained or compiled.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import dspy

from programs.tasks.task import Task
from r2p_dspy.errors import ConfigError
from r2p_dspy.profile import Profile

# Persona n has role ROLES[n % len(ROLES)]: half of them train the pocket model.
ROLES = ("pocket", "train", "pocket", "dev", "pocket", "test", "pocket", "pilot")
_POPULATION = 1_000_000


@dataclass(frozen=True)
class Cue:
    """A detail of the question that matters, and what the truth makes of it.

    Args:
        kind: which sort of detail, such as `setting`.
        word: the word in the question.
        sign: what the text says of it, where that matters: 1 or -1.
        value: what it is to this persona: a label, or a weight.
    """

    kind: str
    word: str
    value: str
    sign: int = 0


@dataclass(frozen=True)
class Case:
    """One persona's question with its truth.

    Args:
        persona: the persona's number.
        question: what is asked now.
        items: the history, as rows of LaMP's profile.
        answer: what this persona answers (the full oracle, right by construction).
        blind: the best answer of one who knows the world but not the persona (the profile-blind oracle).
        cues: the details of the question that decide.
        focus: which kind of detail this persona goes by, where the task has such a thing.
    """

    persona: int
    question: str
    items: list[dict[str, Any]]
    answer: str
    blind: str
    cues: tuple[Cue, ...]
    focus: str = ""
    extra: dict[str, Any] = field(default_factory=dict)


Draw = Callable[[int, random.Random], Case]


def draw(maker: Draw, role: str, count: int, seed: int = 0) -> list[Case]:
    """The cases of `count` different personas of a role.

    Args:
        maker: a task's world, such as `films.case`.
        role: one of `ROLES`.
        count: how many personas, at least 0.
        seed: which personas.

    Returns:
        The cases, in an order that depends on the seed alone; a smaller count gives a prefix.

    Raises:
        ValueError: for an unknown role, a negative count, or more personas than there are.
    """
    if role not in ROLES:
        raise ConfigError(f"unknown role {role!r}; the roles are {', '.join(sorted(set(ROLES)))}")
    available = _POPULATION * ROLES.count(role) // len(ROLES)
    if not 0 <= count <= available:
        raise ConfigError(f"cannot draw {count} personas of role {role}; give a number from 0 to {available}")
    rng = random.Random(f"{role} {seed}")
    chosen: dict[int, None] = {}
    while len(chosen) < count:
        persona = rng.randrange(_POPULATION)
        if ROLES[persona % len(ROLES)] == role:
            chosen[persona] = None
    return [case(maker, persona) for persona in chosen]


def case(maker: Draw, persona: int) -> Case:
    """The case of one persona, whatever its role."""
    if not 0 <= persona < _POPULATION:
        raise ConfigError(f"there is no persona {persona}; their numbers are 0 to {_POPULATION - 1}")
    return maker(persona, rng_of(maker, persona))


def rng_of(maker: Draw, persona: int) -> random.Random:
    """A persona's own random numbers. The seed keeps an old module name: another seed would be another world."""
    return random.Random(f"programs.personas.{maker.__module__.rpartition('.')[2]} {persona}")


def history(task: Task, case: Case) -> Profile:
    """The case's items as a profile: what LaMP's rows call by the task's own name (`tag`, `score`) is their label."""
    rows = [{("label" if key == task.label else key): value for key, value in row.items()} for row in case.items]
    return Profile.model_validate(rows)


def example(task: Task, case: Case) -> dspy.Example:
    """The case as an example of its task, with the blind oracle's answer beside the gold."""
    return dspy.Example(
        {
            "id": str(case.persona),
            task.question: case.question,
            task.profile: history(task, case),
            task.answer: case.answer,
            "blind": case.blind,
        }
    ).with_inputs(task.question, task.profile)


def lamp_files(task: Task, cases: list[Case]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The cases as the contents of LaMP's questions file and outputs file."""
    questions = [{"id": str(c.persona), "input": task.wording(c.question), "profile": c.items} for c in cases]
    golds = [{"id": str(c.persona), "output": c.answer} for c in cases]
    return questions, {"task": task.lamp, "golds": golds}
