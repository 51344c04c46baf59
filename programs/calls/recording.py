"""A language model whose calls go through the ledger and past the meter."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import dspy
from dspy.clients.call_result import attributes
from dspy.clients.legacy_outputs import plain
from dspy.lm15 import Request
from dspy.utils.callback import with_callbacks
from dspy.utils.usage_tracker import UsageTracker

from programs.calls.cache import Call, CallCache, CallCacheFailed, Usage
from programs.calls.prices import cost, priced
from programs.calls.usage import UsageLimiter
from r2p_dspy.decoding.replay import Reading, noting, read_again
from r2p_dspy.decoding.steering import Steer, awaited
from r2p_dspy.errors import ConfigError

_APART = ("api_key", "cache", "timeout")  # settings that change no answer
_model: ContextVar[str | None] = ContextVar("r2p_recorded", default=None)  # whose call is under way
_known: ContextVar[Call | None] = ContextVar("r2p_known", default=None)  # what is to be answered with


def recorded(lm: dspy.LM, ledger: CallCache | None, meter: UsageLimiter) -> dspy.LM:
    """The same language model, whose completed calls are kept and answered from the ledger, and counted.

    A call that was completed before is answered as it was then, with the usage that it had and at no cost; who read
    along with it reads again. Two calls are the same when model, address, messages, settings, seed and rollout are.
    Usage as DSPy tracks it then also says `seconds`, `usd` and whether the call was `replayed`.

    Args:
        lm: any `dspy.LM`; it is not changed.
        ledger: where calls are kept; None keeps none, and counts.
        meter: what counts them, and stops them at the budget.

    Raises:
        ValueError: for a budget in dollars where the model's price is not known.
    """
    if "usd" in meter.budget.limits and not priced(lm.model):
        raise ConfigError(f"the price of {lm.model} is not known, so --max-usd cannot hold; give --max-tokens instead")
    # DSPy's own cache forgets the usage of what it answers.
    recording = lm.copy(cache=False) if ledger is not None else lm.copy()
    kind: Any = type(lm)
    recording.__class__ = _recording(kind)
    recording.ledger, recording.meter = ledger, meter
    return recording


@cache
def _recording(kind: Any) -> Any:
    return type(f"Recorded{kind.__name__}", (_Recorded, kind), {})


@dataclass
class _Made:
    """A call while it is made: what was asked, who reads along already, and then its outputs."""

    key: str | None
    ready: list[Steer] = field(default_factory=list)
    outputs: Any = None


class _Recorded:
    """What `recorded` puts before a language model's own class."""

    ledger: CallCache | None
    meter: UsageLimiter
    model: str
    kwargs: dict[str, Any]

    def __call__(self, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
        call: Any = super().__call__  # type: ignore[misc]
        if _model.get() == self.model:  # a part of a call
            return call(prompt, messages=messages, **kwargs)
        made, known = self._asked(prompt, messages, kwargs)
        if known is not None:
            return self._again(known, prompt, messages, kwargs)
        with self._making(made):
            made.outputs = call(prompt, messages=messages, **kwargs)
        return made.outputs

    async def acall(self, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
        call: Any = super().acall  # type: ignore[misc]
        if _model.get() == self.model:
            return await call(prompt, messages=messages, **kwargs)
        made, known = self._asked(prompt, messages, kwargs)
        if known is not None:
            return self._again(known, prompt, messages, kwargs)
        with self._making(made):
            made.outputs = await call(prompt, messages=messages, **kwargs)
        return made.outputs

    def _asked(self, prompt: Any, messages: Any, kwargs: dict[str, Any]) -> tuple[_Made, Call | None]:
        """A call that is to be made, and the same one if it was made before."""
        made = _Made(self._key(prompt, messages, kwargs))
        known = None
        if self.ledger is not None and made.key is not None:
            with self._stopping():
                known = self.ledger.known(made.key)
        if known is not None and (ready := read_again(known.readings)) is not None:
            made.ready, known = ready, None
        return made, known

    def _key(self, prompt: Any, messages: Any, kwargs: dict[str, Any]) -> str | None:
        """A digest of what is asked; None for what is not kept: streams, and requests that are typed already."""
        if dspy.settings.send_stream is not None or isinstance(prompt, Request) or "request" in kwargs:
            return None
        settings = {**self.kwargs, **kwargs}
        asked = {
            "model": self.model,
            "prompt": prompt,
            "messages": messages,
            "settings": {name: one for name, one in settings.items() if one is not None and name not in _APART},
            "kind": [getattr(self, name, None) for name in ("model_type", "reasoning", "prefix")],
            "read_along": awaited(),
        }
        try:
            return dspy.cache.cache_key(asked)
        except Exception:  # what has no JSON, as a user's own type in a setting
            return None

    def _again(self, known: Call, prompt: Any, messages: Any, kwargs: dict[str, Any]) -> Any:
        """Answer as then."""
        self.meter.replay(known.spent)
        self._tell(known.usage, known.spent, replayed=1)
        token = _known.set(known)
        try:
            return self._replay(prompt, messages=messages, **kwargs)
        finally:
            _known.reset(token)

    @with_callbacks  # who listens to calls hears of this one as of any
    def _replay(self, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
        known = _known.get()
        return attributes(known.outputs) if known is not None else None

    @contextmanager
    def _making(self, made: _Made) -> Iterator[None]:
        self.meter.admit()
        tracker, readings = UsageTracker(), list[Reading]()
        started, token = time.monotonic(), _model.set(self.model)
        try:
            with dspy.context(usage_tracker=tracker), noting(readings, made.ready):
                yield
        finally:
            _model.reset(token)
            usage = plain(tracker.get_total_tokens().get(self.model, {}))
            spent = self._spent(usage, time.monotonic() - started)
            try:
                if made.outputs is not None:
                    self._keep(made.key, Call(plain(made.outputs), usage, spent, readings))
            finally:
                self.meter.done(spent)
                if usage or made.outputs is not None:
                    self._tell(usage, spent, replayed=0)
                self._pass_on(tracker)

    def _keep(self, key: str | None, call: Call) -> None:
        if self.ledger is not None and key is not None:
            with self._stopping():
                self.ledger.keep(key, self.model, call)

    @contextmanager
    def _stopping(self) -> Iterator[None]:
        """What cannot be kept must not be begun."""
        try:
            yield
        except CallCacheFailed as failed:
            self.meter.close(failed)
            raise

    def _spent(self, usage: dict[str, Any], seconds: float) -> Usage:
        tokens = {kind: usage.get(f"{kind}_tokens") or 0 for kind in ("prompt", "completion")}
        return Usage(1, **tokens, usd=cost(self.model, tokens) or 0.0, seconds=round(seconds, 4))

    def _tell(self, usage: dict[str, Any], spent: Usage, replayed: int) -> None:
        if (tracker := dspy.settings.usage_tracker) is not None:
            own = {"seconds": spent.seconds, "usd": spent.usd, "replayed": replayed}
            tracker.add_usage(self.model, {**usage, **own})

    def _pass_on(self, inner: UsageTracker) -> None:
        """What other models were asked meanwhile, by a check that reads along."""
        if (tracker := dspy.settings.usage_tracker) is not None:
            for model, entries in inner.usage_data.items():
                if model != self.model:
                    tracker.usage_data[model].extend(entries)
