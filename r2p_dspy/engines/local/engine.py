"""A transformers model in this process, as an engine for `dspy.LM`."""

from __future__ import annotations

import asyncio
import builtins
import concurrent.futures
import inspect
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dspy.lm15 import (
    InvalidRequestError,
    Request,
    Response,
    ServerError,
    TimeoutError,
    Usage,
)

from r2p_dspy.decoding.steering import Correction, Steer, active, steered
from r2p_dspy.engines import weights
from r2p_dspy.engines.answer import Answer, Event, usage
from r2p_dspy.engines.chat import Chat
from r2p_dspy.engines.local.batching import Batcher, Served
from r2p_dspy.engines.local.rows import Row, Stopped
from r2p_dspy.engines.local.segment import LocalSegment
from r2p_dspy.engines.request import to_row
from r2p_dspy.errors import ConfigError

_TIMEOUTS = (builtins.TimeoutError, asyncio.TimeoutError, concurrent.futures.TimeoutError)  # one class from 3.11 on


class TransformersEngine:
    """Runs a chat model of transformers in this process; calls of all threads share its forward passes.

    A DSPy engine: `complete(Request) -> Response`, `stream(Request)`, `close()`. `AsyncTransformersEngine` is its twin
    for `dspy.LM(async_engine=…)`. Honoured in `Request.config`: `max_tokens` (1024 if unset; clipped to what fits the
    context), `temperature` (0 takes the likeliest token; unset means 1), `top_p`, `seed`, `stop`, `reasoning`, and of
    the extensions `continue_final_message` with `add_generation_prompt=False`, which continues the last message, an
    assistant's, where it ends. What it cannot do it refuses with `UnsupportedFeatureError`.

    The same request, seed and sample give the same text, whatever else runs: on a CPU to the bit (up to two query heads
    for each key), elsewhere up to rounding. Without a seed the request itself is one.

    Args:
        source: `pocket`, a directory with a transformers model, or a hub name.
        device: as torch names it; default: the first GPU, else the CPU.
        dtype: as torch names it; default: float32 on a CPU, else the checkpoint's own.
        max_batch: calls in flight, from 1; more wait for their turn.
        cache_bytes: bound on the keys and values of the calls in flight (three quarters) and of beginnings of prompts
            that may come again; default: 512 MiB on a CPU, else 8 GiB.
        reasoning: the model thinks between `<think>` tags: they become a `ThinkingPart`, and DSPy takes
            `dspy.Reasoning` fields from it. Otherwise the tags are part of the text.
        threads: cores for one forward pass; default: one for a small model on a CPU, else torch's own choice.
        timeout: seconds to wait for an answer, in a stream for the next token.

    Raises:
        ValueError: no such model, or one that cannot run here; one line that says what to do.

    Example:
        >>> from dspy.lm15 import Config, Message, Request
        >>> engine = TransformersEngine("pocket")  # doctest: +SKIP
        >>> hello = Request(engine.model_name, (Message.user("Hello"),), config=Config(max_tokens=8))  # doctest: +SKIP
        >>> engine.complete(hello).usage.input_tokens  # doctest: +SKIP
        9
    """

    supports_function_calling = False
    supports_response_schema = False
    supported_params = frozenset({"temperature", "max_tokens", "top_p", "seed", "stop", "stream"})

    def __init__(
        self,
        source: str,
        *,
        device: str | None = None,
        dtype: str | None = None,
        max_batch: int = 32,
        cache_bytes: int | None = None,
        reasoning: bool = False,
        threads: int | None = None,
        timeout: float = 600.0,
    ) -> None:
        if max_batch < 1:
            raise ConfigError(f"max_batch must be at least 1, not {max_batch}")
        model, tokenizer, directory = weights.load(source, device=device, dtype=dtype)
        if cache_bytes is None:
            cache_bytes = 512 << 20 if model.device.type == "cpu" else 8 << 30
        try:
            self._chat = Chat(tokenizer)
            ends = model.generation_config.eos_token_id
            ends = {tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])} - {None}
            self._batch = Batcher(model, ends, max_rows=max_batch, cache_bytes=cache_bytes, threads=threads)
        except ValueError as cause:
            raise ConfigError(f"model {weights.spoken(source)!r}: {cause}") from cause
        self.source = source
        self.fingerprint = weights.fingerprint(directory)
        self.supports_reasoning = reasoning
        config = model.config.get_text_config(decoder=True)
        self.context_window: int = getattr(config, "max_position_embeddings", None) or tokenizer.model_max_length
        self._state = {"dtype": dtype, "max_batch": max_batch, "reasoning": reasoning}
        self._timeout = timeout
        weakref.finalize(self, self._batch.close)

    @classmethod
    def shared(cls, source: str, **options: Any) -> TransformersEngine:
        """The engine of this model with these options that is in use already, else a new one."""
        where = weights.locate(source)
        options = _unusual(options)
        with _sharing:
            engine = _shared.get(key := (where, *sorted(options.items())))
            outdated = engine is not None and Path(where).is_dir() and weights.fingerprint(where) != engine.fingerprint
            if engine is None or engine._batch.closed or outdated:
                engine = _shared[key] = cls(source, **options)
            return engine

    @property
    def model_name(self) -> str:
        """`local/NAME-FINGERPRINT`. DSPy's cache knows an engine by its name alone, so it changes with the weights."""
        variants = [self._state["dtype"], "thinking" if self.supports_reasoning else None]
        return "-".join([f"local/{Path(self.source).name}", self.fingerprint, *(str(x) for x in variants if x)])

    @property
    def served(self) -> Served:
        """Calls, tokens and forward passes so far, cancelled streams included."""
        return self._batch.served

    def count_tokens(self, text: str) -> int:
        """Tokens of `text` inside a message; the template's own come on top."""
        return self._chat.count(text)

    def complete(self, request: Request) -> Response:
        """The whole answer.

        Raises:
            ContextLengthError: the prompt leaves no room for a token; says both numbers.
            UnsupportedFeatureError, InvalidRequestError: the request cannot be run as it is.
            TimeoutError, ServerError: no answer in time; the loop broke, or the engine was closed.
        """
        if (steer := active()) is not None:
            return self._steered(request, steer)
        row, answer = self._start(request)
        with _lm15_errors(), row:
            row.wait()
        return answer.response(row)

    def stream(self, request: Request) -> LocalStream:
        """The answer as events. Closing the stream early stops the generation; `usage` then says what it took."""
        return LocalStream(self, *self._start(request))

    def close(self) -> None:
        """Stop the engine; calls in flight fail."""
        self._batch.close()

    def dump_state(self) -> dict[str, Any]:
        """What a saved program needs to find the engine again; it names a path only if the source is one."""
        return {"source": self.source, "fingerprint": self.fingerprint, **_unusual(self._state)}

    @classmethod
    def load_state(cls, state: dict[str, Any]) -> TransformersEngine:
        """The engine of a saved program. Raises ValueError if the model is gone, or is not the same any more."""
        options = dict(state)
        source, saved = options.pop("source"), options.pop("fingerprint")
        engine = cls.shared(source, **options)
        if engine.fingerprint != saved:
            raise ConfigError(
                f"the program was saved with {source!r} when its fingerprint was {saved}, and now it is "
                f"{engine.fingerprint}: load it without its LM and set one with r2p_dspy.connect"
            )
        return engine

    def __deepcopy__(self, memo: dict) -> TransformersEngine:
        return self  # optimizers copy programs; the model is one

    def __reduce__(self):
        return type(self).load_state, (self.dump_state(),)

    def _start(self, request: Request, emit: Callable[[int | None], object] | None = None) -> tuple[Row, Answer]:
        row, answer = self._planned(request, emit)
        with _lm15_errors():
            self._batch.submit(row)
        return row, answer

    def _planned(self, request: Request, emit: Callable[[int | None], object] | None = None) -> tuple[Row, Answer]:
        row, inside = to_row(request, self._chat, context=self.context_window, timeout=self._timeout, emit=emit)
        return row, Answer(request, self._chat.decode, inside if self.supports_reasoning else None)

    def _steered(self, request: Request, steer: Steer) -> Response:
        row, answer = self._planned(request)
        with _lm15_errors():
            text, last = steered(
                LocalSegment(self._batch, row, self._chat.decode, self._chat.plain, self._chat.marks), steer
            )
        return answer.response(last.row, text, last.used)


class AsyncTransformersEngine:
    """The twin of a `TransformersEngine` for `dspy.LM(async_engine=…)`; both run on one model.

    Args:
        engine: the engine that it stands beside.
    """

    def __init__(self, engine: TransformersEngine) -> None:
        self.engine = engine

    async def complete(self, request: Request) -> Response:
        """As `TransformersEngine.complete`; cancelling the task stops the generation."""
        if (steer := active()) is not None:
            return await self._steered(request, steer)
        row, answer = self.engine._start(request)
        with _lm15_errors(), row:
            await asyncio.wait_for(asyncio.wrap_future(row.done), row.timeout)
        return answer.response(row)

    async def _steered(self, request: Request, steer: Steer) -> Response:
        cancelled = threading.Event()

        def read(text: str) -> Correction | None:
            if cancelled.is_set():
                raise Stopped("the call was cancelled")
            return steer(text)

        try:
            return await asyncio.to_thread(self.engine._steered, request, read)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def stream(self, request: Request) -> AsyncIterator[Event]:
        """As `TransformersEngine.stream`; closing the iterator stops the generation."""
        loop = asyncio.get_running_loop()
        tokens: asyncio.Queue[int | None] = asyncio.Queue()
        row, answer = self.engine._start(request, lambda token: loop.call_soon_threadsafe(tokens.put_nowait, token))
        try:
            with _lm15_errors(), row:
                yield answer.start()
                while (token := await asyncio.wait_for(tokens.get(), row.timeout)) is not None:
                    for event in answer.push(token):
                        yield event
                row.wait()  # it is over; raises what failed it
                for event in answer.finish(row):
                    yield event
        finally:
            while not row.done.done():  # closed early: it tells its end to this event loop
                await asyncio.wait_for(tokens.get(), row.timeout)

    async def aclose(self) -> None:
        """Nothing to do: the engine that it stands beside owns the model."""

    def dump_state(self) -> dict[str, Any]:
        return self.engine.dump_state()

    @classmethod
    def load_state(cls, state: dict[str, Any]) -> AsyncTransformersEngine:
        return cls(TransformersEngine.load_state(state))

    def __deepcopy__(self, memo: dict) -> AsyncTransformersEngine:
        return self

    def __reduce__(self):
        return type(self).load_state, (self.dump_state(),)


class LocalStream(Iterator[Event]):
    """Events of one answer: a start, text as it is complete, an end with the usage."""

    def __init__(self, engine: TransformersEngine, row: Row, answer: Answer) -> None:
        self._engine = engine  # kept for as long as somebody reads
        self._row = row
        self._events = _events(row, answer)  # which does not hold this object: it goes, and stops, with its reader

    @property
    def usage(self) -> Usage:
        """Tokens so far; final once the stream has ended or is closed."""
        return usage(self._row)

    def __next__(self) -> Event:
        return next(self._events)

    def __del__(self) -> None:
        self._row.cancel()

    def close(self) -> None:
        """Stop the generation, and wait until it has stopped."""
        self._events.close()
        self._row.cancel()
        try:
            self._row.wait()
        except Exception:
            pass  # it has stopped, whatever stopped it


def _events(row: Row, answer: Answer) -> Generator[Event]:
    with _lm15_errors(), row:
        yield answer.start()
        for token in row:
            yield from answer.push(token)
        yield from answer.finish(row)


_shared: weakref.WeakValueDictionary[tuple, TransformersEngine] = weakref.WeakValueDictionary()
_sharing = threading.Lock()
_DEFAULTS = {name: option.default for name, option in inspect.signature(TransformersEngine).parameters.items()}


def _unusual(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value != _DEFAULTS.get(name)}


@contextmanager
def _lm15_errors() -> Iterator[None]:
    try:
        yield
    except Stopped as error:
        raise ServerError(str(error)) from error
    except _TIMEOUTS as error:
        raise TimeoutError(str(error) or "the in-process model gave no answer in time") from error
    except ValueError as error:
        raise InvalidRequestError(str(error)) from error
