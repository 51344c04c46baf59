"""The words of the persona world, and its invented names and filler clauses, so that no two texts are equal."""

import json
import random
from pathlib import Path
from typing import Any

# The words of each task, and what they may mean. Another word, or another order, makes another world.
VOCABULARY: dict[str, Any] = json.loads(Path(__file__).with_name("vocabulary.json").read_text(encoding="utf-8"))
_NAMES, _ASIDES = VOCABULARY["names"], VOCABULARY["asides"]


def name(rng: random.Random) -> str:
    """An invented proper name, one of about twenty thousand."""
    middle = rng.choice(_NAMES["middles"]) if rng.random() < 0.6 else ""
    return f"{rng.choice(_NAMES['onsets'])}{middle}{rng.choice(_NAMES['codas'])}"


def aside(rng: random.Random) -> str:
    """A clause that shows no preference."""
    return f"{rng.choice(_ASIDES['verbs'])} {name(rng)} with the {rng.choice(_ASIDES['things'])}"
