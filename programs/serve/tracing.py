"""OpenTelemetry: a span for each call of a program, where its packages and an OTEL_ setting are there."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

_SETTINGS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")

SetAttributes = Callable[[Mapping[str, Any]], None]


class Tracing:
    """Makes spans with a provider of OpenTelemetry's; without one, nothing. Spans hold no texts.

    Args:
        provider: of tracers; None for none.
    """

    def __init__(self, provider: Any = None) -> None:  # Any: the packages are optional
        self._provider = provider
        self._tracer = None if provider is None else provider.get_tracer("r2p_dspy.serve")

    @contextmanager
    def span(self, program: str, headers: Mapping[str, str]) -> Iterator[SetAttributes]:
        """A span of a call, under the trace that the request's headers name; gives what sets its attributes."""
        if self._tracer is None:
            yield lambda attributes: None
            return
        from opentelemetry import propagate

        context = propagate.extract(dict(headers))
        with self._tracer.start_as_current_span("program", context=context) as span:
            span.set_attribute("r2p.program", program)
            yield lambda attributes: span.set_attributes({f"r2p.{name}": value for name, value in attributes.items()})

    def close(self) -> None:
        """Send what is left."""
        if self._provider is not None:
            self._provider.shutdown()


def configured() -> Tracing:
    """Tracing as the environment says: OTLP where an endpoint is set and the packages are installed."""
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or not any(map(os.environ.get, _SETTINGS)):
        return Tracing()
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError:
        return Tracing()
    provider = TracerProvider()  # reads OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracing(provider)
