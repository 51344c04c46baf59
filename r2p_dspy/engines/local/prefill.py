"""The forward passes over prompts. Beginnings that prompts share are computed once."""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel

from r2p_dspy.engines.local.slots import cache_argument

# Prompts of a program begin with the same instructions and demos, and a retry begins with the first attempt. Smaller
# chunks share more of that; larger chunks need fewer passes.
_CHUNK = 256

_Layers = list[tuple[torch.Tensor, torch.Tensor]]  # keys and values of one chunk, layer by layer


class Prefill:
    """Computes prompts, and remembers the beginnings of the latest prompts.

    A prompt is always computed chunk by chunk, whether the chunks before are remembered or computed now. So its keys
    and values are the same to the bit, whatever ran before. At most `limit` tokens are remembered.
    """

    def __init__(self, model: PreTrainedModel, limit: int) -> None:
        self._model, self._cache_argument = model, cache_argument(model)
        self._room = limit // _CHUNK
        self._known: OrderedDict[bytes, _Layers] = OrderedDict()

    def __call__(self, prompt: list[int]) -> tuple[DynamicCache, torch.Tensor]:
        """The keys and values of a prompt (at least one token), and the logits after it, of shape (1, vocabulary)."""
        names = list(_names(prompt))
        chunks = []
        for name in names:
            if (layers := self._known.get(name)) is None:
                break
            chunks.append(layers)
        cache = _joined(chunks)
        for index in range(len(chunks), len(names)):
            self._compute(prompt[index * _CHUNK : (index + 1) * _CHUNK], cache)
            self._remember(names[index], cache)
        # The first chunk is dropped last: without it the others could not be found.
        for name in reversed(names):
            if name in self._known:
                self._known.move_to_end(name)
        return cache, self._compute(prompt[len(names) * _CHUNK :], cache)

    def clear(self) -> None:
        """Forget all chunks."""
        self._known.clear()

    def _compute(self, ids: list[int], cache: DynamicCache) -> torch.Tensor:
        tokens = torch.tensor([ids], device=self._model.device)
        output = self._model(input_ids=tokens, use_cache=True, logits_to_keep=1, **{self._cache_argument: cache})
        logits: torch.Tensor = output.logits[:, -1]
        return logits

    def _remember(self, name: bytes, cache: Any) -> None:  # Any: transformers does not type the layers of a cache
        if not self._room:
            return
        last = slice(-_CHUNK, None)
        self._known[name] = [
            (layer.keys[:, :, last].clone(), layer.values[:, :, last].clone()) for layer in cache.layers
        ]
        while len(self._known) > self._room:
            self._known.popitem(last=False)


def _names(prompt: list[int]) -> Iterator[bytes]:
    """A hash of each whole chunk of a prompt and all tokens before it. The last token is never part of a chunk."""
    digest = hashlib.blake2b(digest_size=16)
    for start in range(0, (len(prompt) - 1) // _CHUNK * _CHUNK, _CHUNK):
        digest.update(array("q", prompt[start : start + _CHUNK]).tobytes())
        yield digest.digest()


def _joined(chunks: list[_Layers]) -> DynamicCache:
    cache = DynamicCache()
    for layer, parts in enumerate(zip(*chunks, strict=True)):
        keys, values = zip(*parts, strict=True)
        cache.update(torch.cat(keys, dim=2), torch.cat(values, dim=2), layer)
    return cache
