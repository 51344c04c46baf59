"""Language models whose calls are cached, limited and counted."""

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import dspy
from dspy.lm15 import Request
from dspy.utils.callback import with_callbacks
from dspy.utils.exceptions import LMTimeoutError
from dspy.utils.usage_tracker import UsageTracker

from programs.calls.cache import Call, CallCacheFailed, StoredCalls, Usage
from programs.calls.patience import CallFailures
from programs.calls.prices import cost, priced
from programs.calls.rows import current_row
from programs.calls.usage import UsageLimiter
from r2p_dspy.decoding.constraining import active_constraint
from r2p_dspy.decoding.replay import Reading, record_readings, replay_readings
from r2p_dspy.decoding.steering import Steer, steer_factory
from r2p_dspy.dspy_internals import attribute_outputs, copy_as, is_streaming, plain_outputs
from r2p_dspy.engines.served.deadline import until
from r2p_dspy.errors import ConfigError
from r2p_dspy.prompting.replies import ListeningLM, Reply, collect_replies, report_reply

_NOT_IN_KEY = ("api_key", "cache", "timeout")  # settings that change no answer
_model_under_way: ContextVar[str | None] = ContextVar("r2p_recorded", default=None)


def record_calls(
    lm: dspy.LM, call_cache: StoredCalls | None, limiter: UsageLimiter, failures: CallFailures | None = None
) -> dspy.LM:
    """A copy of a language model that caches its calls on disk, counts them, and stops at the usage limits.

    A call that was completed before is answered from the cache, with the usage that it had then and at no cost. Checks
    that read its answer while it is generated read it again. Two calls are the same if model, address, messages,
    settings, seed, rollout and constraint are; in a cache `by_row`, also their row and how often it made the request
    before. In the usage that DSPy tracks, each call also has `seconds`, `usd` and `replayed`. With `failures`, a call
    that fails is asked again, and too many failures end the run.

    The copy is an instance of a subclass of the model's own class, with the arguments as attributes. A limit in dollars
    needs a model whose price is known, else ConfigError.
    """
    if limiter.limits.usd is not None and not priced(lm.model):
        raise ConfigError(f"the price of {lm.model} is not known, so --max-usd cannot hold; give --max-tokens instead")
    # DSPy's own cache loses the usage of what it answers.
    source = lm if call_cache is None else lm.copy(cache=False)
    kind: Any = type(lm)  # the type checker takes no class for hashable
    recording = copy_as(source, _recording_class(kind))
    recording.call_cache, recording.limiter, recording.failures = call_cache, limiter, failures
    return recording


@cache
def _recording_class(kind: Any) -> Any:  # takes and returns a subclass of `dspy.LM`
    return type(f"Recording{kind.__name__}", (_RecordingLM,) if kind is dspy.LM else (_RecordingLM, kind), {})


@dataclass
class _Record:
    """The outputs of a call, once it is made or replayed."""

    outputs: Any = None
    replayed: bool = False


class _RecordingLM(ListeningLM, dspy.LM):
    """Stands before a language model's own class: `super()` is that class."""

    call_cache: StoredCalls | None
    limiter: UsageLimiter
    failures: CallFailures | None

    def __call__(self, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
        for attempt in self._attempts(prompt, messages, kwargs):
            with attempt as record:
                if not record.replayed:
                    record.outputs = super().__call__(prompt, messages=messages, **kwargs)
                return record.outputs

    async def acall(self, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
        for attempt in self._attempts(prompt, messages, kwargs):
            with attempt as record:
                if not record.replayed:
                    record.outputs = await super().acall(prompt, messages=messages, **kwargs)
                return record.outputs

    def _attempts(
        self, prompt: Any, messages: Any, kwargs: dict[str, Any]
    ) -> Iterator[AbstractContextManager[_Record]]:
        """Contexts to replay the call in, or to make it in until it is answered or given up."""
        if _model_under_way.get() == self.model:  # a part of a call that is recorded
            yield nullcontext(_Record())
            return
        key = self._key(prompt, messages, kwargs)  # once: in a cache by row, the next key is another call's
        seconds = {**self.kwargs, **kwargs}.get("timeout")
        for ask in (nullcontext(),) if self.failures is None else self.failures.asks(seconds):
            yield self._attempt(ask, key, prompt, messages, kwargs)

    @contextmanager
    def _attempt(
        self, ask: AbstractContextManager[None], key: str | None, prompt: Any, messages: Any, kwargs: dict[str, Any]
    ) -> Iterator[_Record]:
        """Replay a call, or record the one that is made in the block."""
        with ask:
            call, readers = self._find(key)
            if call is not None:
                yield _Record(self._replay(call, prompt, messages, kwargs), replayed=True)
                return
            with self._recording_new(key, readers) as record:
                yield record

    def _key(self, prompt: Any, messages: Any, kwargs: dict[str, Any]) -> str | None:
        """A digest of the request; None for what is not cached: streams, and requests that are typed already."""
        if is_streaming() or isinstance(prompt, Request) or "request" in kwargs:
            return None
        settings = {name: value for name, value in {**self.kwargs, **kwargs}.items() if name not in _NOT_IN_KEY}
        request = {
            "model": self.model,
            "prompt": prompt,
            "messages": messages,
            "settings": {name: value for name, value in settings.items() if value is not None},
            "kind": [getattr(self, name, None) for name in ("model_type", "reasoning", "prefix")],
            "read_along": steer_factory() is not None,
        }
        if (constraint := active_constraint()) is not None:
            request["constraint"] = [constraint.grammar("", whole=whole).source for whole in (False, True)]
        try:
            key: str = dspy.cache.cache_key(request)
        except Exception:  # a setting without JSON, such as a type of the user's
            return None
        by_row = self.call_cache is not None and self.call_cache.by_row
        row = current_row() if by_row else None
        return key if row is None else row.key(key)

    def _find(self, key: str | None) -> tuple[Call | None, Sequence[Steer]]:
        """The completed call to answer with, or None and the readers that already stand ready for the new call."""
        if self.call_cache is None or key is None:
            return None, ()
        with self._closing_on_failure():
            call = self.call_cache.get(key)
        if call is None:
            return None, ()
        readers = replay_readings(call.readings)
        return (call, ()) if readers is None else (None, readers)

    def _replay(self, call: Call, prompt: Any, messages: Any, kwargs: dict[str, Any]) -> Any:
        """The outputs of a completed call."""

        @with_callbacks  # callbacks hear of a replayed call as of any other
        def reply(self: Any, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
            return attribute_outputs(call.outputs)

        self.limiter.replay(call.usage)
        for stored in call.replies:
            report_reply(Reply(**{**stored, "tools": tuple(stored["tools"])}))
        self._track(call.dspy_usage, call.usage, replayed=1)
        return reply(self, prompt, messages=messages, **kwargs)

    @contextmanager
    def _recording_new(self, key: str | None, readers: Sequence[Steer]) -> Iterator[_Record]:
        """Admit a new call; when the block ends, store it and count what it took."""
        self.limiter.admit()
        record, tracker, readings = _Record(), UsageTracker(), list[Reading]()
        started, token = time.monotonic(), _model_under_way.set(self.model)
        try:
            tracking = dspy.context(usage_tracker=tracker)
            reading = record_readings(readings, readers)
            with tracking, reading, collect_replies() as replies, until(self.limiter.ends):
                yield record
            if self.failures is not None:
                self.failures.answered()
        except LMTimeoutError:
            self.limiter.check_time()
            raise
        finally:
            _model_under_way.reset(token)
            dspy_usage = plain_outputs(tracker.get_total_tokens().get(self.model, {}))
            tokens = {kind: dspy_usage.get(f"{kind}_tokens") or 0 for kind in ("prompt", "completion")}
            seconds = round(time.monotonic() - started, 4)
            usage = Usage(1, **tokens, usd=cost(self.model, tokens) or 0.0, seconds=seconds)
            try:
                if self.call_cache is not None and key is not None and record.outputs is not None:
                    with self._closing_on_failure():
                        stored, row = [asdict(reply) for reply in replies], current_row()
                        call = Call(plain_outputs(record.outputs), dspy_usage, usage, readings, stored)
                        self.call_cache.put(key, self.model, call, user=None if row is None else row.user)
            finally:
                self.limiter.done(usage)
                if dspy_usage or record.outputs is not None:
                    self._track(dspy_usage, usage, replayed=0)
                self._track_other_models(tracker)

    @contextmanager
    def _closing_on_failure(self) -> Iterator[None]:
        """Let no further call begin once answers can no longer be stored."""
        try:
            yield
        except CallCacheFailed as failure:
            self.limiter.close(failure)
            raise

    def _track(self, dspy_usage: dict[str, Any], usage: Usage, replayed: int) -> None:
        if (tracker := dspy.settings.usage_tracker) is not None:
            own = {"seconds": usage.seconds, "usd": usage.usd, "replayed": replayed}
            tracker.add_usage(self.model, {**dspy_usage, **own})

    def _track_other_models(self, inner: UsageTracker) -> None:
        """Pass on the calls of other models that a check made while it read the answer."""
        if (tracker := dspy.settings.usage_tracker) is not None:
            for model, entries in inner.usage_data.items():
                if model != self.model:
                    tracker.usage_data[model].extend(entries)
