"""The curriculum, and its conversations as padded batches of about equal size in tokens."""

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
class Stage:
    """A stage of the curriculum; its kinds and forms are drawn evenly, and one listed twice comes twice as often."""

    until: float  # its end, as a share of the steps
    auxiliary: float  # share of auxiliary tasks
    kinds: tuple[str, ...]  # of the auxiliary tasks
    forms: tuple[str, ...] = FORMATS  # of the conversations
    most: int = 6  # limit of the items shown
    demos: bool = False  # some conversations carry demos
    # Number of settings and of figures to judge between. Among all of them the model never learns that a label belongs
    # to one of two words; among three it does within sixteen steps of nothing else, and then it generalizes.
    words: int = 30
    # Size of a step, as a share of the recipe's tokens; copying is learned in many small steps.
    size: float = 1.0
    worlds: Mapping[str, float] = field(default_factory=lambda: FEW)  # their shares of the conversations
    brief: float = 0.0  # share of the brief template among conversations that reason by a template
    hasty: float = 0.0  # share of those that skip the user's history


# A small model learns answers by shortcuts long before it learns to cite. So citing comes first, in the order in which
# it can be learned: copy an item's words and its label by its id, tell whose words these are, find the item of a word,
# judge what a label is about; then R2P over few items, the other formats, and all of them. Auxiliary tasks continue to
# the end: without them the model forgets within some hundred steps. Over the whole run the formats come in about equal
# numbers, so late formats come more often.
_ALL = ("r2p",) * 2 + ("plain", "cot", "retry") * 3 + ("think", "continue", "synthesis") * 5
CURRICULUM = (
    Stage(0.15, 1.0, ("copy",), most=3, size=0.5),
    Stage(0.23, 1.0, ("copy", "label", "tell", "find"), most=3, size=0.5),
    Stage(0.24, 1.0, ("judge", "judge", "label"), words=3, size=0.5),
    Stage(0.26, 1.0, ("judge", "judge", "label"), words=6, size=0.5),
    Stage(0.28, 1.0, ("judge", "judge", "label"), words=12, size=0.5),
    Stage(0.35, 1.0, ("copy", "label", "find", "judge", "judge", "judge"), most=3, size=0.5),
    Stage(0.384, 0.4, ("copy", "label", "find", "judge", "judge"), forms=("r2p",), most=4),
    Stage(0.396, 1.0, ("judge",), words=3),
    Stage(0.408, 1.0, ("judge",), words=6),
    Stage(0.42, 1.0, ("judge",), words=12),
    Stage(0.44, 1.0, ("judge", "judge", "judge", "copy", "label")),
    Stage(0.48, 0.4, ("copy", "label", "find", "judge", "judge"), forms=("r2p",), most=4),
    Stage(0.58, 0.2, ("copy", "label", "find", "judge"), forms=("plain", "cot", "retry")),
    Stage(0.896, 0.1, ("copy", "label", "find", "judge"), forms=_ALL, demos=True),
    Stage(1.000, 0.3, ("weigh", "weigh", "label", "judge"), forms=_ALL, demos=True),
)
# What the first phase leaves weak, learned from its finished weights: which item has which label, and what an aspect
# counts. All formats come evenly.
REFRESHER = (
    Stage(0.5, 0.4, ("weigh", "weigh", "label", "label", "copy", "find", "judge"), demos=True),
    Stage(1.0, 0.15, ("weigh", "label", "copy", "find", "judge"), demos=True),
)
# All tasks and both templates, from the finished weights of the second phase; earlier lessons continue.
WIDENING = (Stage(1.0, 0.1, ("weigh", "label", "copy", "find", "judge"), demos=True, worlds=ALL, brief=0.25),)
CURRICULA = (CURRICULUM, REFRESHER, WIDENING)
# The student that `finetune` starts from knows the tasks, and answers without the history half of the time.
HASTY = (
    Stage(
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
_POOLED = 16  # batches made of one pool of rows
_LONGEST = 1400  # tokens; longer rows take too much of a batch


class Batches:
    """The batches of a phase, of up to `tokens` padded tokens; each depends only on the seed and its number."""

    def __init__(
        self, tokenizer: Any, words: list[str], curriculum: Sequence[Stage], steps: int, tokens: int, seed: int
    ):
        self.tokenizer, self.words, self.curriculum = tokenizer, words, curriculum
        self.steps, self.tokens, self.seed = steps, tokens, seed

    def stage(self, step: int) -> Stage:
        """The curriculum's stage at a step."""
        return next(stage for stage in self.curriculum if step / self.steps < stage.until)

    def pool(self, step: int, batches: int = _POOLED) -> list[Encoded]:
        """Encoded rows for about `batches` batches, from the stage of a step."""
        stage = self.stage(step)
        rows = Rows(self.words, seed=hash((self.seed, step)))
        pool, size = [], 0
        while size < batches * self.tokens * stage.size * 0.97:
            if rows.rng.random() < stage.auxiliary:
                turns = auxiliary_task(rows.rng, self.words, stage.kinds, stage.most, stage.words)
            else:
                turns = rows.row(stage.most, stage.demos, stage.forms, stage.worlds, stage.brief, stage.hasty)
            row = encode(self.tokenizer, turns)
            if len(row.ids) <= _LONGEST:
                pool.append(row)
                size += len(row.ids)
        return pool

    def __call__(self, start: int, workers: int = 0) -> Iterator[tuple[torch.Tensor, ...]]:
        """The batches from step `start` (a multiple of 16) on, as (ids, learn, items), each of shape (rows, length).

        The rows are made ahead in `workers` processes, or with 0 in this one.
        """
        steps = range(start, self.steps, _POOLED)
        with Pool(workers) if workers else nullcontext() as processes:
            pools = processes.imap(self.pool, steps) if processes else map(self.pool, steps)
            yield from self._grouped(steps, pools)

    def _grouped(self, steps: Iterable[int], pools: Iterable[list[Encoded]]) -> Iterator[tuple[torch.Tensor, ...]]:
        for step, pool in zip(steps, pools, strict=True):
            size = self.tokens * self.stage(step).size
            rows = sorted(pool, key=lambda row: len(row.ids))
            groups: list[list[Encoded]] = [[]]
            for row in rows:
                if groups[-1] and _padded(len(row.ids)) * (len(groups[-1]) + 1) > size * 1.05:
                    groups.append([])
                groups[-1].append(row)
            random.Random(step).shuffle(groups)
            for group in (groups * 2)[: min(_POOLED, self.steps - step)]:
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
