"""A client of SGLang servers."""

from __future__ import annotations

import json
from collections.abc import Generator
from functools import cached_property
from itertools import takewhile
from typing import Any

from dspy.lm15 import InvalidRequestError, LM15Error, UnsupportedFeatureError

from r2p_dspy.engines.served.servers.completions import completion
from r2p_dspy.engines.served.servers.server import Chunk, Form, Prompt, Server, ends_inside
from r2p_dspy.engines.served.servers.transport import Transport, has_no_route

_TAIL = 12  # tokens at the end of a prompt that tell whether a thought is open


class SGLangServer(Server):
    """A client of an SGLang server whose `/tokenize` takes messages.

    Grammars of llguidance's need `--grammar-backend llguidance`; the other backends take a JSON Schema.
    """

    steers = True

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        # Newer servers begin every text with the model's special tokens, whatever they are asked for: so many.
        self._special: dict[str, int] = {}

    @property
    def url(self) -> str:
        return self._transport.url

    def prompt(self, model: str, messages: list[dict[str, str]], template: dict[str, Any]) -> Prompt:
        try:
            ids = self._tokenize(model, messages=messages, chat_template_kwargs=template)
        except InvalidRequestError as error:
            if "prompt" not in str(error) and not has_no_route(error):
                raise
            self.steers = False
            message = (
                f"the server at {self.url} is an SGLang whose /tokenize takes no messages, so it cannot be steered"
            )
            raise UnsupportedFeatureError(message, feature="steering") from error
        body = {"model": model, "tokens": ids[-_TAIL:], "skip_special_tokens": False}
        tail = self._transport.post("/detokenize", body)["text"]
        return Prompt(ids, ends_inside(tail), self.context(model))

    def context(self, model: str) -> int:
        return self._context

    def encode(self, model: str, text: str) -> list[int]:
        if model not in self._special:
            pairs = zip(*(self._tokenize(model, prompt=text, add_special_tokens=False) for text in "ab"), strict=False)
            self._special[model] = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        return self._tokenize(model, prompt=text, add_special_tokens=False)[self._special[model] :]

    def stream(self, model: str, prompt: list[int], limit: int, options: dict[str, Any]) -> Generator[Chunk]:
        return completion(self._transport, model, prompt, limit, options)

    def forms(self) -> tuple[Form, ...]:
        backend = self._info.get("grammar_backend")
        if backend == "llguidance":
            return ("grammar", "schema")
        return () if backend == "none" else ("schema",)

    def held_to(self, form: Form, value: str | dict[str, Any]) -> dict[str, Any]:
        return {"ebnf": value} if form == "grammar" else {"json_schema": json.dumps(value)}

    def _tokenize(self, model: str, **options: Any) -> list[int]:  # Any: JSON
        ids: list[int] = self._transport.post("/tokenize", {"model": model, **options})["tokens"]
        return ids

    @cached_property
    def _context(self) -> int:
        (card, *_) = self._transport.get("/v1/models")["data"]
        return int(card["max_model_len"])

    @cached_property
    def _info(self) -> dict[str, Any]:
        try:
            info: dict[str, Any] = self._transport.get("/server_info")
        except LM15Error as error:
            if not has_no_route(error):
                raise
            info = self._transport.get("/get_server_info")
        return info
