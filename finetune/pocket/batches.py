"""Conversations as padded batches of about one size in tokens, with the tokens to learn marked."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from finetune.pocket.rows import FORMATS, Rows, Turn


@dataclass(frozen=True)
class Lessons:
    """A stretch of the curriculum.

    Args:
        until: its end, as a share of the steps.
        drills: the share of drills.
        kinds: of the drills, drawn evenly.
        forms: of the conversations, drawn evenly.
        most: items shown at most.
        demos: whether some conversations carry demos.
        words: how many settings and figures there are to judge between: among all of them it is never learnt that a
            label belongs to one of two words, among three it is within thirty steps, and then carries over.
        size: of its steps, as a share of the recipe's tokens: copying is learnt in many small steps.
    """

    until: float
    drills: float
    kinds: tuple[str, ...]
    forms: tuple[str, ...] = FORMATS
    most: int = 6
    demos: bool = False
    words: int = 30
    size: float = 1.0


# A small model learns answers by shortcuts long before it learns to cite, so citing comes first, in the order in which
# it can be learnt: copy by an item's id, its label likewise, tell whose words these are and find the item of a word,
# judge what a label is about; then R2P over few items, then the other formats, then all of them. The drills go on to
# the end, or what they taught is forgotten within some hundred steps. Over the whole run the four formats come in about
# equal numbers.
CURRICULUM = (
    Lessons(0.15, 1.0, ("copy",), most=3, size=0.5),
    Lessons(0.23, 1.0, ("copy", "label", "tell", "find"), most=3, size=0.5),
    Lessons(0.24, 1.0, ("judge", "judge", "label"), words=3, size=0.5),
    Lessons(0.26, 1.0, ("judge", "judge", "label"), words=6, size=0.5),
    Lessons(0.28, 1.0, ("judge", "judge", "label"), words=12, size=0.5),
    Lessons(0.35, 1.0, ("copy", "label", "find", "judge", "judge", "judge"), most=3, size=0.5),
    Lessons(0.42, 0.4, ("copy", "label", "find", "judge", "judge"), forms=("r2p",), most=4),
    Lessons(0.60, 0.2, ("copy", "label", "find", "judge"), forms=("plain", "cot", "retry")),
    Lessons(1.00, 0.1, ("copy", "label", "find", "judge"), demos=True),
)
# The tokens after which the model chooses which item to cite.
CITING = ('[{"item": "', '"}, {"item": "')
_NONE = -100  # what cross-entropy leaves out
_LONGEST = 1400  # tokens; longer rows cost too much of a batch, and context beyond is met through positions alone


class Encoded(NamedTuple):
    """A conversation's tokens; which of them the model learns to write; and of each the id of the item it stands in.

    An id is that of its token, and `_NONE` where a token stands in no item.
    """

    ids: list[int]
    learn: list[bool]
    items: list[int]


def encode(tokenizer: Any, row: list[Turn]) -> Encoded:
    """A conversation's tokens.

    Learnt are the answers with the end marker after them, and the labels in the histories: from these the model learns
    the world, that is, which labels a text suggests to anybody, and how one user's labels hang together.
    """
    found = Encoded([], [], [])
    opening = {tokenizer.convert_tokens_to_ids(joint) for joint in ('{"item": "', '"}\n{"item": "')}
    closing, label = (tokenizer.convert_tokens_to_ids(joint) for joint in ('"}', '", "label": "'))
    for turn in row:
        text = tokenizer(turn.content, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        found.ids.extend([tokenizer.convert_tokens_to_ids(f"<|{turn.role}|>"), *text, tokenizer.eos_token_id])
        current, before, inside, labels, labelling = _NONE, _NONE, [], [], False
        for token in text:
            if token in opening or token == closing:
                current, labelling = _NONE, False
            inside.append(current)
            labels.append(labelling)
            if before in opening:
                current = token
            labelling = labelling or token == label
            before = token
        answered = turn.learn and turn.role == "assistant"
        learnt = labels if turn.learn and turn.role == "user" else [answered] * len(text)
        found.learn.extend([False, *learnt, answered])
        found.items.extend([_NONE, *(inside if turn.role == "user" else [_NONE] * len(text)), _NONE])
    return found


class Batches:
    """Batches for the steps of a training, each of which depends on the seed and its number alone.

    Args:
        tokenizer: the pocket tokenizer.
        words: English words for the rows.
        steps: how many steps the training has: the curriculum's measure.
        tokens: padded tokens in a batch.
        seed: of the rows.
    """

    def __init__(self, tokenizer: Any, words: list[str], steps: int, tokens: int, seed: int):
        self.tokenizer, self.words, self.steps, self.tokens, self.seed = tokenizer, words, steps, tokens, seed

    def lessons(self, number: int) -> Lessons:
        """What the step `number` teaches."""
        return next(lessons for lessons in CURRICULUM if number / self.steps < lessons.until)

    def pool(self, number: int, batches: int) -> list[Encoded]:
        """Encoded rows for about `batches` batches, in the stage of the curriculum where the step `number` stands."""
        lessons = self.lessons(number)
        rows = Rows(self.words, seed=hash((self.seed, number)))
        found, size = [], 0
        while size < batches * self.tokens * lessons.size * 0.97:
            drill = rows.rng.random() < lessons.drills
            row = encode(
                self.tokenizer,
                rows.drill(lessons.kinds, lessons.most, lessons.words)
                if drill
                else rows.row(lessons.most, lessons.demos, lessons.forms),
            )
            if len(row.ids) <= _LONGEST:
                found.append(row)
                size += len(row.ids)
        return found

    def __call__(self, start: int, every: int = 16) -> Iterator[tuple[torch.Tensor, ...]]:
        """The batches from step `start` (a multiple of `every`) on: (ids, learn, items), each (rows, length)."""
        for number in range(start, self.steps, every):
            size = self.tokens * self.lessons(number).size
            rows = sorted(self.pool(number, every), key=lambda row: len(row.ids))
            groups: list[list[Encoded]] = [[]]
            for row in rows:
                if groups[-1] and _padded(len(row.ids)) * (len(groups[-1]) + 1) > size * 1.05:
                    groups.append([])
                groups[-1].append(row)
            random.Random(number).shuffle(groups)
            for group in (groups * 2)[: min(every, self.steps - number)]:
                yield self._tensors(group)

    def _tensors(self, group: list[Encoded]) -> tuple[torch.Tensor, ...]:
        length = _padded(max(len(row.ids) for row in group))
        ids = torch.full((len(group), length), self.tokenizer.pad_token_id)
        learn = torch.zeros((len(group), length), dtype=torch.bool)
        items = torch.full((len(group), length), _NONE)
        for index, row in enumerate(group):
            for tensor, values in zip((ids, learn, items), row, strict=True):
                tensor[index, : len(row.ids)] = torch.tensor(values)
        return ids, learn, items


def _padded(length: int) -> int:
    return -(-length // 32) * 32
