"""The `dspy.LM` of a served model whose answers can be steered, and held to a form."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from dspy.lm15 import LM15Error
from dspy.utils.exceptions import LMError, LMUnsupportedFeatureError

from r2p_dspy.decoding.constraining import active_constraint
from r2p_dspy.decoding.steering import steer_factory
from r2p_dspy.dspy_internals import is_streaming
from r2p_dspy.engines.lm import LocalLM
from r2p_dspy.engines.served.bounded import BoundedLM
from r2p_dspy.engines.served.deadline import in_flight
from r2p_dspy.engines.served.engine import ServedEngine, ThreadedEngine
from r2p_dspy.engines.served.probe import Address, address_of, may_be_own
from r2p_dspy.engines.served.servers.server import Form
from r2p_dspy.engines.staged import StagedEngine

T = TypeVar("T")

_CONNECTION = ("api_base", "api_key", "timeout", "extra_body")  # settings of the LM that its engine takes over
_LOOK_UP = 5.0  # seconds to ask a server for its context or the tokens of a text; a call waits longer


class ServedLM(LocalLM, BoundedLM):
    """A `dspy.LM` of a vLLM, llama.cpp or SGLang server, or of one that continues an assistant's beginning.

    Steered calls (`r2p_dspy.decoding.steering`) are not cached. On the three servers they go over raw completions,
    without retries, and so do constrained calls (`r2p_dspy.decoding.constraining`); on other servers, if `prefix` is
    given, steered calls go stage by stage over DSPy's own calls. All other calls, and those that can be neither steered
    nor constrained, are DSPy's own. `r2p_dspy.connect` makes this LM.

    Args:
        model: `hosted_vllm/NAME` for vLLM; `openai/NAME` for any of the three, which is asked once which one it is,
            unless `prefix` is given; with `prefix` any name.
        reasoning: whether the model thinks natively, so that DSPy fills `dspy.Reasoning` fields from its thought; None
            uses what DSPy knows about the model.
        prefix: settings with which the server continues an assistant's last message where it ends; `{}` if it needs
            none; None if it cannot.
        **kwargs: as for `dspy.LM`. Steered calls use `api_base` (or `HOSTED_VLLM_API_BASE`), `timeout` (seconds, of the
            whole answer with its corrections) and `extra_body` (the server's own settings; its `chat_template_kwargs`
            go to the chat template) too.

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
        """Tokens that prompt and answer may have together; None without one of the three servers that answers."""
        return self._look_up(lambda address: address.server().context(self._name))

    def count_tokens(self, text: str) -> int | None:
        """Tokens of a text by the model's tokenizer; None without one of the three servers that answers."""
        return self._look_up(lambda address: len(address.server().encode(self._name, text)))

    @property
    def constrains(self) -> Form | None:
        """What `constraining` can hold an answer to: a grammar, or a JSON Schema where the answer is JSON; else None.

        It is what the server says, and less once the server has refused a form or ignored it.
        """
        if is_streaming():  # such calls are DSPy's own
            return super().constrains
        return self._look_up(lambda address: address.holding(self._name).form) or super().constrains

    def __call__(self, *prompt: Any, **kwargs: Any) -> Any:
        with self._in_flight(kwargs):
            for lm in self._engines():
                try:
                    return lm(*prompt, **{**kwargs, "cache": False})
                except LMUnsupportedFeatureError:
                    pass  # raised before a steer was made
            return super().__call__(*prompt, **kwargs)

    async def acall(self, *prompt: Any, **kwargs: Any) -> Any:
        with self._in_flight(kwargs):
            for lm in self._engines():
                try:
                    return await lm.acall(*prompt, **{**kwargs, "cache": False})
                except LMUnsupportedFeatureError:
                    pass
            return await super().acall(*prompt, **kwargs)

    def dump_state(self) -> dict[str, Any]:
        own = {"reasoning": self.reasoning, "prefix": self.prefix}
        state: dict[str, Any] = super().dump_state()  # type: ignore[no-untyped-call, unused-ignore]
        return {**state, **{name: value for name, value in own.items() if value is not None}}

    def _engines(self) -> Iterator[ServedLM]:
        """This LM on each engine that may be able to steer or constrain the call, the best first."""
        # A listener of `dspy.streamify` wants no text that is taken back.
        if is_streaming() or not isinstance(self.engine, str):
            return
        extra, is_steered = self.kwargs.get("extra_body") or {}, steer_factory() is not None
        if (address := self._address) is not None and (is_steered or active_constraint() is not None):
            yield self._on(ServedEngine(address, extra))
        if self.prefix is not None and is_steered:
            yield self._on(StagedEngine(self, extra, self.prefix))

    @property
    def _address(self) -> Address | None:
        """Where its server is; None if that is known to be none which can be steered."""
        provider, base = str(self.model).partition("/")[0], self.kwargs.get("api_base")
        if provider == "hosted_vllm":
            base, owner = base or os.environ.get("HOSTED_VLLM_API_BASE"), "vllm"
        elif provider == "openai" and self.prefix is None and base and may_be_own(base):
            owner = None
        else:
            return None
        if not base:
            return None
        key = self.kwargs.get("api_key") or os.environ.get(f"{provider.upper()}_API_KEY") or "none"
        address = address_of(base, key, self.kwargs.get("timeout"), owner)
        return address if address.steers else None

    def _look_up(self, ask: Callable[[Address], T]) -> T | None:
        """What the server says; None where there is none that answers in time: the call will say what is wrong."""
        address = self._address
        try:
            with in_flight(_LOOK_UP):
                return None if address is None else ask(address)
        except (LM15Error, LMError):
            return None

    @property
    def _name(self) -> str:
        return str(self.model).partition("/")[2]

    def _on(self, engine: ServedEngine | StagedEngine) -> ServedLM:
        settings: dict[str, Any] = {"engine": engine, "async_engine": ThreadedEngine(engine), "num_retries": 0}
        settings |= dict.fromkeys(_CONNECTION)
        lm: ServedLM = self.copy(**settings)  # type: ignore[no-untyped-call, unused-ignore]
        lm.history = self.history
        return lm
