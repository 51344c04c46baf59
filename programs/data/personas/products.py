"""Task 3's world: how a persona weighs two aspects of a product into one rating.

A review praises or blames aspects. For a persona each aspect has a weight of 0, 1 or 2. The rating is 3, plus the
weights of the praised aspects, minus the weights of the blamed ones, kept within 1 to 5. The history has reviews of
single aspects, so a rating of two aspects takes two items, the sign of each review, and a sum.
"""

import itertools
import random

from programs.data.personas.words import VOCABULARY, aside, name
from programs.data.personas.world import Case, Cue

ASPECTS, PRAISE, BLAME = (VOCABULARY["products"][part] for part in ("aspects", "praise", "blame"))
WEIGHTS = (0, 1, 2)
_MAKERS = ("by", "from", "of", "made in")
_JOINS = ("but", "and", "while", "yet")


def clamp(rating: int) -> int:
    """A rating kept within 1 to 5."""
    return max(1, min(5, rating))


def remark(aspect: str, sign: int, rng: random.Random) -> str:
    """A review's remark on one aspect; a positive sign praises, a negative one blames."""
    return f"{aspect} {rng.choice(_MAKERS)} {name(rng)} was {rng.choice(PRAISE if sign > 0 else BLAME)}"


def case(persona: int, rng: random.Random) -> Case:
    """The rating question of one persona (see the module's docstring)."""
    aspects = [*ASPECTS]
    rng.shuffle(aspects)
    weight = {aspect: rng.choice(WEIGHTS) for aspect in aspects}
    targets = aspects[:2]
    known = [*targets, *aspects[2 : 2 + rng.randint(5, 10)]]
    rng.shuffle(known)

    items = []
    for index, aspect in enumerate(known):
        sign = rng.choice((1, -1))
        text = f"{remark(aspect, sign, rng)} {aside(rng)}"
        items.append({"id": f"{persona}-{index}", "text": text, "score": str(clamp(3 + sign * weight[aspect]))})

    cues = tuple(Cue("aspect", aspect, str(weight[aspect]), rng.choice((1, -1))) for aspect in targets)
    remarks = f" {rng.choice(_JOINS)} ".join(remark(cue.word, cue.sign, rng) for cue in cues)
    rating = clamp(3 + sum(cue.sign * int(cue.value) for cue in cues))
    return Case(persona, f"{remarks} {aside(rng)}", items, str(rating), _blind(*(cue.sign for cue in cues)), cues)


def _blind(*signs: int) -> str:
    """The median rating over all weights, which has the least mean absolute error if only the signs are known."""
    ratings = sorted(
        clamp(3 + sum(sign * weight for sign, weight in zip(signs, weights, strict=True)))
        for weights in itertools.product(WEIGHTS, repeat=len(signs))
    )
    return str(ratings[len(ratings) // 2])
