"""A client of vLLM servers for steering: token ids of chats and texts, and streams of what follows them."""

from __future__ import annotations

import re
from collections.abc import Coroutine, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from dspy.lm15 import (
    AuthError,
    ContextLengthError,
    InvalidRequestError,
    LM15Error,
    RateLimitError,
    ServerError,
    TransportError,
    UnsupportedFeatureError,
    UnsupportedModelError,
)

from r2p_dspy.engines.chat import OPEN
from r2p_dspy.engines.served.deadline import in_flight

T = TypeVar("T")

_REFUSALS = {401: AuthError, 403: AuthError, 404: UnsupportedModelError, 429: RateLimitError}
_NO_ROUTE = (404, 405, 501)
_EVENT_BYTES = 1000  # of one token in a stream, at most; about 400 are usual
_LINE_ENDS = re.compile(r"(?:\s|Ċ|▁|<0x0A>)+\Z")  # as tokenizers spell them


@dataclass(frozen=True)
class Prompt:
    """A chat as token ids, up to the beginning of the assistant's turn."""

    ids: list[int]
    inside: bool  # whether they end inside a thought
    context: int  # tokens that prompt and answer may have together


@dataclass(frozen=True)
class Chunk:
    """One event of a stream."""

    text: str  # new text; may be empty
    ids: list[int] | None  # the new tokens; None if the server does not report them
    finish: str | None  # why the answer has ended; None while it goes on
    generated: int  # tokens of the answer so far


class Server:
    """A client of a vLLM server, safe to use from many threads.

    Every call raises errors of `dspy.lm15` in one line: `TransportError` when the server cannot be reached or breaks
    off, `UnsupportedFeatureError` when it is not a vLLM server, and for refusals the error of their
    status. The key is any text for a server that has none. Within a call in flight (`deadline`), that call's deadline
    holds; else the timeout, in seconds, is that of a request, or of a whole stream.
    """

    def __init__(self, api_base: str, key: str, timeout: float | None) -> None:
        import openai  # takes most of a second

        self.url = api_base.rstrip("/").removesuffix("/v1")
        self.tokenizes = True  # False once the server has turned out to have no /tokenize
        self._contexts: dict[str, int] = {}
        self.timeout = timeout
        self._client = openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key=key, timeout=None, max_retries=0)

    def prompt(self, model: str, messages: list[dict[str, str]], template: dict[str, Any]) -> Prompt:
        """The token ids of a chat by the model's own chat template; `template` holds the template's options."""
        # Continued as ids, not as a message: each template changes an unfinished assistant's message in its own way.
        options = {"messages": messages, "add_generation_prompt": True, "return_token_strs": True}
        tokenized = self._tokenize(model, **options, chat_template_kwargs=template)
        tail = "".join(tokenized.get("token_strs") or [])[-80:]
        return Prompt(tokenized["tokens"], _LINE_ENDS.sub("", tail).endswith(OPEN), tokenized["max_model_len"])

    def context(self, model: str) -> int:
        """Tokens that prompt and answer may have together; the server is asked once."""
        if model not in self._contexts:
            self._contexts[model] = self._tokenize(model, prompt="a")["max_model_len"]
        return self._contexts[model]

    def encode(self, model: str, text: str) -> list[int]:
        """The token ids of a text as the model would write it."""
        ids: list[int] = self._tokenize(model, prompt=text, add_special_tokens=False)["tokens"]
        return ids

    def stream(self, model: str, prompt: list[int], limit: int, options: dict[str, Any]) -> Generator[Chunk]:
        """What follows a prompt, up to `limit` tokens. Closing the stream stops the server's work."""
        from openai import AsyncStream
        from openai.types import Completion

        usage = {"include_usage": True, "continuous_usage_stats": True}
        body = {"model": model, "prompt": prompt, "max_tokens": limit, "return_token_ids": True, **options}
        body |= {"stream": True, "stream_options": usage}
        generated, finish = 0, None
        # `completions.create` would look at every token of the prompt: 40 ms for six thousand.
        request = self._client.post(
            "/completions", body=body, cast_to=Completion, stream=True, stream_cls=AsyncStream[Completion]
        )
        with self._errors(), in_flight(self.timeout) as call:
            call.max_bytes = max(call.max_bytes, limit * _EVENT_BYTES)
            with closing(call.stream(request)) as events:
                for event in events:
                    choice = event.choices[0] if event.choices else None
                    ids = getattr(choice, "token_ids", None)
                    generated += len(ids) if ids is not None else bool(choice and choice.text)
                    if event.usage is not None:
                        generated = event.usage.completion_tokens
                    finish = (choice and choice.finish_reason) or finish
                    yield Chunk(choice.text if choice else "", ids, finish, generated)
        if finish is None:
            raise TransportError(f"the server at {self.url} broke off within an answer")

    def _tokenize(self, model: str, **options: Any) -> dict[str, Any]:  # Any: JSON
        import openai

        request = self._client.post(f"{self.url}/tokenize", body={"model": model, **options}, cast_to=object)
        try:
            answer: object = self._wait(request)
        except LM15Error as error:
            refusal = error.__cause__
            if (
                isinstance(refusal, openai.APIStatusError)
                and refusal.status_code in _NO_ROUTE
                and "model" not in refusal.message
            ):
                self._refuse(refusal)
            raise
        if not (isinstance(answer, dict) and answer.get("tokens") and "max_model_len" in answer):
            self._refuse(None)
        return answer

    def _refuse(self, cause: Exception | None) -> NoReturn:
        self.tokenizes = False
        message = f"the server at {self.url} has no /tokenize of vLLM's kind, so its answers cannot be steered"
        raise UnsupportedFeatureError(message, feature="steering") from cause

    def _wait(self, request: Coroutine[Any, Any, T]) -> T:
        """The result of a request, which is a part of the call in flight."""
        with self._errors(), in_flight(self.timeout) as call:
            return call.wait(request)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        import httpx
        import openai

        try:
            yield
        except openai.APIStatusError as cause:
            message = cause.body.get("message") if isinstance(cause.body, dict) else None
            status, reason = cause.status_code, _line(message or cause.message)
            kind = _REFUSALS.get(status, InvalidRequestError if status < 500 else ServerError)
            if status == 400 and "context length" in reason:
                kind = ContextLengthError
            raise kind(f"the server at {self.url} refused: {reason}", status=status) from cause
        except (openai.APIConnectionError, httpx.HTTPError) as cause:
            raise TransportError(f"the server at {self.url} broke off: {_line(_root(cause))}") from cause
        except (openai.APIError, ValueError) as cause:  # an error event, or broken JSON, in the stream
            raise ServerError(f"the server at {self.url} failed: {_line(cause)}") from cause


def _root(error: BaseException) -> BaseException:
    """What an error came from: each layer of a client wraps the one that says what happened."""
    inner = error.__cause__ or error.__context__
    return error if inner is None else _root(inner)


def _line(message: object) -> str:
    return " ".join(str(message).split())[:300]
