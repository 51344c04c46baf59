"""The `dspy.LM` of an in-process model."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import count

import dspy

_sample: ContextVar[tuple[int | None, Iterator[int]] | None] = ContextVar("r2p_sample", default=None)


class LocalLM(dspy.LM):
    """A `dspy.LM` whose engine knows which sample of a prompt is asked for.

    DSPy tells samples apart by `rollout_id` (optimizers, BestOfN) and `n`, and takes both out of the request before the
    engine sees it. A served model answers differently anyway; an engine that repeats itself for the same request would
    give every rollout the same text. `r2p_dspy.connect` makes these; nobody else needs to.
    """

    def __call__(self, prompt=None, *, messages=None, **kwargs):
        with self._sampling(kwargs):
            return super().__call__(prompt, messages=messages, **kwargs)

    async def acall(self, prompt=None, *, messages=None, **kwargs):
        with self._sampling(kwargs):
            return await super().acall(prompt, messages=messages, **kwargs)

    @contextmanager
    def _sampling(self, kwargs: dict) -> Iterator[None]:
        token = _sample.set((kwargs.get("rollout_id", self.kwargs.get("rollout_id")), count()))
        try:
            yield
        finally:
            _sample.reset(token)


def next_sample() -> tuple[int | None, int]:
    """The rollout that the current LM call belongs to, and which of the call's candidates is due, from 0."""
    sample = _sample.get()
    return (None, 0) if sample is None else (sample[0], next(sample[1]))


def seeded(seed: int | None, prompt: list[int]) -> int:
    """A stable number from a request's seed, the sample that is asked for and the prompt's token ids."""
    # With the prompt in it, examples that share a seed (`--seed 0`) do not share their random numbers.
    digest = hashlib.blake2b(repr((seed, *next_sample())).encode() + array("q", prompt).tobytes(), digest_size=8)
    return int.from_bytes(digest.digest(), "big") >> 1
