"""Task 5's world: the title that a persona gives to a paper (see `titles`)."""

import random

from programs.data.personas.titles import Frame, TitleWorld
from programs.data.personas.words import VOCABULARY, aside
from programs.data.personas.world import Case

_BY = ("with", "by", "through", "using")
_ON = ("on", "over", "for", "inside")


def _body(topic: str, system: str, method: str, rng: random.Random) -> str:
    return f"{topic} {rng.choice(_BY)} {method} {rng.choice(_ON)} {system} {aside(rng)}"


WORLD = TitleWorld(
    "topic",
    VOCABULARY["papers"]["topics"],
    VOCABULARY["papers"]["methods"],
    (
        Frame("{detail} for {word} in {name}", "the method"),
        Frame("{word} of {name} using {detail}", "the topic"),
        Frame("towards {word} with {detail} on {name}", "a direction"),
        Frame("{name} rests on {detail} and {word}", "the system"),
    ),
    _body,
    "abstract",
)


def case(persona: int, rng: random.Random) -> Case:
    """The title question of one persona."""
    return WORLD.case(persona, rng)
