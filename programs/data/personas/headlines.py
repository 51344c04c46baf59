"""Task 4's world: the headline that a persona writes for a local event (see `titles`)."""

import random

from programs.data.personas.titles import Frame, TitleWorld
from programs.data.personas.words import VOCABULARY, aside
from programs.data.personas.world import Case

_IN = ("in", "near", "around", "outside", "across")
_LINKS = ("where", "while", "as", "though")


def _body(event: str, place: str, figure: str, rng: random.Random) -> str:
    return f"{event} {rng.choice(_IN)} {place} {rng.choice(_LINKS)} {figure} {aside(rng)}"


WORLD = TitleWorld(
    "event",
    VOCABULARY["headlines"]["events"],
    VOCABULARY["headlines"]["figures"],
    (
        Frame("{word} hits {name} as {detail} waits", "the event"),
        Frame("{detail} faces {word} of {name}", "the figure"),
        Frame("why {name} fears {word} and {detail}", "a question"),
        Frame("{name} and {detail} after the {word}", "the place"),
    ),
    _body,
    "text",
)


def case(persona: int, rng: random.Random) -> Case:
    """The headline question of one persona."""
    return WORLD.case(persona, rng)
