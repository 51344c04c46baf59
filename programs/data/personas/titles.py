"""How a persona writes titles, for the worlds of tasks 4 and 5.

A text has a subject, a place or system with a name, and a second detail. A persona has one order in which its titles go
(its *frame*, which every title of the history shows) and for each subject a word of its own among three that mean it
(which only a title about that subject shows). So a title takes the frame from any item, the word from the item that
shares the subject, and the details from the text.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from programs.data.personas.words import name
from programs.data.personas.world import Case, Cue


@dataclass(frozen=True)
class Frame:
    """An order of titles: its pattern, with {word}, {name} and {detail}, and what comes first in it."""

    pattern: str
    first: str

    def title(self, word: str, place: str, detail: str) -> str:
        return self.pattern.format(word=word, name=place, detail=detail)


@dataclass(frozen=True)
class World:
    """One task's titles.

    Args:
        kind: what a subject is called as a cue.
        subjects: each with the words that a persona may have for it.
        details: the second details.
        frames: the orders.
        body: from a subject, a name, a detail and a source of randomness to a text.
        text: the item's field that holds a text.
    """

    kind: str
    subjects: Mapping[str, tuple[str, ...]]
    details: Sequence[str]
    frames: tuple[Frame, ...]
    body: Callable[[str, str, str, random.Random], str]
    text: str

    def case(self, persona: int, rng: random.Random) -> Case:
        """The question of one persona."""
        frame = rng.choice(self.frames)
        called = {subject: rng.choice(words) for subject, words in self.subjects.items()}
        subjects, details = [*self.subjects], [*self.details]
        rng.shuffle(subjects)
        rng.shuffle(details)
        asked, detail = subjects[0], details.pop()

        # The history: a text on the subject, and others.
        known = subjects[: rng.randint(6, 11)]
        rng.shuffle(known)
        items = []
        for index, subject in enumerate(known):
            place, other = name(rng), details.pop()
            title = frame.title(called[subject], place, other)
            items.append({"id": f"{persona}-{index}", "title": title, self.text: self.body(subject, place, other, rng)})
        place = name(rng)
        answer = frame.title(called[asked], place, detail)
        blind = self.frames[0].title(self.subjects[asked][0], place, detail)
        cues = Cue(self.kind, asked, called[asked]), Cue("name", place, place), Cue("detail", detail, detail)
        return Case(persona, self.body(asked, place, detail, rng), items, answer, blind, cues, frame.first)
