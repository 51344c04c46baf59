"""Keys and values of a batch whose rows come and go. Each row has a slot, filled from its first column."""

from __future__ import annotations

from typing import Any

import torch
from transformers import Cache, DynamicCache
from transformers.cache_utils import CacheLayerMixin

# A row must get the same numbers whatever runs beside it. On a CPU matrix products round differently below four rows,
# and attention rounds differently when the width is not a multiple of 16. So a step has at least four rows, and its
# width is a multiple of 16.
_ROWS = 4
_COLUMNS = 16
_SPARE = 64  # columns of a buffer beyond those that were needed when it grew


class SlotCache(Cache):  # type: ignore[misc, unused-ignore]  # mypy does not follow transformers
    """The keys and values of the running rows, for a decoder-only model with full attention.

    Column c of a slot holds position c of that row's text. So rows of any length stand side by side without padding
    between them, joining copies one row, and the last row replaces a row that leaves. (transformers' `DynamicCache`
    concatenates the whole batch anew for every token: at 16 rows of 1,000 tokens that costs as much as the model.)

    A step is `inputs(tokens)`, one forward pass with the result as keyword arguments, then `advance()`. Beyond `limit`
    tokens (rows x columns) buffers do not grow ahead of need.
    """

    layers: list[Any]  # `_SlotLayer`; transformers declares a list of its own class

    def __init__(self, limit: int) -> None:
        super().__init__(layers=[])
        self.limit = limit
        self.lengths: list[int] = []  # of each slot in use
        self.width = 0  # columns that this step looks at
        self.slots = self.columns = torch.empty(0)  # where this step writes

    @staticmethod
    def slots_for(rows: int) -> int:
        """Slots that so many rows take, with the idle rows that fill up a step. A single row takes one slot."""
        return rows if rows == 1 else max(rows, _ROWS)

    def reserve(self, rows: int, columns: int) -> None:
        """Make room for rows of up to `columns` columns. Growth is geometric, so that appending stays cheap."""
        columns = max([columns, *(length + 1 for length in self.lengths)])
        for layer in self.layers:
            layer.reserve(self.slots_for(rows), columns, used=len(self.lengths))

    def join(self, prefilled: DynamicCache) -> None:
        """Add the row of a forward pass over its prompt."""
        if not self.layers:
            self.layers = [_SlotLayer(self, layer.keys, layer.values) for layer in prefilled.layers]
        length = prefilled.get_seq_length()
        self.reserve(len(self.lengths) + 1, length + 1)
        for layer, source in zip(self.layers, prefilled.layers, strict=True):
            layer.put(len(self.lengths), source.keys[0], source.values[0])
        self.lengths.append(length)

    def leave(self, slot: int) -> None:
        """Free a slot; the last row moves into it. An empty cache releases its memory."""
        last = len(self.lengths) - 1
        if slot != last:
            length = self.lengths[slot] = self.lengths[last]
            for layer in self.layers:
                layer.put(slot, layer.keys[last, :, :length], layer.values[last, :, :length])
        self.lengths.pop()
        if not self.lengths:
            self.layers = []

    def inputs(self, tokens: list[int], device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
        """Keyword arguments of the forward pass that appends one token to every slot in use.

        The pass may have more rows than there are tokens; ignore the logits of the additional rows.
        """
        idle = max(0, _ROWS - len(tokens))
        self.width = -(-(max(self.lengths) + 1) // _COLUMNS) * _COLUMNS
        self.reserve(len(tokens), self.width)
        self.columns = torch.tensor(self.lengths + [0] * idle, device=device)
        self.slots = torch.arange(len(tokens), device=device)
        hidden = torch.arange(self.width, device=device) > self.columns[:, None]
        mask = torch.zeros(hidden.shape, device=device, dtype=dtype).masked_fill_(hidden, torch.finfo(dtype).min)
        return {
            "input_ids": torch.tensor(tokens + [0] * idle, device=device)[:, None],
            "position_ids": self.columns[:, None],
            # With four dimensions the model takes the mask as it is, and does not derive one at every step.
            "attention_mask": mask[:, None, None, :],
            "past_key_values": self,
        }

    def advance(self) -> None:
        """Count the token that the last forward pass appended to every slot."""
        self.lengths = [length + 1 for length in self.lengths]


class _SlotLayer(CacheLayerMixin):  # type: ignore[misc, unused-ignore]
    is_sliding = False
    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self, cache: SlotCache, keys: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__()
        self.cache = cache
        self.is_initialized = True
        self.keys, self.values = (x.new_zeros(0, x.shape[1], 0, x.shape[3]) for x in (keys, values))

    def reserve(self, rows: int, columns: int, used: int) -> None:
        have_rows, _, have_columns, _ = self.keys.shape
        if rows <= have_rows and columns <= have_columns:
            return
        grown_rows = have_rows if rows <= have_rows else max(rows, 2 * have_rows)
        grown_columns = have_columns if columns <= have_columns else max(columns, have_columns * 3 // 2) + _SPARE
        if grown_rows * grown_columns > self.cache.limit:
            grown_rows, grown_columns = rows, columns + _SPARE
        kept = min(have_columns, grown_columns)
        for name in ("keys", "values"):
            old = getattr(self, name)
            # Zeros: values beyond the end of a row are masked, but a masked NaN would still spread.
            new = old.new_zeros(grown_rows, old.shape[1], grown_columns, old.shape[3])
            new[:used, :, :kept] = old[:used, :, :kept]
            setattr(self, name, new)

    def put(self, slot: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        self.keys[slot, :, : keys.shape[1]] = keys
        self.values[slot, :, : values.shape[1]] = values

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        cache, rows, used = self.cache, len(key_states), len(self.cache.lengths)
        columns = cache.columns[:used]
        self.keys[cache.slots, :, columns] = key_states[:used, :, 0]
        self.values[cache.slots, :, columns] = value_states[:used, :, 0]
        keys, values = self.keys[:rows, :, : cache.width], self.values[:rows, :, : cache.width]
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
