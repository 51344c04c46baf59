"""How a persona writes titles, for the worlds of tasks 4 and 5.

A text has a subject, a place or system with a name, and a second detail. All titles of a persona have the same order
(its *frame*, which every title of the history shows). For each subject the persona uses one of three words, which only
a title about that subject shows. A new title takes the frame from any item, the word from the item with the same
subject, and the details from the text.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from programs.data.personas.words import name
from programs.data.personas.world import Case, Cue


@dataclass(frozen=True)
class Frame:
    """An order of titles: a pattern with {word}, {name} and {detail}, and what comes first in it."""

    pattern: str
    first: str

    def title(self, word: str, place: str, detail: str) -> str:
        return self.pattern.format(word=word, name=place, detail=detail)


@dataclass(frozen=True)
class TitleWorld:
    """The titles of one task."""

    kind: str  # of cue that a subject is
    subjects: Mapping[str, Sequence[str]]  # each with the words that a persona may use for it
    details: Sequence[str]
    frames: tuple[Frame, ...]
    body: Callable[[str, str, str, random.Random], str]  # takes a subject, a name and a detail
    text: str  # the item's field that has the text

    def case(self, persona: int, rng: random.Random) -> Case:
        """The question of one persona."""
        frame = rng.choice(self.frames)
        word_of = {subject: rng.choice(words) for subject, words in self.subjects.items()}
        subjects, details = [*self.subjects], [*self.details]
        rng.shuffle(subjects)
        rng.shuffle(details)
        target, detail = subjects[0], details.pop()

        # The history: a text on the same subject, and others.
        known = subjects[: rng.randint(6, 11)]
        rng.shuffle(known)
        items = []
        for index, subject in enumerate(known):
            place, other = name(rng), details.pop()
            title = frame.title(word_of[subject], place, other)
            items.append({"id": f"{persona}-{index}", "title": title, self.text: self.body(subject, place, other, rng)})
        place = name(rng)
        answer = frame.title(word_of[target], place, detail)
        blind = self.frames[0].title(self.subjects[target][0], place, detail)
        cues = Cue(self.kind, target, word_of[target]), Cue("name", place, place), Cue("detail", detail, detail)
        return Case(persona, self.body(target, place, detail, rng), items, answer, blind, cues, frame.first)
