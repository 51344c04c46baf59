"""Task 2's world: which of several plausible tags a persona gives to a film.

A film has a setting and a figure, and each suggests three tags. A persona decides by one of the two (its *focus*) and
always reads the same setting or figure as the same tag. The tag of a new film follows from two things that different
items of the history show: the focus, and the tag for this setting or figure. One item shares the setting, another the
figure, and they disagree. The focus tells which of them decides; it shows only in which detail of a film its tag fits.
"""

import random

from programs.data.personas.words import VOCABULARY, aside, name
from programs.data.personas.world import Case, Cue

PLAUSIBLE: dict[str, dict[str, list[str]]] = VOCABULARY["films"]
KINDS = tuple(PLAUSIBLE)
_PLACED = ("near", "outside", "in", "beyond", "above", "below")
_CALLED = ("called", "named", "from", "alias", "like")
_LINKS = ("where", "and", "with", "meets", "against", "haunts")


def describe(setting: str, figure: str, rng: random.Random) -> str:
    """A film's description that mentions both, in either order."""
    place = f"{setting} {rng.choice(_PLACED)} {name(rng)}"
    who = f"{figure} {rng.choice(_CALLED)} {name(rng)}"
    first, second = (place, who) if rng.random() < 0.5 else (who, place)
    return f"{first} {rng.choice(_LINKS)} {second} {aside(rng)}"


def case(persona: int, rng: random.Random) -> Case:
    """The film question of one persona (see the module's docstring)."""
    focus = rng.choice(KINDS)
    reading = {kind: {word: rng.choice(tags) for word, tags in words.items()} for kind, words in PLAUSIBLE.items()}
    settings, figures = ([*PLAUSIBLE[kind]] for kind in KINDS)
    rng.shuffle(settings)
    rng.shuffle(figures)
    target = settings.pop(), figures.pop()

    # The history: a film that shares the setting, one that shares the figure, and others that share neither.
    pairs = [(target[0], figures.pop()), (settings.pop(), target[1])]
    pairs += [(settings.pop(), figures.pop()) for _ in range(rng.randint(5, 10))]
    rng.shuffle(pairs)

    def tag(setting: str, figure: str) -> str:
        return reading[focus][setting if focus == "setting" else figure]

    items = [
        {"id": f"{persona}-{index}", "description": describe(*pair, rng), "tag": tag(*pair)}
        for index, pair in enumerate(pairs)
    ]
    cues = tuple(Cue(kind, word, reading[kind][word]) for kind, word in zip(KINDS, target, strict=True))
    return Case(persona, describe(*target, rng), items, tag(*target), _blind(*target), cues, focus)


def _blind(setting: str, figure: str) -> str:
    """The most likely tag if focus and readings are unknown: one that both details suggest, if there is one."""
    by_setting, by_figure = PLAUSIBLE["setting"][setting], PLAUSIBLE["figure"][figure]
    return next((tag for tag in by_setting if tag in by_figure), by_setting[0])
