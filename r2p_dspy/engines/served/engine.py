"""The engines of steered and constrained calls to a server, sync and async."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import lru_cache, partial
from typing import Any

from dspy.lm15 import ContextLengthError, Request, Response, UnsupportedFeatureError

from r2p_dspy.decoding.constraining import active_constraint
from r2p_dspy.decoding.notices import notice
from r2p_dspy.decoding.steering import next_steer, steer_factory
from r2p_dspy.engines.answer import respond_steered
from r2p_dspy.engines.chat import conversation
from r2p_dspy.engines.lm import seeded
from r2p_dspy.engines.served.deadline import in_flight
from r2p_dspy.engines.served.probe import Address
from r2p_dspy.engines.served.segment import ServedCall, ServedSegment
from r2p_dspy.engines.served.servers.server import Prompt
from r2p_dspy.engines.staged import StagedEngine

_UNSUPPORTED = ("tool_choice", "logprobs", "probabilities")
_THREADS = 64  # async calls at once; each waits for its server in a thread of its own


class ServedEngine:
    """The engine of steered and constrained calls: DSPy's `complete(Request) -> Response`.

    Args:
        address: where the server is.
        extra: the server's own settings, as JSON.
    """

    def __init__(self, address: Address, extra: dict[str, Any]) -> None:
        self._address, self._extra = address, extra

    def complete(self, request: Request, cancelled: threading.Event | None = None) -> Response:
        """The whole answer; once `cancelled` is set, the generation stops at the next token.

        Raises:
            UnsupportedFeatureError: the call can be neither steered nor constrained: the server is none that can, or
                the request has images, tools or a response format. No steer was made then.
        """
        with in_flight(self._address.timeout):
            segment, inside = self._first(request)
            return respond_steered(request, segment, next_steer() or _read_on, inside=inside, cancelled=cancelled)

    def _first(self, request: Request) -> tuple[ServedSegment, bool | None]:
        """The first segment, and whether it begins inside a thought; None if thoughts are not separated."""
        server, model = self._address.server(), request.model.partition("/")[2]
        constraint, holding = active_constraint(), self._address.holding(model)
        held = constraint is not None and holding.hold(constraint, "") is not None
        if not held and steer_factory() is None:
            raise UnsupportedFeatureError("the call is neither steered nor constrained", feature="steering")
        try:
            _refuse(request, held)
            prompt, options = self._prompt(model, request)
        except UnsupportedFeatureError as reason:
            if held:
                notice(f"an answer was not constrained: {reason.message}")
            raise
        room = prompt.context - len(prompt.ids)
        if room < 1:
            raise ContextLengthError(
                f"the prompt has {len(prompt.ids)} tokens; with one to generate it exceeds the model's context of "
                f"{prompt.context}"
            )
        config = request.config
        own = ("temperature", "top_p", "top_k", "frequency_penalty", "presence_penalty")
        options.update({name: value for name in own if (value := getattr(config, name)) is not None})
        if config.seed is not None:
            options["seed"] = seeded(config.seed, prompt.ids)
        call = ServedCall(server, model, prompt, options, tuple(config.stop), constraint, holding)
        segment = ServedSegment(call, prompt.ids, min(config.max_tokens or room, room))
        thinks = config.reasoning is not None and not config.reasoning.is_off
        return segment, prompt.inside if thinks else None

    def _prompt(self, model: str, request: Request) -> tuple[Prompt, dict[str, Any]]:
        """The chat as token ids, and the settings of the server that are none of its template."""
        config = request.config
        options: dict[str, Any] = {**self._extra, **(config.extensions or {})}
        template = dict(options.pop("chat_template_kwargs", None) or {})
        if config.reasoning is not None:
            template.setdefault("enable_thinking", not config.reasoning.is_off)
        return self._address.prompt(model, conversation(request), template), options


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


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_threads.cache_clear)  # a forked process has no threads but its own


def _refuse(request: Request, held: bool) -> None:
    """Refuse what raw completions cannot give."""
    # What an answer is held to says more than the response format that DSPy makes of the signature.
    names = _UNSUPPORTED if held else ("response_format", *_UNSUPPORTED)
    refused = [name for name in names if getattr(request.config, name) is not None] + ["tools"] * bool(request.tools)
    if refused:
        raise UnsupportedFeatureError(
            f"steered and constrained answers do not support {', '.join(refused)}", feature=refused[0]
        )


def _read_on(text: str) -> None:
    """The steer of an answer that is constrained alone."""
