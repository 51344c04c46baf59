"""Keys and values of a batch whose rows come and go. Each row has a slot, filled from its first column."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import Cache, DynamicCache, PreTrainedModel
from transformers.cache_utils import CacheLayerMixin

# A row must get the same numbers whatever runs beside it. On a CPU matrix products round differently below four rows,
# and attention rounds differently when the width is not a multiple of 16, or with the number of tokens that a row
# reads. So a pass has at least four rows of products, its width is a multiple of 16, and a row's own unread tokens
# alone decide in which of these passes it takes part. (Passes of 32 tokens a row were not equal to the bit.)
PASSES = (16, 4, 1)  # tokens of a row
_ROWS = 4
_COLUMNS = 16
_SPARE = 64  # columns that a buffer grows by where memory is short


def pass_for(unread: int) -> int:
    """The pass, one of `PASSES`, in which a row with so many unread tokens takes part next.

    Two tokens are read one after the other: beside 16 other rows that is cheaper than a pass of their own.
    """
    return 1 if unread <= 2 else min((tokens for tokens in PASSES if tokens >= unread), default=PASSES[0])


def cache_argument(model: PreTrainedModel) -> str:
    """What a model's forward pass calls its cache: transformers 5.24 has renamed it."""
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"


class SlotCache(Cache):  # type: ignore[misc, unused-ignore]  # mypy does not follow transformers
    """The keys and values of the running rows, for a decoder-only model with full attention.

    Column c of a slot holds position c of that row's text. So rows of any length stand side by side without padding
    between them, joining copies one row, and the last row replaces a row that leaves. (transformers' `DynamicCache`
    concatenates the whole batch anew for every token: at 16 rows of 1,000 tokens that costs as much as the model.)

    A step is `inputs(…)`, one forward pass with the result as keyword arguments and this cache as `cache_argument(…)`,
    `last(logits)`, then `advance()`.
    Beyond `limit` tokens (rows x columns) buffers do not grow ahead of need.
    """

    layers: list[Any]  # `_SlotLayer`; transformers declares a list of its own class

    def __init__(self, limit: int) -> None:
        super().__init__(layers=[])
        self.limit = limit
        self.lengths: list[int] = []  # of each slot in use
        self._rooms: list[int] = []  # columns that each may fill at most
        self.width = 0  # columns that this pass looks at
        self.slots: list[int] = []  # the slots in this pass, one for each of its first rows
        self.written = (torch.empty(0), torch.empty(0))  # slots and columns that it writes, of (slots, 1 or tokens)
        self._counts: dict[int, int] = {}  # tokens that this pass adds to slots

    @staticmethod
    def slots_for(rows: int) -> int:
        """Slots that so many rows take, with the idle rows that fill up a step. A single row takes one slot."""
        return rows if rows == 1 else max(rows, _ROWS)

    @property
    def allocated(self) -> int:
        """Tokens that the buffers have room for now."""
        rows, columns = self._size()
        return rows * columns

    def _size(self) -> tuple[int, int]:
        """Rows and columns of the buffers; after a failed `reserve`, of the smallest."""
        sizes = [(layer.keys.shape[0], layer.keys.shape[2]) for layer in self.layers]
        return min((rows for rows, _ in sizes), default=0), min((columns for _, columns in sizes), default=0)

    def reserve(self, rows: int, columns: int, room: int = 0) -> None:
        """Make room for rows of up to `columns` columns, one of which may fill `room`.

        Growth is geometric, so that appending stays cheap, but only by steps of a quarter, and not beyond what the
        rows may fill: empty columns take memory from prompts that could be remembered.
        """
        have_rows, have_columns = self._size()
        rows, columns = self.slots_for(rows), max([columns, *(length + 1 for length in self.lengths)])
        if rows <= have_rows and columns <= have_columns:
            return
        most = -(-(max([room, *self._rooms]) + PASSES[0]) // _COLUMNS) * _COLUMNS
        grown_rows = have_rows if rows <= have_rows else max(rows, have_rows * 5 // 4)
        grown_columns = max(have_columns, columns, min(most, columns * 5 // 4))
        if grown_rows * grown_columns > self.limit:
            grown_rows, grown_columns = rows, max(columns, min(most, columns + _SPARE))
        for layer in self.layers:
            layer.resize(grown_rows, grown_columns, used=len(self.lengths))

    def join(self, prefilled: DynamicCache, room: int, more: int = 0) -> None:
        """Add the row of a forward pass over its prompt.

        Args:
            prefilled: the keys and values of that pass.
            room: columns that the row may fill at most.
            more: so many rows will join next.
        """
        if not self.layers:
            self.layers = [_SlotLayer(self, layer.keys, layer.values) for layer in prefilled.layers]
        length = prefilled.get_seq_length()
        self.reserve(len(self.lengths) + 1 + more, length + 1, room)
        for layer, source in zip(self.layers, prefilled.layers, strict=True):
            layer.put(len(self.lengths), source.keys[0], source.values[0])
        self.lengths.append(length)
        self._rooms.append(room)

    def leave(self, slot: int) -> None:
        """Free a slot; the last row moves into it. An empty cache releases its memory."""
        last = len(self.lengths) - 1
        if slot != last:
            length = self.lengths[slot] = self.lengths[last]
            self._rooms[slot] = self._rooms[last]
            for layer in self.layers:
                layer.put(slot, layer.keys[last, :, :length], layer.values[last, :, :length])
        self.lengths.pop()
        self._rooms.pop()
        if not self.lengths:
            self.layers = []

    def inputs(
        self, unread: Mapping[int, Sequence[int]], tokens: int, device: torch.device, dtype: torch.dtype
    ) -> dict[str, Any]:
        """Keyword arguments, beside the cache, of the forward pass that reads up to so many tokens of some slots.

        Args:
            unread: the tokens that follow what a slot holds; at least one for each slot in the pass.
            tokens: one of `PASSES`; a slot with fewer is filled up with tokens that leave no trace.
        """
        # A pass of single tokens runs over the buffers as they are, so slots that wait take part, and read nothing.
        self.slots = list(range(len(self.lengths))) if tokens == 1 else sorted(unread)
        taken = [[*unread.get(slot, [0])[:tokens]] for slot in self.slots]
        self._counts = {slot: len(read) for slot, read in zip(self.slots, taken, strict=True) if slot in unread}
        starts = [self.lengths[slot] for slot in self.slots]
        self.width = -(-(max(starts) + tokens) // _COLUMNS) * _COLUMNS
        self.reserve(len(self.lengths), self.width)
        # The last token stands last. The filling before it writes behind it, where the next tokens will.
        columns = [
            [start + (i + len(read)) % tokens for i in range(tokens)] for start, read in zip(starts, taken, strict=True)
        ]
        ids = [[0] * (tokens - len(read)) + read for read in taken]
        idle = max(0, _ROWS // tokens - len(taken))
        self.written = torch.tensor(self.slots, device=device)[:, None], torch.tensor(columns, device=device)
        every = torch.tensor(columns + [[0] * tokens] * idle, device=device)
        last = every[:, -1:]  # no position is beyond it, for a model may know none
        hidden = torch.arange(self.width, device=device) > every[:, :, None]
        mask = torch.zeros(hidden.shape, device=device, dtype=dtype).masked_fill_(hidden, torch.finfo(dtype).min)
        return {
            "input_ids": torch.tensor(ids + [[0] * tokens] * idle, device=device),
            "position_ids": torch.minimum(every, last),
            # With four dimensions the model takes the mask as it is, and does not derive one at every step.
            "attention_mask": mask[:, None],
            "logits_to_keep": min(tokens, _ROWS),
        }

    def last(self, logits: torch.Tensor, slots: list[int]) -> torch.Tensor:
        """The logits after the last tokens of some slots in the pass, of shape (slots, vocabulary)."""
        return logits[[self.slots.index(slot) for slot in slots], -1]

    def advance(self) -> None:
        """Count the tokens that the last forward pass added."""
        for slot, count in self._counts.items():
            self.lengths[slot] += count


class _SlotLayer(CacheLayerMixin):  # type: ignore[misc, unused-ignore]
    is_sliding = False
    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self, cache: SlotCache, keys: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__()
        self.cache = cache
        self.is_initialized = True
        self.keys, self.values = (x.new_zeros(0, x.shape[1], 0, x.shape[3]) for x in (keys, values))

    def resize(self, rows: int, columns: int, used: int) -> None:
        """Move the first `used` rows to buffers of another size."""
        kept = min(self.keys.shape[2], columns)

        def moved(old: torch.Tensor) -> torch.Tensor:
            # Zeros: values beyond the end of a row are masked, but a masked NaN would still spread.
            new = old.new_zeros(rows, old.shape[1], columns, old.shape[3])
            new[:used, :, :kept] = old[:used, :, :kept]
            return new

        self.keys, self.values = moved(self.keys), moved(self.values)  # both or none, if memory runs out

    def put(self, slot: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        self.keys[slot, :, : keys.shape[1]] = keys
        self.values[slot, :, : values.shape[1]] = values

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        cache, rows, used = self.cache, len(key_states), len(self.cache.slots)
        slots, columns = cache.written
        self.keys[slots, :, columns] = key_states[:used].transpose(1, 2)
        self.values[slots, :, columns] = value_states[:used].transpose(1, 2)
        first, last = cache.slots[0], cache.slots[-1]
        adjoin = last - first == used - 1  # then nothing is copied
        read = slice(first, first + rows) if adjoin else slots[:, 0]
        keys, values = (x[read, :, : cache.width] for x in (self.keys, self.values))
        if used == 1:
            return keys[:1].expand(rows, -1, -1, -1), values[:1].expand(rows, -1, -1, -1)
        return keys, values

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Do nothing: layers are made from prefilled ones."""

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.cache.width, 0

    def get_seq_length(self) -> int:
        return max(self.cache.lengths, default=0)

    def get_max_length(self) -> int:
        return -1
