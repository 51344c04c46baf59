"""The `dspy.LM` of an in-process model: it tells the engine which sample of a prompt is due."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from itertools import count
from typing import Any

import dspy
from dspy.utils.usage_tracker import UsageTracker

from r2p_dspy.decoding.constraining import active_constraint
from r2p_dspy.decoding.loops import stopping_loops
from r2p_dspy.decoding.steering import steer_factory

_sample: ContextVar[tuple[int | None, Iterator[int]] | None] = ContextVar("r2p_sample", default=None)
_passes: ContextVar[list[int] | None] = ContextVar("r2p_passes", default=None)  # of the answers of the current LM call


class LocalLM(dspy.LM):
    """A `dspy.LM` whose engine knows which sample of a prompt is due, and whether to stop an answer that loops.

    `r2p_dspy.connect` makes it.

    DSPy tells samples apart by `rollout_id` (optimizers, BestOfN) and `n`, and removes both from the request before the
    engine sees it. A served model draws again; a repeatable engine would give every rollout the same text.

    Steered calls are not cached: the cache would return the corrected text as if nothing had been corrected. Nor are
    constrained ones: its key does not tell constraints apart.

    `dspy.track_usage` shows the `forward_passes` of a call beside its tokens.
    """

    # Any: the arguments and outputs of `dspy.LM`, which are untyped. What a call is given is passed on as it comes:
    # DSPy's adapters give messages up to 3.4, and a typed prompt from 3.5 on.

    stop_loops = True  # a copy may differ: `lm.copy(stop_loops=False)`

    def __call__(self, *prompt: Any, **kwargs: Any) -> Any:
        with self._sampling(kwargs):
            return super().__call__(*prompt, **self._uncached(kwargs))

    async def acall(self, *prompt: Any, **kwargs: Any) -> Any:
        with self._sampling(kwargs):
            return await super().acall(*prompt, **self._uncached(kwargs))

    def _uncached(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        # An engine known by its name alone is a served one, which is neither steered nor constrained.
        held = steer_factory() is not None or active_constraint() is not None
        return {**kwargs, "cache": False} if held and not isinstance(self.engine, str) else kwargs

    def _stops_loops(self) -> bool:
        return self.stop_loops

    @contextmanager
    def _sampling(self, kwargs: dict[str, Any]) -> Iterator[None]:
        token = _sample.set((kwargs.get("rollout_id", self.kwargs.get("rollout_id")), count()))
        counted: list[int] = []
        passes = _passes.set(counted)
        tracker: UsageTracker | None = dspy.settings.usage_tracker
        try:
            tracked = nullcontext() if tracker is None else dspy.context(usage_tracker=_PassTracker(tracker, counted))
            with stopping_loops(self._stops_loops()), tracked:
                yield
        finally:
            _passes.reset(passes)
            _sample.reset(token)


class _PassTracker(UsageTracker):
    """Adds the forward passes of one LM call to its usage on the way to another tracker."""

    def __init__(self, tracker: UsageTracker, passes: list[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._tracker, self._passes = tracker, passes

    def add_usage(self, lm: str, usage_entry: dict[str, Any]) -> None:
        passes = {"forward_passes": sum(self._passes)} if self._passes else {}
        self._passes.clear()
        self._tracker.add_usage(lm, {**usage_entry, **passes})


def report_passes(passes: int) -> dict[str, Any]:
    """Count the forward passes of an answer for the current LM call; returns the `provider_data` of its response.

    DSPy's usage of a response has no field for them.
    """
    if (counted := _passes.get()) is not None:
        counted.append(passes)
    return {"forward_passes": passes}


def next_sample() -> tuple[int | None, int]:
    """The rollout of the current LM call, and the number, from 0, of the call's candidate that is due."""
    sample = _sample.get()
    return (None, 0) if sample is None else (sample[0], next(sample[1]))


def seeded(seed: int | None, prompt: list[int]) -> int:
    """A stable number from a request's seed, the sample that is due and the prompt's token ids."""
    # The prompt is part of it, so that examples with the same seed (`--seed 0`) draw different random numbers.
    digest = hashlib.blake2b(repr((seed, *next_sample())).encode() + array("q", prompt).tobytes(), digest_size=8)
    return int.from_bytes(digest.digest(), "big") >> 1
