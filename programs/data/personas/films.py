"""Task 2's world: which of several plausible tags a persona gives to a film.

A film has a setting and a figure, and each suggests three tags. A persona decides by one of the two (its *focus*) and
always reads the same setting or figure as the same tag. The tag of a new film follows from two things that different
items of the history show: the focus, and the tag for this setting or figure. One item shares the setting, another the
figure, and they disagree. The focus tells which of them decides; it shows only in which detail of a film its tag fits.
"""

import random

from programs.data.personas.words import aside, name, table
from programs.data.personas.world import Case, Cue

PLAUSIBLE = {
    "setting": table("""
        lighthouse: psychology, romance, classic
        monastery: thought-provoking, psychology, twist ending
        submarine: action, violence, based on a book
        desert: action, thought-provoking, classic
        casino: twist ending, comedy, dark comedy
        hospital: psychology, social commentary, true story
        prison: violence, true story, social commentary
        circus: fantasy, dark comedy, classic
        castle: fantasy, romance, classic
        colony: sci-fi, dystopia, social commentary
        station: sci-fi, twist ending, action
        factory: social commentary, dystopia, true story
        harbor: romance, based on a book, true story
        jungle: action, based on a book, fantasy
        library: based on a book, fantasy, thought-provoking
        laboratory: sci-fi, psychology, dark comedy
        theater: comedy, classic, dark comedy
        village: romance, comedy, true story
        courtroom: social commentary, twist ending, true story
        bunker: dystopia, violence, psychology
        vineyard: romance, comedy, based on a book
        arena: violence, dystopia, action
        asylum: psychology, twist ending, violence
        school: comedy, social commentary, true story
        glacier: thought-provoking, sci-fi, action
        carnival: dark comedy, fantasy, comedy
        mansion: twist ending, classic, dark comedy
        railway: classic, action, based on a book
        metropolis: dystopia, sci-fi, social commentary
        island: fantasy, romance, thought-provoking
    """),
    "figure": table("""
        widow: romance, psychology, classic
        android: sci-fi, thought-provoking, dystopia
        detective: twist ending, classic, based on a book
        soldier: violence, true story, action
        orphan: based on a book, social commentary, fantasy
        wizard: fantasy, comedy, based on a book
        thief: comedy, action, twist ending
        nurse: romance, true story, psychology
        senator: social commentary, dark comedy, true story
        clone: sci-fi, dystopia, psychology
        boxer: violence, true story, classic
        clown: dark comedy, violence, comedy
        pilot: action, true story, romance
        poet: romance, thought-provoking, classic
        hermit: thought-provoking, psychology, fantasy
        spy: action, twist ending, based on a book
        butcher: violence, dark comedy, social commentary
        princess: fantasy, romance, comedy
        professor: thought-provoking, sci-fi, comedy
        gangster: violence, action, dark comedy
        prophet: thought-provoking, dystopia, fantasy
        lawyer: social commentary, twist ending, dark comedy
        rebel: dystopia, action, social commentary
        sailor: classic, based on a book, romance
        actress: comedy, psychology, dark comedy
        inventor: sci-fi, fantasy, true story
        refugee: social commentary, true story, thought-provoking
        twin: twist ending, psychology, fantasy
        cyborg: sci-fi, violence, dystopia
        governess: classic, based on a book, psychology
    """),
}
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
