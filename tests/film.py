"""What most tests are about: a film, two films that the user tagged, and answers in each adapter's format."""

import json

import dspy

from r2p_dspy import R2P, All, Profile
from tests.scripted import STAGES, completion


class Film(dspy.Signature):
    """Choose the tag that this user would give to the film."""

    film: str = dspy.InputField()
    profile: Profile = dspy.InputField(desc="films that the user tagged")
    tag: str = dspy.OutputField()


HISTORY = [
    {"id": "m7", "text": "a lighthouse in the rain", "label": "romance"},
    {"id": "m9", "text": "a wizard in the city", "label": "fantasy"},
]
FILM = "the lighthouse keeper"


def program(**options):
    """An R2P program that shows the whole history, in its order; its answers are free, as prepared ones must be."""
    return R2P(**{"signature": Film, "retriever": All(), "constrain": "off", **options})


def ask(module, **changes):
    """Ask for the film's tag."""
    return module(**{"film": FILM, "profile": HISTORY, **changes})


def fields(**changes):
    """The right answer's fields as values; see `tests.scripted.completion` for the same as text."""
    typed = {"evidence", "preferences", "verification"}
    known = {name: json.loads(value) if name in typed else value for name, value in STAGES.items()}
    return {**known, **changes}


def chat_completion(**changes):
    """The answer as DSPy's chat adapter wants it."""
    with dspy.context(adapter=dspy.ChatAdapter()):
        return completion(**changes)


def json_completion(**changes):
    """The answer as DSPy's JSON adapter wants it; None is null."""
    return json.dumps(fields(**changes))


def xml_completion(**changes):
    """The answer as DSPy's XML adapter wants it; None is a text."""
    with dspy.context(adapter=dspy.XMLAdapter()):
        return completion(**{name: "None" if value is None else value for name, value in changes.items()})


def markers(prompt):
    """The field markers that begin a line of a prompt, as an adapter would look for them."""
    return [line.strip() for line in prompt.splitlines() if line.strip().startswith("[[ ##")]
