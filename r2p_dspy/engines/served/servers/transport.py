"""Requests to a model server, in JSON, as parts of the call in flight, and what becomes of its refusals."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from dspy.lm15 import (
    AuthError,
    ContextLengthError,
    InvalidRequestError,
    LM15Error,
    RateLimitError,
    ServerError,
    TransportError,
    UnsupportedModelError,
)

from r2p_dspy.engines.served.deadline import in_flight

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_REFUSALS = {401: AuthError, 403: AuthError, 404: UnsupportedModelError, 429: RateLimitError}
_NO_ROUTE = (404, 405, 501)
_NO_ROOM = ("context length", "context size", "context window")


class Transport:
    """Sends requests to one server; safe to use from many threads.

    Every request raises errors of `dspy.lm15` in one line: `TransportError` when the server cannot be reached or breaks
    off, and for refusals the error of their status. Within a call in flight (`deadline`), that call's deadline holds;
    else the timeout is that of a request, or of a whole stream.

    Args:
        api_base: the server's address, with or without `/v1`; paths are those after it.
        key: any text for a server that has none.
        timeout: in seconds; None for no deadline.
    """

    # Any: JSON.

    def __init__(self, api_base: str, key: str, timeout: float | None) -> None:
        self.url = api_base.rstrip("/").removesuffix("/v1")
        self.timeout = timeout
        self._key = key
        self._made = self._make()

    @property
    def _client(self) -> AsyncOpenAI:
        """The client of this process: a forked one cannot use its parent's connections."""
        if self._made[0] != os.getpid():
            self._made = self._make()
        return self._made[1]

    def _make(self) -> tuple[int, AsyncOpenAI]:
        import openai  # takes most of a second

        return os.getpid(), openai.AsyncOpenAI(base_url=self.url, api_key=self._key, timeout=None, max_retries=0)

    def get(self, path: str) -> Any:
        """The answer to a GET request."""
        with self._errors(), in_flight(self.timeout) as call:
            return call.wait(self._client.get(self.url + path, cast_to=object))

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """The answer to a POST request."""
        with self._errors(), in_flight(self.timeout) as call:
            return call.wait(self._client.post(self.url + path, body=body, cast_to=object))

    def events(self, path: str, body: dict[str, Any], max_bytes: int) -> Generator[dict[str, Any]]:
        """The events of a stream, which may have so many bytes. Closing it hangs up, which stops the server's work."""
        from openai import AsyncStream

        request = self._client.post(
            self.url + path, body=body, cast_to=object, stream=True, stream_cls=AsyncStream[object]
        )
        with self._errors(), in_flight(self.timeout) as call:
            call.max_bytes = max(call.max_bytes, max_bytes)
            with closing(call.stream(request)) as events:
                for event in events:
                    if isinstance(event, dict):
                        yield event

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
            if status == 400 and any(words in reason for words in _NO_ROOM):
                kind = ContextLengthError
            raise kind(f"the server at {self.url} refused: {reason}", status=status) from cause
        except (openai.APIConnectionError, httpx.HTTPError) as cause:
            raise TransportError(f"the server at {self.url} broke off: {_line(_root(cause))}") from cause
        except (openai.APIError, ValueError) as cause:  # an error event, or broken JSON, in the stream
            raise ServerError(f"the server at {self.url} failed: {_line(cause)}") from cause


def has_no_route(error: LM15Error) -> bool:
    """Whether a server has refused a request because it has no such path; a model that it lacks is another matter."""
    import openai

    refusal = error.__cause__
    return (
        isinstance(refusal, openai.APIStatusError)
        and refusal.status_code in _NO_ROUTE
        and "model" not in refusal.message
    )


def _root(error: BaseException) -> BaseException:
    """What an error came from: each layer of a client wraps the one that says what happened."""
    inner = error.__cause__ or error.__context__
    return error if inner is None else _root(inner)


def _line(message: object) -> str:
    return " ".join(str(message).split())[:300]
