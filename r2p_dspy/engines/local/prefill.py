"""The forward passes over prompts. Prompts that recur, and beginnings that prompts share, are computed once."""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel

from r2p_dspy.engines.local.slots import cache_argument

# Prompts of a program begin with the same instructions and demos, and a retry begins with the first attempt. Smaller
# chunks share more of that; larger chunks need fewer passes.
_CHUNK = 256


@dataclass(frozen=True)
class _Chunk:
    """What the model computed of one chunk."""

    layers: list[tuple[torch.Tensor, torch.Tensor]]  # keys and values
    logits: torch.Tensor  # after its last token, of shape (1, vocabulary)
    tokens: int


class Prefill:
    """Computes prompts, and remembers the latest ones.

    A prompt is always computed chunk by chunk, whether the chunks before are remembered or computed now. So its keys
    and values are the same to the bit, whatever ran before. At most `limit` tokens are remembered.
    """

    def __init__(self, model: PreTrainedModel, limit: int) -> None:
        self._model, self._cache_argument = model, cache_argument(model)
        self._limit = limit
        self._known: OrderedDict[bytes, _Chunk] = OrderedDict()

    def __call__(self, prompt: list[int]) -> tuple[DynamicCache, torch.Tensor]:
        """The keys and values of a prompt (at least one token), and the logits after it, of shape (1, vocabulary)."""
        names = list(_names(prompt))
        chunks = []
        for name in names:
            if (chunk := self._known.get(name)) is None:
                break
            chunks.append(chunk)
        cache = _joined(chunks)
        logits = chunks[-1].logits if chunks else torch.empty(0)
        for index in range(len(chunks), len(names)):
            ids = prompt[index * _CHUNK : (index + 1) * _CHUNK]
            logits = self._compute(ids, cache)
            if index * _CHUNK + len(ids) <= self._limit:
                self._remember(names[index], len(ids), cache, logits)
        # The first chunk is dropped last: without it the others could not be found.
        for name in reversed(names):
            if name in self._known:
                self._known.move_to_end(name)
        self.resize(self._limit)
        return cache, logits

    def resize(self, limit: int) -> None:
        """Remember at most `limit` tokens from now on; what is too much is forgotten at once."""
        self._limit = limit
        held = sum(chunk.tokens for chunk in self._known.values())
        while held > limit:
            _, chunk = self._known.popitem(last=False)
            held -= chunk.tokens

    def _compute(self, ids: list[int], cache: DynamicCache) -> torch.Tensor:
        tokens = torch.tensor([ids], device=self._model.device)
        output = self._model(input_ids=tokens, use_cache=True, logits_to_keep=1, **{self._cache_argument: cache})
        logits: torch.Tensor = output.logits[:, -1]
        return logits

    def _remember(self, name: bytes, tokens: int, cache: Any, logits: torch.Tensor) -> None:
        # `cache` is Any: transformers does not type the layers of a cache.
        last = slice(-tokens, None)
        layers = [(layer.keys[:, :, last].clone(), layer.values[:, :, last].clone()) for layer in cache.layers]
        self._known[name] = _Chunk(layers, logits, tokens)


def _names(prompt: list[int]) -> Iterator[bytes]:
    """A hash of each chunk of a prompt and all tokens before it."""
    digest = hashlib.blake2b(digest_size=16)
    for start in range(0, len(prompt), _CHUNK):
        digest.update(array("q", prompt[start : start + _CHUNK]).tobytes())
        yield digest.digest()


def _joined(chunks: list[_Chunk]) -> DynamicCache:
    cache = DynamicCache()
    for layer, parts in enumerate(zip(*(chunk.layers for chunk in chunks), strict=True)):
        keys, values = zip(*parts, strict=True)
        cache.update(torch.cat(keys, dim=2), torch.cat(values, dim=2), layer)
    return cache
