"""Spans for OpenTelemetry. Off (the default) a span costs one function call and nothing is imported.

    with span("search_vectors", collection__name=name, top_k=10) as current:
        ...
        current.set(cache__hit=True)

A double underscore in a name stands for the dot of OpenTelemetry's attribute names.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from akidb.config.settings import Telemetry
from akidb.errors import ConfigurationError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Tracer

log = logging.getLogger("akidb.telemetry")

_FLUSH_SECS = 2.0
_provider: TracerProvider | None = None
_tracer: Tracer | None = None


class Span:
    """A span that is off: a context manager that does nothing, shared by all."""

    __slots__ = ()

    def set(self, **attributes: Any) -> None:
        """Adds attributes to the span."""

    def __enter__(self) -> Span:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


_OFF = Span()


class _RealSpan(Span):
    __slots__ = ("_context", "_span")

    def __init__(
        self, tracer: Tracer, name: str, attributes: Mapping[str, Any], carrier: Mapping[str, str] | None
    ) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        parent = None if carrier is None else TraceContextTextMapPropagator().extract(carrier)
        self._context = tracer.start_as_current_span(name, parent, attributes=_dotted(attributes))
        self._span: Any = None

    def set(self, **attributes: Any) -> None:
        self._span.set_attributes(_dotted(attributes))

    def __enter__(self) -> Span:
        self._span = self._context.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._context.__exit__(kind, error, trace)


def _dotted(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name.replace("__", "."): value for name, value in attributes.items()}


def span(name: str, *, carrier: Mapping[str, str] | None = None, **attributes: Any) -> Span:
    """A span around a `with` block: child of the current one, or of the one in `carrier` (W3C trace context)"""
    tracer = _tracer
    return _OFF if tracer is None else _RealSpan(tracer, name, attributes, carrier)


def enabled() -> bool:
    return _tracer is not None


def configure(settings: Telemetry, *, version: str, exporter: SpanExporter | None = None) -> None:
    """Starts sending spans if `settings.enabled`. `exporter` replaces the OTLP one.

    Spans are queued and sent by a thread of their own; when the collector is away the queue drops the oldest, and no
    request waits.

    Raises:
        ConfigurationError: the exporter is not installed.
    """
    global _provider, _tracer
    if not settings.enabled:
        return
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    target = exporter or _otlp(settings)
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(settings.sampling_ratio)),
        resource=Resource.create({"service.name": settings.service_name, "service.version": version}),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(BatchSpanProcessor(target, export_timeout_millis=settings.export_timeout_secs * 1000))
    _provider, _tracer = provider, provider.get_tracer("akidb", version)
    log.info(
        "OpenTelemetry initialized",
        extra={"endpoint": settings.jaeger_endpoint, "sampling_ratio": settings.sampling_ratio},
    )


def _otlp(settings: Telemetry) -> SpanExporter:
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise ConfigurationError(
            "telemetry.enabled is true but the OTLP exporter is not installed; install akidb[telemetry]"
        ) from error
    insecure = not settings.jaeger_endpoint.startswith("https://")
    return OTLPSpanExporter(endpoint=settings.jaeger_endpoint, insecure=insecure, timeout=settings.export_timeout_secs)


def shutdown() -> None:
    """Sends what is queued, for two seconds at most: a dead collector must not hold up the end of the process."""
    global _provider, _tracer
    provider, _provider, _tracer = _provider, None, None
    if provider is not None:
        flusher = threading.Thread(target=provider.shutdown, name="akidb-trace-flush", daemon=True)
        flusher.start()
        flusher.join(_FLUSH_SECS)
