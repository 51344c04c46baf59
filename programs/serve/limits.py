"""What a service does not take: more calls than it can make, bodies too large or too slow, requests at its end."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from programs.serve.metrics import Metrics
from programs.serve.problems import Problem
from programs.serve.tokens import Refused, Tokens

OPEN_PATHS = ("/healthz", "/readyz", "/metrics", "/openapi.json")
_BODY_SECONDS = 30.0  # for the whole of a body to arrive


class InFlight:
    """Counts requests, and calls of programs among them.

    Args:
        most: calls of programs at the same time.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.requests = self.calls = 0
        self.draining = False  # the service finishes what it has, and takes nothing new

    @contextmanager
    def call(self) -> Iterator[None]:
        """One call of a program; raises a `Problem` with status 429 where there are too many."""
        if self.calls >= self._most:
            raise Problem(429, f"{self._most} calls are in flight already; try again in a second")
        self.calls += 1
        try:
            yield
        finally:
            self.calls -= 1


class Gate:
    """The outermost layer: it counts requests, knows their tenants, and bounds their bodies.

    Args:
        app: the application behind it.
        tokens: who may ask.
        in_flight: the counts.
        max_bytes: of a body.
        metrics: where requests are counted.
    """

    def __init__(self, app: ASGIApp, tokens: Tokens, in_flight: InFlight, max_bytes: int, metrics: Metrics) -> None:
        self._app, self._tokens, self._in_flight = app, tokens, in_flight
        self._max_bytes, self._metrics = max_bytes, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, self._in_flight.requests = False, self._in_flight.requests + 1

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        with self._metrics.request(scope) as observed:
            try:
                self._admit(scope)
                await self._app(scope, self._bounded(receive), observed(sending))
            except Problem as problem:  # while the body was read, or before
                if begun:
                    raise
                await problem.response()(scope, receive, observed(sending))
            finally:
                self._in_flight.requests -= 1

    def _admit(self, scope: Scope) -> None:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        if scope["path"] not in OPEN_PATHS:
            if self._in_flight.draining:
                raise Problem(503, "the service is shutting down; ask another one, or later", {"Connection": "close"})
            tenant = self._tokens.tenant(headers.get(b"authorization"))
            if isinstance(tenant, Refused):
                raise Problem(401, tenant.reason, {"WWW-Authenticate": "Bearer"})
            scope.setdefault("state", {})["tenant"] = tenant
        length = headers.get(b"content-length", "0")
        if length.isdigit() and int(length) > self._max_bytes:
            raise self._too_large()

    def _bounded(self, receive: Receive) -> Receive:
        taken, whole = 0, False
        ends = asyncio.get_running_loop().time() + _BODY_SECONDS

        async def bounded() -> Message:
            nonlocal taken, whole
            if whole:  # what comes now is the client's leaving
                return await receive()
            try:
                async with asyncio.timeout_at(ends):
                    message = await receive()
            except TimeoutError:
                raise Problem(408, f"the body did not arrive within {_BODY_SECONDS:.0f} seconds") from None
            taken += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if taken > self._max_bytes:
                raise self._too_large()
            return message

        return bounded

    def _too_large(self) -> Problem:
        return Problem(413, f"the body is larger than {self._max_bytes:,} bytes; keep long histories in the store")
