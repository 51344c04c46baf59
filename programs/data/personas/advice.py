"""LaMP-QA's lifestyle questions: what a persona needs to hear about a product, with the rubric computed.

A persona needs each part of a product to be of one quality, for one reason, and says so in a question of the history.
A new question names three parts. Its rubric has an aspect for each: this quality of this part. So an answer covers the
rubric if it takes the three needs from three items. `Case.answer` does: it has every word that `coverage` looks for.
"""

import random

from programs.data.personas.words import VOCABULARY, aside, name
from programs.data.personas.world import Case, Cue

PARTS = VOCABULARY["products"]["aspects"]
QUALITIES = ("light", "quiet", "cheap", "plain", "safe", "small", "solid", "bright", "soft", "washable")
REASONS = (
    "my two children play with everything they find",
    "i travel by night train every other week",
    "our flat is old and has thin walls",
    "my eyes are not what they were before",
    "i repair things myself and have few tools",
    "the dog sleeps next to it all day",
)

Need = tuple[str, str]  # a quality, and the reason for it


def need(part: str, of_part: Need) -> str:
    """What a persona says that it needs."""
    return f"i need the {part} to be {of_part[0]} because {of_part[1]}"


def answer(product: str, needs: list[tuple[str, Need]]) -> str:
    """An answer that covers some needs."""
    advice = (
        f"with the {part} the {of_part[0]} one is right for you since you wrote {need(part, of_part)}"
        for part, of_part in needs
    )
    return " ".join(f"{sentence}." for sentence in (f"the {product} comes in several kinds", *advice))


def case(persona: int, rng: random.Random) -> Case:
    """The question of one persona (see the module's docstring)."""
    needs = {part: (rng.choice(QUALITIES), rng.choice(REASONS)) for part in PARTS}
    parts = [*PARTS]
    rng.shuffle(parts)
    targets, known = parts[:3], parts[: rng.randint(8, 13)]
    rng.shuffle(known)
    items = [
        {"id": f"{persona}-{index}", "text": f"is the {name(rng)} any good {need(part, needs[part])} {aside(rng)}"}
        for index, part in enumerate(known)
    ]
    product = name(rng)
    question = f"which kind of {product} should i buy looking at its {targets[0]} and {targets[1]} and {targets[2]}"
    own = [(part, needs[part]) for part in targets]
    said = [need(part, of_part) for part, of_part in own]
    aspects = [
        {"aspect": f"{quality} {part}", "reason": f"the user says: {reason}", "evidence": sentence}
        for (part, (quality, reason)), sentence in zip(own, said, strict=True)
    ]
    blind = answer(product, [(part, (QUALITIES[0], REASONS[0])) for part in targets])
    cues = tuple(Cue("part", part, needs[part][0]) for part in targets)
    rubric = {"narrative": " ".join(f"{sentence}." for sentence in said), "aspects": aspects}
    return Case(persona, question, items, answer(product, own), blind, cues, extra={"rubric": rubric})
