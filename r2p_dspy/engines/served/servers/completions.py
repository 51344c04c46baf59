"""OpenAI's completions of token ids, as vLLM and SGLang stream them."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from typing import Any

from dspy.lm15 import ServerError, TransportError

from r2p_dspy.engines.served.servers.server import Chunk
from r2p_dspy.engines.served.servers.transport import Transport

_EVENT_BYTES = 1000  # of one token in a stream, at most; about 400 are usual


def completion(
    transport: Transport, model: str, prompt: list[int], limit: int, options: dict[str, Any]
) -> Generator[Chunk]:
    """What follows a prompt; options are the server's own, as JSON."""
    body = {"model": model, "prompt": prompt, "max_tokens": limit, "return_token_ids": True, **options}
    body |= {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}}
    generated, finish = 0, None
    with closing(transport.events("/v1/completions", body, limit * _EVENT_BYTES)) as events:
        for event in events:
            choice: dict[str, Any] = next(iter(event.get("choices") or ()), {})
            text, ids = choice.get("text") or "", choice.get("token_ids")
            generated += len(ids) if ids is not None else bool(text)
            if usage := event.get("usage"):
                generated = usage["completion_tokens"]
            finish = choice.get("finish_reason") or finish
            if finish == "abort":
                raise ServerError(f"the server at {transport.url} gave up an answer")
            yield Chunk(text, ids, finish, generated)
    if finish is None:
        raise TransportError(f"the server at {transport.url} broke off within an answer")
