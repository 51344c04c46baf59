"""Conversations as padded batches of about one size in tokens, with the tokens to learn marked."""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from multiprocessing import Pool
from typing import Any

import torch

from finetune.pocket.auxiliary import auxiliary_task
from finetune.pocket.conversation import OUTSIDE, Encoded, encode
from finetune.pocket.rows import FORMATS, Rows
from finetune.pocket.worlds import ALL, FEW


@dataclass(frozen=True)
class Lessons:
    """A stretch of the curriculum.

    Args:
        until: its end, as a share of the steps.
        drills: the share of drills.
        kinds: of the drills, drawn evenly.
        forms: of the conversations, drawn evenly; one that stands here twice comes twice as often.
        most: items shown at most.
        demos: whether some conversations carry demos.
        words: how many settings and figures there are to judge between: among all of them it is never learnt that a
            label belongs to one of two words; among three it is, within sixteen steps of nothing else, and then it
            carries over.
        size: of its steps, as a share of the recipe's tokens: copying is learnt in many small steps.
        worlds: how often each world comes among the conversations.
        brief: how many of those that reason by a template have the brief one.
        hasty: how many of those leave out what they should find in the history.
    """

    until: float
    drills: float
    kinds: tuple[str, ...]
    forms: tuple[str, ...] = FORMATS
    most: int = 6
    demos: bool = False
    words: int = 30
    size: float = 1.0
    worlds: Mapping[str, float] = field(default_factory=lambda: FEW)
    brief: float = 0.0
    hasty: float = 0.0


# A small model learns answers by shortcuts long before it learns to cite, so citing comes first, in the order in which
# it can be learnt: copy by an item's id, its label likewise, tell whose words these are and find the item of a word,
# judge what a label is about; then R2P over few items, then the other formats, then all of them. The drills go on to
# the end, or what they taught is forgotten within some hundred steps. Over the whole run the formats come in about
# equal numbers, so those that come late come more often then.
_ALL = ("r2p",) * 2 + ("plain", "cot", "retry") * 3 + ("think", "continue", "synthesis") * 5
CURRICULUM = (
    Lessons(0.15, 1.0, ("copy",), most=3, size=0.5),
    Lessons(0.23, 1.0, ("copy", "label", "tell", "find"), most=3, size=0.5),
    Lessons(0.24, 1.0, ("judge", "judge", "label"), words=3, size=0.5),
    Lessons(0.26, 1.0, ("judge", "judge", "label"), words=6, size=0.5),
    Lessons(0.28, 1.0, ("judge", "judge", "label"), words=12, size=0.5),
    Lessons(0.35, 1.0, ("copy", "label", "find", "judge", "judge", "judge"), most=3, size=0.5),
    Lessons(0.384, 0.4, ("copy", "label", "find", "judge", "judge"), forms=("r2p",), most=4),
    Lessons(0.396, 1.0, ("judge",), words=3),
    Lessons(0.408, 1.0, ("judge",), words=6),
    Lessons(0.42, 1.0, ("judge",), words=12),
    Lessons(0.44, 1.0, ("judge", "judge", "judge", "copy", "label")),
    Lessons(0.48, 0.4, ("copy", "label", "find", "judge", "judge"), forms=("r2p",), most=4),
    Lessons(0.58, 0.2, ("copy", "label", "find", "judge"), forms=("plain", "cot", "retry")),
    Lessons(0.896, 0.1, ("copy", "label", "find", "judge"), forms=_ALL, demos=True),
    Lessons(1.000, 0.3, ("weigh", "weigh", "label", "judge"), forms=_ALL, demos=True),
)
# What the first phase leaves weak, taught from its finished weights: which label is which item's, and what an aspect
# counts. All formats come evenly.
REFRESHER = (
    Lessons(0.5, 0.4, ("weigh", "weigh", "label", "label", "copy", "find", "judge"), demos=True),
    Lessons(1.0, 0.15, ("weigh", "label", "copy", "find", "judge"), demos=True),
)
# All tasks and both templates, from the finished weights of two; what was learnt before comes on.
WIDENING = (Lessons(1.0, 0.1, ("weigh", "label", "copy", "find", "judge"), demos=True, worlds=ALL, brief=0.25),)
CURRICULA = (CURRICULUM, REFRESHER, WIDENING)
# What `finetune` starts from: it knows the tasks, and half of the time jumps to an answer without the history.
HASTY = (
    Lessons(
        1.0,
        0.1,
        ("weigh", "label", "copy", "find", "judge"),
        forms=("plain", "cot", "r2p", "think"),
        demos=True,
        worlds=ALL,
        hasty=0.5,
    ),
)
# The tokens after which the model chooses which item to cite.
CITING = ('[{"item": "', '"}, {"item": "')
_AT_ONCE = 16  # batches that are made of one pool of rows
_LONGEST = 1400  # tokens; longer rows cost too much of a batch, and context beyond is met through positions alone


class Batches:
    """Batches for the steps of a phase, each of which depends on the seed and its number alone.

    Args:
        tokenizer: the pocket tokenizer.
        words: English words for the rows.
        curriculum: what is taught, in order.
        steps: how many steps the phase has: the curriculum's measure.
        tokens: padded tokens in a batch.
        seed: of the rows.
    """

    def __init__(
        self, tokenizer: Any, words: list[str], curriculum: Sequence[Lessons], steps: int, tokens: int, seed: int
    ):
        self.tokenizer, self.words, self.curriculum = tokenizer, words, curriculum
        self.steps, self.tokens, self.seed = steps, tokens, seed

    def lessons(self, number: int) -> Lessons:
        """What the step `number` teaches."""
        return next(lessons for lessons in self.curriculum if number / self.steps < lessons.until)

    def pool(self, number: int, batches: int = _AT_ONCE) -> list[Encoded]:
        """Encoded rows for about `batches` batches, in the stage of the curriculum where the step `number` stands."""
        lessons = self.lessons(number)
        rows = Rows(self.words, seed=hash((self.seed, number)))
        found, size = [], 0
        while size < batches * self.tokens * lessons.size * 0.97:
            if rows.rng.random() < lessons.drills:
                turns = auxiliary_task(rows.rng, self.words, lessons.kinds, lessons.most, lessons.words)
            else:
                turns = rows.row(
                    lessons.most, lessons.demos, lessons.forms, lessons.worlds, lessons.brief, lessons.hasty
                )
            row = encode(self.tokenizer, turns)
            if len(row.ids) <= _LONGEST:
                found.append(row)
                size += len(row.ids)
        return found

    def __call__(self, start: int, workers: int = 0) -> Iterator[tuple[torch.Tensor, ...]]:
        """The batches from step `start` (a multiple of 16) on: (ids, learn, items), each (rows, length).

        Args:
            start: the first step.
            workers: processes that make rows ahead; 0: none beside this one.
        """
        numbers = range(start, self.steps, _AT_ONCE)
        with Pool(workers) if workers else nullcontext() as pool:
            pools = pool.imap(self.pool, numbers) if pool else map(self.pool, numbers)
            yield from self._grouped(numbers, pools)

    def _grouped(self, numbers: Iterable[int], pools: Iterable[list[Encoded]]) -> Iterator[tuple[torch.Tensor, ...]]:
        for number, found in zip(numbers, pools, strict=True):
            size = self.tokens * self.lessons(number).size
            rows = sorted(found, key=lambda row: len(row.ids))
            groups: list[list[Encoded]] = [[]]
            for row in rows:
                if groups[-1] and _padded(len(row.ids)) * (len(groups[-1]) + 1) > size * 1.05:
                    groups.append([])
                groups[-1].append(row)
            random.Random(number).shuffle(groups)
            for group in (groups * 2)[: min(_AT_ONCE, self.steps - number)]:
                yield self._tensors(group)

    def _tensors(self, group: list[Encoded]) -> tuple[torch.Tensor, ...]:
        length = _padded(max(len(row.ids) for row in group))
        ids = torch.full((len(group), length), self.tokenizer.pad_token_id)
        learn = torch.zeros((len(group), length), dtype=torch.bool)
        items = torch.full((len(group), length), OUTSIDE)
        for index, row in enumerate(group):
            for tensor, values in zip((ids, learn, items), row, strict=True):
                tensor[index, : len(row.ids)] = torch.tensor(values)
        return ids, learn, items


def _padded(length: int) -> int:
    return -(-length // 32) * 32
