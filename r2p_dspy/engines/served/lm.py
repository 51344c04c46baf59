"""The `dspy.LM` of a served model whose answers can be steered: stopped, cut, and continued from a correction."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from dspy.lm15 import LM15Error
from dspy.utils.exceptions import LMError, LMUnsupportedFeatureError

from r2p_dspy.decoding.steering import steer_factory
from r2p_dspy.dspy_internals import is_streaming
from r2p_dspy.engines.lm import LocalLM
from r2p_dspy.engines.served.bounded import BoundedLM
from r2p_dspy.engines.served.deadline import in_flight
from r2p_dspy.engines.served.engine import ServedEngine, ThreadedEngine
from r2p_dspy.engines.served.server import Server
from r2p_dspy.engines.staged import StagedEngine

_CONNECTION = ("api_base", "api_key", "timeout", "extra_body")  # settings of the LM that its engine takes over
_LOOK_UP = 5.0  # seconds to ask a server for its context or the tokens of a text; a call waits longer


class ServedLM(LocalLM, BoundedLM):
    """A `dspy.LM` of a vLLM server, or of a server that continues an assistant's beginning.

    Steered calls (`r2p_dspy.decoding.steering`) are not cached. On a vLLM server they go over raw completions, without
    retries; on other servers, if `prefix` is given, stage by stage over DSPy's own calls. All other calls, and those
    that cannot be steered, are DSPy's own. `r2p_dspy.connect` makes this LM.

    Args:
        model: `hosted_vllm/NAME`; with `prefix` any name.
        reasoning: whether the model thinks natively, so that DSPy fills `dspy.Reasoning` fields from its thought; None
            uses what DSPy knows about the model.
        prefix: settings with which the server continues an assistant's last message where it ends; `{}` if it needs
            none; None if it cannot.
        **kwargs: as for `dspy.LM`. Steered calls use `api_base` (or `HOSTED_VLLM_API_BASE`), `timeout` (seconds, of the
            whole answer with its corrections) and `extra_body` (vLLM's own settings; its `chat_template_kwargs` go to
            the chat template) too.

    Examples:
        >>> lm = ServedLM("hosted_vllm/Qwen/Qwen3-8B", api_base="http://localhost:8000/v1", reasoning=True)
        >>> lm.supports_reasoning
        True
    """

    def __init__(
        self, model: str, *, reasoning: bool | None = None, prefix: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        # Any: JSON in `prefix`; elsewhere the arguments and outputs of `dspy.LM`, which are untyped.
        super().__init__(model, **kwargs)
        self.reasoning, self.prefix = reasoning, prefix

    @property
    def supports_reasoning(self) -> bool:
        return bool(super().supports_reasoning) if self.reasoning is None else self.reasoning

    @property
    def context_window(self) -> int | None:
        """Tokens that prompt and answer may have together; None without a vLLM server that answers."""
        try:
            with in_flight(_LOOK_UP):
                return self._server.context(self._name) if self._server is not None else None
        except (LM15Error, LMError):  # the call will say what is wrong
            return None

    def count_tokens(self, text: str) -> int | None:
        """Tokens of a text by the model's tokenizer; None without a vLLM server that answers."""
        try:
            with in_flight(_LOOK_UP):
                return len(self._server.encode(self._name, text)) if self._server is not None else None
        except (LM15Error, LMError):
            return None

    def __call__(self, *prompt: Any, **kwargs: Any) -> Any:
        with self._in_flight(kwargs):
            for lm in self._steerable():
                try:
                    return lm(*prompt, **{**kwargs, "cache": False})
                except LMUnsupportedFeatureError:
                    pass  # raised before a steer was made
            return super().__call__(*prompt, **kwargs)

    async def acall(self, *prompt: Any, **kwargs: Any) -> Any:
        with self._in_flight(kwargs):
            for lm in self._steerable():
                try:
                    return await lm.acall(*prompt, **{**kwargs, "cache": False})
                except LMUnsupportedFeatureError:
                    pass
            return await super().acall(*prompt, **kwargs)

    def dump_state(self) -> dict[str, Any]:
        own = {"reasoning": self.reasoning, "prefix": self.prefix}
        state: dict[str, Any] = super().dump_state()  # type: ignore[no-untyped-call, unused-ignore]
        return {**state, **{name: value for name, value in own.items() if value is not None}}

    def _steerable(self) -> Iterator[ServedLM]:
        """This LM on each engine that may be able to steer the call, the best first; nothing if it is not steered."""
        # A listener of `dspy.streamify` wants no text that is taken back.
        if is_streaming() or steer_factory() is None or not isinstance(self.engine, str):
            return
        extra = self.kwargs.get("extra_body") or {}
        if self._server is not None:
            yield self._on(ServedEngine(self._server, extra))
        if self.prefix is not None:
            yield self._on(StagedEngine(self, extra, self.prefix))

    @property
    def _server(self) -> Server | None:
        """Its vLLM server; None once the server has turned out to be another one."""
        base = self.kwargs.get("api_base") or os.environ.get("HOSTED_VLLM_API_BASE")
        if not base or not self.model.startswith("hosted_vllm/"):
            return None
        key = self.kwargs.get("api_key") or os.environ.get("HOSTED_VLLM_API_KEY") or "none"
        server = _server_at(base, key, self.kwargs.get("timeout"))
        return server if server.tokenizes else None

    @property
    def _name(self) -> str:
        return str(self.model).partition("/")[2]

    def _on(self, engine: ServedEngine | StagedEngine) -> ServedLM:
        settings: dict[str, Any] = {"engine": engine, "async_engine": ThreadedEngine(engine), "num_retries": 0}
        settings |= dict.fromkeys(_CONNECTION)
        lm: ServedLM = self.copy(**settings)  # type: ignore[no-untyped-call, unused-ignore]
        lm.history = self.history
        return lm


@lru_cache(maxsize=32)
def _server_at(api_base: str, key: str, timeout: float | None) -> Server:
    return Server(api_base, key, timeout)
