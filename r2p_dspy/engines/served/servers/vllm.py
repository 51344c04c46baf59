"""A client of vLLM servers."""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import Any, NoReturn

from dspy.lm15 import LM15Error, UnsupportedFeatureError

from r2p_dspy.engines.served.servers.completions import completion
from r2p_dspy.engines.served.servers.server import Chunk, Form, Prompt, Server, ends_inside
from r2p_dspy.engines.served.servers.transport import Transport, has_no_route

_LINE_ENDS = re.compile(r"(?:\s|Ċ|▁|<0x0A>)+\Z")  # as tokenizers spell them


class VLLMServer(Server):
    """A client of a vLLM server. It renders chats with `/tokenize`, and continues token ids with `/v1/completions`.

    Grammars go to vLLM's guidance backend, which `--structured-outputs-config` names. Its default, "auto", comes to it
    too, once the other backends have refused the grammar.
    """

    steers = True

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._contexts: dict[str, int] = {}

    @property
    def url(self) -> str:
        return self._transport.url

    def prompt(self, model: str, messages: list[dict[str, str]], template: dict[str, Any]) -> Prompt:
        options = {"messages": messages, "add_generation_prompt": True, "return_token_strs": True}
        tokenized = self._tokenize(model, **options, chat_template_kwargs=template)
        tail = "".join(tokenized.get("token_strs") or [])[-80:]
        return Prompt(tokenized["tokens"], ends_inside(_LINE_ENDS.sub("", tail)), tokenized["max_model_len"])

    def context(self, model: str) -> int:
        if model not in self._contexts:
            self._contexts[model] = self._tokenize(model, prompt="a")["max_model_len"]
        return self._contexts[model]

    def encode(self, model: str, text: str) -> list[int]:
        ids: list[int] = self._tokenize(model, prompt=text, add_special_tokens=False)["tokens"]
        return ids

    def stream(self, model: str, prompt: list[int], limit: int, options: dict[str, Any]) -> Generator[Chunk]:
        return completion(self._transport, model, prompt, limit, options)

    def forms(self) -> tuple[Form, ...]:
        return ("grammar", "schema")

    def held_to(self, form: Form, value: str | dict[str, Any]) -> dict[str, Any]:
        return {"structured_outputs": {"grammar" if form == "grammar" else "json": value}}

    def _tokenize(self, model: str, **options: Any) -> dict[str, Any]:  # Any: JSON
        try:
            answer = self._transport.post("/tokenize", {"model": model, **options})
        except LM15Error as error:
            if has_no_route(error):
                self._refuse(error)
            raise
        if not (isinstance(answer, dict) and answer.get("tokens") and "max_model_len" in answer):
            self._refuse(None)
        return answer

    def _refuse(self, cause: Exception | None) -> NoReturn:
        self.steers = False
        message = f"the server at {self.url} has no /tokenize of vLLM's kind, so its answers cannot be steered"
        raise UnsupportedFeatureError(message, feature="steering") from cause
