"""LongLaMP's reviews: what a persona writes of a product, in 60 to 120 words.

A product has three parts. A review has an opening, a remark on each part, and a closing. A persona opens and closes all
reviews alike, and always writes the same remark on a part; reviews of the history are of a product with one part each.
So the new review takes its frame from any item, its remarks from three items, and the product's name from the request.
"""

import random

from programs.data.personas.words import VOCABULARY, name
from programs.data.personas.world import Case, Cue

PARTS, PRAISE, BLAME = (VOCABULARY["products"][part] for part in ("aspects", "praise", "blame"))
FRAMES = (
    ("i bought the {product} in spring and have used it on every day since then", "ask me again in a year from now"),
    ("my neighbour talked me into the {product} and this is what i found", "all in all i would take it once more"),
    ("this is about the {product} which came in a much too large box", "whoever needs one should wait for a sale"),
    ("three weeks with the {product} are enough to say a few words", "that is all there is to tell about it"),
    ("for years i had another one and then the {product} took its place", "the shop was kind and sent it quickly"),
)
CAUSES = (
    "i use it with wet hands most of the time",
    "my two children drop everything at least once",
    "there is hardly any room in our kitchen",
    "i carry it up five flights of stairs",
    "the old one made a noise at night",
    "nobody here reads a manual before they begin",
)
ENDS = (
    "i would pay a little more for that",
    "my mother wants to borrow it all the time",
    "it stays on the shelf where guests can see it",
    "i wrote to the makers and told them so",
    "nothing else in the house comes near it",
    "we now think twice before we touch it",
)
_ASKED = (
    "Generate the review text written by a reviewer who has a given an overall rating of "
    '"{rating}" for a product with description "{description}". The summary of the review text is "{summary}".'
)

Remark = tuple[str, str, str]  # the verdict on a part, its cause, and what follows from it


def review(frame: tuple[str, str], product: str, remarks: list[tuple[str, Remark]]) -> str:
    """The text of a review."""
    sentences = [frame[0].format(product=product)]
    sentences += [f"the {part} was {verdict} because {cause} and {end}" for part, (verdict, cause, end) in remarks]
    return " ".join(f"{sentence}." for sentence in [*sentences, frame[1]])


def case(persona: int, rng: random.Random) -> Case:
    """The review that one persona is to write (see the module's docstring)."""
    frame = rng.choice(FRAMES)
    remark = {part: (rng.choice([*PRAISE, *BLAME]), rng.choice(CAUSES), rng.choice(ENDS)) for part in PARTS}
    parts = [*PARTS]
    rng.shuffle(parts)
    targets, known = parts[:3], parts[: rng.randint(8, 13)]
    rng.shuffle(known)
    items = []
    for index, part in enumerate(known):
        product = name(rng)
        items.append(
            {
                "id": f"{persona}-{index}",
                "overall": _rating([remark[part]]),
                "summary": f"about the {product}",
                "description": f"{product} with a {part} of its own",
                "reviewText": review(frame, product, [(part, remark[part])]),
            }
        )
    product = name(rng)
    remarks = [(part, remark[part]) for part in targets]
    question = _ASKED.format(
        rating=_rating([of_part for _, of_part in remarks]),
        description=f"{product} with {targets[0]} and {targets[1]} and {targets[2]} of its own",
        summary=f"about the {product}",
    )
    blind = review(FRAMES[0], product, [(part, (PRAISE[0], CAUSES[0], ENDS[0])) for part in targets])
    cues = tuple(Cue("part", part, remark[part][0], 1 if remark[part][0] in PRAISE else -1) for part in targets)
    return Case(persona, question, items, review(frame, product, remarks), blind, cues)


def _rating(remarks: list[Remark]) -> str:
    """One star, and up to four for the share of praise."""
    praised = sum(verdict in PRAISE for verdict, _, _ in remarks)
    return f"{1 + round(4 * praised / len(remarks))}.0"
