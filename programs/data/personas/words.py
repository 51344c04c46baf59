"""Invented names and filler clauses, so that no two texts of the persona world are equal."""

import random

_ONSETS = """
    Bar Bel Bran Cal Car Cor Dal Dor El Fen Gal Gar Hal Har Jor Kel Lan Lor Mal Mar Mer Nor Or Pel Ran Ros Sal Sel
    Tam Tor Val Ver Wen Win
""".split()
_MIDDLES = "a e i o an en in on ar er or el al".split()
_CODAS = """
    by cott dale den field ford gate ham holt land ley low mere mond more ney row sey shaw ster ton vale wick
    worth wood
""".split()

_VERBS = (
    "hides finds burns loses steals mends buries paints follows forges guards sells reads copies returns signs borrows "
    "wraps trades drops carries polishes measures counts melts locks opens hangs sinks posts draws repairs weighs "
    "prints"
).split()
_THINGS = (
    "letter map violin lantern key diary photograph compass ring ledger coin telegram ticket portrait notebook medal "
    "feather clock suitcase candle whistle recipe statue song umbrella bottle basket carpet ladder bracelet saddle "
    "curtain bicycle teapot necklace blanket hammer pillow vase trumpet scarf anchor barrel envelope helmet magnet "
    "pencil rope shovel spoon stamp sword ribbon tent wallet banner cradle fiddle goblet harp jacket kite"
).split()


def table(text: str) -> dict[str, tuple[str, ...]]:
    """Parse lines of a word, a colon, and texts separated by commas.

    Example:
        >>> table("flood: deluge, torrent")
        {'flood': ('deluge', 'torrent')}
    """
    rows = (line.split(":") for line in text.strip().splitlines())
    return {word.strip(): tuple(map(str.strip, others.split(","))) for word, others in rows}


def name(rng: random.Random) -> str:
    """An invented proper name, one of about twenty thousand."""
    middle = rng.choice(_MIDDLES) if rng.random() < 0.6 else ""
    return rng.choice(_ONSETS) + middle + rng.choice(_CODAS)


def aside(rng: random.Random) -> str:
    """A clause that shows no preference."""
    return f"{rng.choice(_VERBS)} {name(rng)} with the {rng.choice(_THINGS)}"
