"""A client of llama.cpp's server."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from functools import cached_property
from typing import Any

from dspy.lm15 import TransportError

from r2p_dspy.engines.served.servers.server import Chunk, Form, Prompt, Server, ends_inside
from r2p_dspy.engines.served.servers.transport import Transport

_EVENT_BYTES = 1000  # of one token in a stream, at most
_LARGEST_SEED = 2**32 - 1  # which stands for a random one


class LlamaCppServer(Server):
    """A client of llama.cpp's server.

    Grammars of llguidance's need a build with `-DLLAMA_LLGUIDANCE=ON`; all builds take a JSON Schema.
    """

    steers = True

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @property
    def url(self) -> str:
        return self._transport.url

    def prompt(self, model: str, messages: list[dict[str, str]], template: dict[str, Any]) -> Prompt:
        body = {"model": model, "messages": messages, "chat_template_kwargs": template}
        text: str = self._transport.post("/apply-template", body)["prompt"]
        ids = self._tokenize(model, text, add_special=True, parse_special=True)  # as the server's own chats are read
        return Prompt(ids, ends_inside(text), self._context)

    def context(self, model: str) -> int:
        return self._context

    def encode(self, model: str, text: str) -> list[int]:
        return self._tokenize(model, text, add_special=False, parse_special=False)

    def stream(self, model: str, prompt: list[int], limit: int, options: dict[str, Any]) -> Generator[Chunk]:
        body = {"model": model, "prompt": prompt, "n_predict": limit, "return_tokens": True, **options, "stream": True}
        if "seed" in body:
            body["seed"] %= _LARGEST_SEED
        reported, finish = 0, None
        with closing(self._transport.events("/completion", body, limit * _EVENT_BYTES)) as events:
            for event in events:
                if event.get("stop"):
                    finish = "length" if event.get("stop_type") == "limit" else "stop"
                ids = event.get("tokens") or []
                reported += len(ids)
                generated = event.get("tokens_predicted", reported)
                # A character of several tokens is sent as one event, with the last of its tokens alone.
                missing, reported = generated != reported, generated
                yield Chunk(event.get("content") or "", None if missing else ids, finish, generated)
        if finish is None:
            raise TransportError(f"the server at {self.url} broke off within an answer")

    def forms(self) -> tuple[Form, ...]:
        return ("grammar", "schema") if self._has_llguidance else ("schema",)

    def held_to(self, form: Form, value: str | dict[str, Any]) -> dict[str, Any]:
        if form == "schema":
            return {"json_schema": value}
        header = "%llguidance {}\n"
        return {"grammar": value if str(value).startswith("%llguidance") else f"{header}{value}"}

    def _tokenize(self, model: str, text: str, **options: bool) -> list[int]:
        ids: list[int] = self._transport.post("/tokenize", {"model": model, "content": text, **options})["tokens"]
        return ids

    @cached_property
    def _context(self) -> int:
        return int(self._transport.get("/props")["default_generation_settings"]["n_ctx"])

    @cached_property
    def _has_llguidance(self) -> bool:
        # A build without it ends the whole server at such a grammar. Builds with it turn schemas into such grammars.
        body = {"prompt": "a", "n_predict": 0, "json_schema": {"type": "boolean"}}
        settings = self._transport.post("/completion", body).get("generation_settings") or {}
        return str(settings.get("grammar", "")).startswith("%llguidance")
