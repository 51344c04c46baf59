"""Numbers of a service for Prometheus; none of them holds a text."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.types import Message, Scope, Send

CONTENT_TYPE = CONTENT_TYPE_LATEST
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)  # seconds


class Metrics:
    """The metrics of one service, which `GET /metrics` shows."""

    def __init__(self, in_flight: Callable[[], int]) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "r2p_requests", "Requests by route and status.", ["route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "r2p_request_seconds", "Seconds until a response was whole.", ["route"], buckets=_BUCKETS, registry=registry
        )
        self._answers = Counter("r2p_answers", "Answers by program.", ["program"], registry=registry)
        self._unmet = Counter(
            "r2p_unmet_checks", "Answers that a check objects to.", ["program", "check"], registry=registry
        )
        self._tokens = Counter("r2p_tokens", "Tokens of prompts and answers.", ["program", "kind"], registry=registry)
        self._feedback = Counter("r2p_feedback", "Feedback by kind.", ["kind"], registry=registry)
        Gauge("r2p_calls_in_flight", "Calls of programs in flight.", registry=registry).set_function(in_flight)

    @contextmanager
    def request(self, scope: Scope) -> Iterator[Callable[[Send], Send]]:
        """Observe a request; gives what wraps its `send`."""
        begun, status = time.perf_counter(), 0

        def observed(send: Send) -> Send:
            async def sending(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                await send(message)

            return sending

        try:
            yield observed
        finally:
            route = getattr(scope.get("route"), "path", "other")  # never the address as sent, which may name a user
            self._requests.labels(route, str(status or 500)).inc()
            self._seconds.labels(route).observe(time.perf_counter() - begun)

    def answered(self, program: str, answer: Mapping[str, Any]) -> None:
        """Count an answer."""
        self._answers.labels(program).inc()
        for violation in answer["violations"]:
            self._unmet.labels(program, violation["check"]).inc()
        for kind in ("prompt_tokens", "completion_tokens"):
            self._tokens.labels(program, kind.removesuffix("_tokens")).inc(answer["usage"][kind])

    def feedback(self, *kinds: str) -> None:
        """Count feedback."""
        for kind in kinds:
            self._feedback.labels(kind).inc()

    def text(self) -> bytes:
        """What Prometheus reads."""
        return generate_latest(self._registry)
