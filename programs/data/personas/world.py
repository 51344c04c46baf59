"""Personas and their cases: LaMP-format data with known truth.

A persona is a user with hidden preferences. Everything about persona `n` follows from its number alone; a seed only
chooses which personas are drawn. The number also fixes the persona's role. So no persona is both trained and evaluated
on, whatever the seed.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import dspy

from metrics.rubric import Rubric
from programs.tasks.task import Task
from r2p_dspy.errors import ConfigError
from r2p_dspy.profile import Profile

# Persona n has role ROLES[n % len(ROLES)]; half of the personas train the pocket model.
ROLES = ("pocket", "train", "pocket", "dev", "pocket", "test", "pocket", "held-out")
_SEED_NAMES = {"held-out": "pilot"}  # the role's old name; another seed would draw other personas
_POPULATION = 1_000_000


@dataclass(frozen=True)
class Cue:
    """A detail of the question that decides the answer, and what it means to the persona.

    Args:
        kind: the kind of detail, such as `setting`.
        word: the word in the question.
        value: what the detail means to this persona: a label, a word or a weight.
        sign: 1 if the text praises the detail, -1 if it blames it, 0 in tasks without praise and blame.
    """

    kind: str
    word: str
    value: str
    sign: int = 0


@dataclass(frozen=True)
class Case:
    """One persona's question and its right answer.

    Args:
        persona: the persona's number.
        question: the question of the task.
        items: the history, as rows of LaMP's profile.
        answer: the persona's answer (the full oracle, right by construction).
        blind: the best answer for someone who knows the world but not the persona (the profile-blind oracle).
        cues: the details of the question that decide the answer.
        focus: the kind of detail that this persona decides by; empty in tasks without one.
        extra: further facts that a training task needs; `rubric` of a task that is scored by one.
    """

    persona: int
    question: str
    items: list[dict[str, Any]]
    answer: str
    blind: str
    cues: tuple[Cue, ...]
    focus: str = ""
    extra: dict[str, Any] = field(default_factory=dict)


CaseMaker = Callable[[int, random.Random], Case]


def draw(maker: CaseMaker, role: str, count: int, seed: int = 0) -> list[Case]:
    """Draw the cases of `count` different personas of a role.

    Args:
        maker: makes the cases of a task, such as `films.case`.
        role: one of `ROLES`.
        count: number of personas, at least 0.
        seed: chooses the personas.

    Returns:
        The cases, in an order that depends on the seed alone. A smaller count gives a prefix.

    Raises:
        ConfigError: for an unknown role, a negative count, or more personas than there are.
    """
    if role not in ROLES:
        raise ConfigError(f"unknown role {role!r}; the roles are {', '.join(sorted(set(ROLES)))}")
    available = _POPULATION * ROLES.count(role) // len(ROLES)
    if not 0 <= count <= available:
        raise ConfigError(f"cannot draw {count} personas of role {role}; give a number from 0 to {available}")
    rng = random.Random(f"{_SEED_NAMES.get(role, role)} {seed}")
    chosen: dict[int, None] = {}
    while len(chosen) < count:
        persona = rng.randrange(_POPULATION)
        if ROLES[persona % len(ROLES)] == role:
            chosen[persona] = None
    return [case(maker, persona) for persona in chosen]


def case(maker: CaseMaker, persona: int) -> Case:
    """The case of one persona, whatever its role."""
    if not 0 <= persona < _POPULATION:
        raise ConfigError(f"there is no persona {persona}; the numbers are 0 to {_POPULATION - 1}")
    return maker(persona, rng_of(maker, persona))


def rng_of(maker: CaseMaker, persona: int) -> random.Random:
    """A persona's own random generator. The seed keeps an old module name; another seed would change the world."""
    return random.Random(f"programs.personas.{maker.__module__.rpartition('.')[2]} {persona}")


def history(task: Task, case: Case) -> Profile:
    """The case's items as a profile. The key with the name of the task's label (`tag`, `score`) becomes the label."""
    rows = [{("label" if key == task.label else key): value for key, value in row.items()} for row in case.items]
    return Profile.model_validate(rows)


def example(task: Task, case: Case) -> dspy.Example:
    """The case as an example of its task, with the blind oracle's answer beside the gold, and the items that decide."""
    inputs = {task.question: case.question, task.profile: history(task, case)}
    gold = Rubric(**case.extra["rubric"]) if task.by_rubric else case.answer
    outputs: dict[str, Any] = {task.gold: gold, "blind": case.blind}
    if items := support(case):
        outputs["supporting_items"] = items
    return dspy.Example({"id": str(case.persona), **inputs, **outputs}).with_inputs(*inputs)


def support(case: Case) -> list[str]:
    """The ids of the items that decide the answer: they have a deciding detail of the question in them.

    Of a persona with a focus that is a detail of this kind alone. Empty in tasks without such details.
    """
    words = [cue.word for cue in case.cues if case.focus in ("", cue.kind)]
    texts = {row["id"]: " ".join(str(value) for key, value in row.items() if key != "id") for row in case.items}
    return [name for name, text in texts.items() if any(f" {word} " in f" {text} " for word in words)]


def lamp_files(task: Task, cases: list[Case]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The cases in LaMP's format: the contents of the questions file and of the outputs file."""
    questions = [{"id": str(c.persona), "input": task.wording(c.question), "profile": c.items} for c in cases]
    golds = [{"id": str(c.persona), "output": c.answer} for c in cases]
    return questions, {"task": task.lamp, "golds": golds}
