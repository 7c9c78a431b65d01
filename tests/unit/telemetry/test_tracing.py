import logging
import subprocess
import sys

import pytest
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from akidb.config import Settings
from akidb.config.settings import Telemetry
from akidb.telemetry import tracing


@pytest.fixture
def exporter(caplog):
    caplog.set_level(logging.INFO, "akidb")
    target = InMemorySpanExporter()
    tracing.configure(Telemetry(enabled=True), version="1", exporter=target)
    yield target
    tracing.shutdown()


def test_off_a_span_is_one_shared_object_and_imports_nothing():
    code = """
import sys
from akidb.telemetry.tracing import span
with span("a", top_k=1) as current:
    current.set(cache__hit=True)
assert span("a") is span("b")
assert not [name for name in sys.modules if name.startswith(("opentelemetry", "grpc"))]
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_settings_off_by_default_leave_tracing_off():
    tracing.configure(Settings().telemetry, version="1")
    assert not tracing.enabled()


def test_spans_nest_and_carry_dotted_attributes(exporter):
    with tracing.span("search_vectors", collection__name="books", top_k=3), tracing.span("hnsw_search") as inner:
        inner.set(cache__hit=True)
    tracing.shutdown()
    inner, outer = exporter.get_finished_spans()
    assert (inner.name, dict(inner.attributes)) == ("hnsw_search", {"cache.hit": True})
    assert dict(outer.attributes) == {"collection.name": "books", "top_k": 3}
    assert inner.parent.span_id == outer.context.span_id


def test_the_log_says_that_tracing_is_on(exporter, caplog):
    assert "OpenTelemetry initialized" in [record.getMessage() for record in caplog.get_records("setup")]


def test_an_error_is_recorded_and_passed_on(exporter):
    with pytest.raises(ValueError), tracing.span("a"):
        raise ValueError("no")
    tracing.shutdown()
    (found,) = exporter.get_finished_spans()
    assert not found.status.is_ok


def test_the_callers_trace_is_continued(exporter):
    trace = "0af7651916cd43dd8448eb211c80319c"
    with tracing.span("http_request", carrier={"traceparent": f"00-{trace}-b7ad6b7169203331-01"}):
        pass
    tracing.shutdown()
    (found,) = exporter.get_finished_spans()
    assert f"{found.context.trace_id:032x}" == trace


def test_a_collector_that_refuses_everything_reaches_no_request():
    class Dead(SpanExporter):
        def export(self, spans):
            return SpanExportResult.FAILURE

    tracing.configure(Telemetry(enabled=True), version="1", exporter=Dead())
    for _ in range(5000):  # more than the queue holds
        with tracing.span("a"):
            pass
    tracing.shutdown()
    assert not tracing.enabled()
