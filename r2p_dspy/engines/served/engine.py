"""The engines of steered calls to a vLLM server, sync and async."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import lru_cache, partial
from typing import Any

from dspy.lm15 import ContextLengthError, Request, Response, UnsupportedFeatureError

from r2p_dspy.decoding.steering import next_steer
from r2p_dspy.engines.answer import respond_steered
from r2p_dspy.engines.chat import conversation
from r2p_dspy.engines.lm import seeded
from r2p_dspy.engines.served.deadline import in_flight
from r2p_dspy.engines.served.segment import ServedSegment, SteeredCall
from r2p_dspy.engines.served.server import Server
from r2p_dspy.engines.staged import StagedEngine

_UNSUPPORTED = ("response_format", "tool_choice", "logprobs", "probabilities")
_THREADS = 64  # async calls at once; each waits for its server in a thread of its own


class ServedEngine:
    """The engine of steered calls: DSPy's `complete(Request) -> Response`. `extra` are vLLM's own settings, as JSON."""

    def __init__(self, server: Server, extra: dict[str, Any]) -> None:
        self._server, self._extra = server, extra

    def complete(self, request: Request, cancelled: threading.Event | None = None) -> Response:
        """The whole answer; once `cancelled` is set, the generation stops at the next token.

        Raises:
            UnsupportedFeatureError: the call cannot be steered: the server is not vLLM's, or the request has images,
                tools or a response format. No steer was made then.
        """
        with in_flight(self._server.timeout):
            segment, inside = self._first(request)
            steer = next_steer()
            if steer is None:
                raise UnsupportedFeatureError("the call is not steered", feature="steering")
            return respond_steered(request, segment, steer, inside=inside, cancelled=cancelled)

    def _first(self, request: Request) -> tuple[ServedSegment, bool | None]:
        """The first segment, and whether it begins inside a thought; None if thoughts are not separated."""
        config = request.config
        refused = [name for name in _UNSUPPORTED if getattr(config, name) is not None] + ["tools"] * bool(request.tools)
        if refused:
            raise UnsupportedFeatureError(f"steered answers do not support {', '.join(refused)}", feature=refused[0])
        model = request.model.partition("/")[2]
        options: dict[str, Any] = {**self._extra, **(config.extensions or {})}
        template = dict(options.pop("chat_template_kwargs", None) or {})
        if config.reasoning is not None:
            template.setdefault("enable_thinking", not config.reasoning.is_off)
        prompt = self._server.prompt(model, conversation(request), template)
        room = prompt.context - len(prompt.ids)
        if room < 1:
            raise ContextLengthError(
                f"the prompt has {len(prompt.ids)} tokens; with one to generate it exceeds the model's context of "
                f"{prompt.context}"
            )
        own = ("temperature", "top_p", "top_k", "frequency_penalty", "presence_penalty")
        options.update({name: value for name in own if (value := getattr(config, name)) is not None})
        if config.seed is not None:
            options["seed"] = seeded(config.seed, prompt.ids)
        call = SteeredCall(self._server, model, prompt, options, tuple(config.stop))
        thinks = config.reasoning is not None and not config.reasoning.is_off
        segment = ServedSegment(call, prompt.ids, min(config.max_tokens or room, room))
        return segment, prompt.inside if thinks else None


class ThreadedEngine:
    """Runs the calls of an engine in threads, for `dspy.LM(async_engine=…)`."""

    def __init__(self, engine: ServedEngine | StagedEngine) -> None:
        self._engine = engine

    async def complete(self, request: Request) -> Response:
        """The whole answer; cancelling the task stops the generation."""
        cancelled = threading.Event()
        run = partial(copy_context().run, self._engine.complete, request, cancelled)
        try:
            return await asyncio.get_running_loop().run_in_executor(_threads(), run)
        finally:
            cancelled.set()


@lru_cache(maxsize=1)
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="r2p-served")
