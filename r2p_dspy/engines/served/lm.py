"""A served model whose running answers can be steered: stopped, cut, and continued from a correction."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import lru_cache, partial
from typing import Any

from dspy.lm15 import ContextLengthError, LM15Error, Request, Response, ServerError, UnsupportedFeatureError, Usage
from dspy.utils.exceptions import LMUnsupportedFeatureError

from r2p_dspy.decoding.steering import Correction, active, awaited, steered
from r2p_dspy.dspy_internals import is_streaming
from r2p_dspy.engines.answer import respond
from r2p_dspy.engines.chat import conversation
from r2p_dspy.engines.lm import LocalLM, seeded
from r2p_dspy.engines.served.segment import Asked, ServedSegment
from r2p_dspy.engines.served.server import Server
from r2p_dspy.engines.staged import StagedEngine

_CONNECTION = ("api_base", "timeout", "extra_body")  # of an LM's settings, those that the engine takes over
_UNSUPPORTED = ("response_format", "tool_choice", "logprobs", "probabilities")
_THREADS = 64  # async calls at once; each waits for its server in a thread of its own


class ServedLM(LocalLM):
    """A `dspy.LM` of a vLLM server, or of one that continues an answer that has begun.

    Its calls are DSPy's own, but those that somebody wants to read along with (`r2p_dspy.decoding.steering`), which are
    not cached: on a vLLM server they go over raw completions, without retries; elsewhere, where `prefix` is given,
    stage by stage over DSPy's own calls. What cannot be steered is called as ever. `r2p_dspy.connect` makes these.

    Args:
        model: `hosted_vllm/NAME`; with `prefix` any name.
        reasoning: whether the model thinks natively, so that `dspy.Reasoning` fields are taken from its thought; None
            leaves that to what DSPy knows of the model.
        prefix: the server's settings with which it continues an assistant's last message where that ends, `{}` if it
            does so anyway; None if it cannot.
        **kwargs: as of `dspy.LM`; of them `api_base` (or `HOSTED_VLLM_API_BASE`), `timeout` (seconds) and `extra_body`
            (vLLM's own settings; `chat_template_kwargs` in it goes to the chat template) hold for steered calls too.

    Example:
        >>> lm = ServedLM("hosted_vllm/Qwen/Qwen3-8B", api_base="http://localhost:8000/v1", reasoning=True)
        >>> lm.supports_reasoning
        True
    """

    def __init__(
        self, model: str, *, reasoning: bool | None = None, prefix: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(model, **kwargs)
        self.reasoning, self.prefix = reasoning, prefix

    @property
    def supports_reasoning(self) -> bool:
        return super().supports_reasoning if self.reasoning is None else self.reasoning

    @property
    def context_window(self) -> int | None:
        """As its vLLM server has it; None where there is none, or none that answers."""
        try:
            return self._server.context(self._name) if self._server is not None else None
        except LM15Error:  # what is wrong shows at the call
            return None

    def count_tokens(self, text: str) -> int | None:
        """As its vLLM server counts them; None where there is none, or none that answers."""
        try:
            return len(self._server.encode(self._name, text)) if self._server is not None else None
        except LM15Error:
            return None

    def __call__(self, prompt=None, *, messages=None, **kwargs):
        for steerable in self._ways():
            try:
                return steerable(prompt, messages=messages, **{**kwargs, "cache": False})
            except LMUnsupportedFeatureError:
                pass  # nobody has been asked to read along yet
        return super().__call__(prompt, messages=messages, **kwargs)

    async def acall(self, prompt=None, *, messages=None, **kwargs):
        for steerable in self._ways():
            try:
                return await steerable.acall(prompt, messages=messages, **{**kwargs, "cache": False})
            except LMUnsupportedFeatureError:
                pass
        return await super().acall(prompt, messages=messages, **kwargs)

    def dump_state(self) -> dict[str, Any]:
        own = {"reasoning": self.reasoning, "prefix": self.prefix}
        return {**super().dump_state(), **{name: value for name, value in own.items() if value is not None}}

    def _ways(self) -> Iterator[ServedLM]:
        """This LM on each engine that may be able to steer it, the best first, where that is asked for."""
        # A listener of `dspy.streamify` wants no text that is taken back.
        if is_streaming() or not awaited() or not isinstance(self.engine, str):
            return
        extra = self.kwargs.get("extra_body") or {}
        if self._server is not None:
            yield self._on(ServedEngine(self._server, extra))
        if self.prefix is not None:
            yield self._on(StagedEngine(self, extra, self.prefix))

    @property
    def _server(self) -> Server | None:
        """Its vLLM server, as long as that has not turned out to be another one."""
        base = self.kwargs.get("api_base") or os.environ.get("HOSTED_VLLM_API_BASE")
        if not base or not self.model.startswith("hosted_vllm/"):
            return None
        key = os.environ.get("HOSTED_VLLM_API_KEY") or "none"
        server = _server_at(base, key, self.kwargs.get("timeout") or 600.0)
        return server if server.tokenizes else None

    @property
    def _name(self) -> str:
        return self.model.partition("/")[2]

    def _on(self, engine: ServedEngine | StagedEngine) -> ServedLM:
        settings: dict[str, Any] = {"engine": engine, "async_engine": Threaded(engine), "num_retries": 0}
        steerable = self.copy(**settings, **dict.fromkeys(_CONNECTION))
        steerable.history = self.history
        return steerable


@lru_cache(maxsize=32)
def _server_at(api_base: str, key: str, timeout: float) -> Server:
    return Server(api_base, key, timeout)


class ServedEngine:
    """The engine of steered calls: DSPy's `complete(Request) -> Response`.

    Args:
        server: where the model runs.
        extra: what vLLM takes beside a request's own settings.

    Raises:
        UnsupportedFeatureError: before anybody reads along, for what cannot be steered: a server that is not vLLM's,
            and requests with images, tools or a response format.
        ContextLengthError: the prompt leaves no room for a token; says both numbers.
    """

    def __init__(self, server: Server, extra: dict[str, Any]) -> None:
        self._server, self._extra = server, extra

    def complete(self, request: Request, cancelled: threading.Event | None = None) -> Response:
        """The whole answer; once `cancelled` is set, it is stopped at its next token."""
        leg, inside = self._begun(request)
        steer = active()
        if steer is None:
            raise UnsupportedFeatureError("nobody reads along with this call", feature="steering")

        def read(text: str) -> Correction | None:
            if cancelled is not None and cancelled.is_set():
                raise ServerError("the call was cancelled")
            return steer(text)

        text, last = steered(leg, read)
        used = Usage(input_tokens=last.used[0], output_tokens=last.used[1])
        return respond(request, text, inside, last.finish, used)

    def _begun(self, request: Request) -> tuple[ServedSegment, bool | None]:
        """The first stretch, and whether it begins inside a thought; None if thoughts are not told apart."""
        config = request.config
        refused = [name for name in _UNSUPPORTED if getattr(config, name) is not None] + ["tools"] * bool(request.tools)
        if refused:
            raise UnsupportedFeatureError(f"a steered answer knows no {', '.join(refused)}", feature=refused[0])
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
        asked = Asked(self._server, model, prompt, options, tuple(config.stop))
        parts = config.reasoning is not None and not config.reasoning.is_off
        return ServedSegment(asked, prompt.ids, min(config.max_tokens or room, room)), prompt.inside if parts else None


class Threaded:
    """The twin of an engine for `dspy.LM(async_engine=…)`: each call waits in a thread of its own.

    Args:
        engine: the engine that it stands beside.
    """

    def __init__(self, engine: ServedEngine | StagedEngine) -> None:
        self._engine = engine

    async def complete(self, request: Request) -> Response:
        """As the engine's own; cancelling the task stops the generation."""
        cancelled = threading.Event()
        run = partial(copy_context().run, self._engine.complete, request, cancelled)
        try:
            return await asyncio.get_running_loop().run_in_executor(_threads(), run)
        finally:
            cancelled.set()


@lru_cache(maxsize=1)
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="r2p-served")
