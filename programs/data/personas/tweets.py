"""Task 7's world: how a persona would write a tweet.

A tweet has a thing and a mood. A persona opens a tweet with a phrase for the mood and closes it with a phrase for the
thing; three phrases fit each. The history shows the opening for this mood in one item and the closing for this thing in
another. A paraphrase takes both, and the rest from the tweet.
"""

import random

from programs.data.personas.words import VOCABULARY, name
from programs.data.personas.world import Case, Cue

PLAUSIBLE: dict[str, dict[str, list[str]]] = VOCABULARY["tweets"]
KINDS = tuple(PLAUSIBLE)
_AT = ("by", "near", "at", "in", "behind")


def case(persona: int, rng: random.Random) -> Case:
    """The paraphrase question of one persona (see the module's docstring)."""
    own = {kind: {word: rng.choice(phrases) for word, phrases in words.items()} for kind, words in PLAUSIBLE.items()}
    moods, things = ([*PLAUSIBLE[kind]] for kind in KINDS)
    rng.shuffle(moods)
    rng.shuffle(things)
    target = moods.pop(), things.pop()

    def where() -> str:
        return f"{rng.choice(_AT)} {name(rng)}"

    def tweet(mood: str, thing: str, place: str) -> str:
        return f"{own['mood'][mood]} the {mood} {thing} {place} {own['thing'][thing]}"

    # The history: a tweet with the mood, one with the thing, and others that share neither.
    pairs = [(target[0], things.pop()), (moods.pop(), target[1])]
    pairs += [(moods.pop(), things.pop()) for _ in range(rng.randint(4, 8))]
    rng.shuffle(pairs)
    items = [{"id": f"{persona}-{index}", "text": tweet(*pair, where())} for index, pair in enumerate(pairs)]
    (mood, thing), place = target, where()
    blind = f"{PLAUSIBLE['mood'][mood][0]} the {mood} {thing} {place} {PLAUSIBLE['thing'][thing][0]}"
    cues = tuple(Cue(kind, word, own[kind][word]) for kind, word in zip(KINDS, target, strict=True))
    return Case(persona, f"the {thing} {place} is {mood}", items, tweet(mood, thing, place), blind, cues)
