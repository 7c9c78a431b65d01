import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from akidb.config.settings import Telemetry
from akidb.telemetry import tracing

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def exporter():
    target = InMemorySpanExporter()
    tracing.configure(Telemetry(enabled=True), version="1", exporter=target)
    yield target
    tracing.shutdown()


async def test_a_search_is_one_trace_from_the_request_to_the_answers_bytes(filled, exporter):
    parent = f"00-{TRACE}-b7ad6b7169203331-01"
    await filled.post("/collections/compass/search", {"vector": [1, 0], "top_k": 2}, traceparent=parent)
    tracing.shutdown()
    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert {"http_request", "search_vectors", "filter_results", "response_serialization"} <= set(spans)
    assert {f"{span.context.trace_id:032x}" for span in spans.values()} == {TRACE}
    request, search = spans["http_request"], spans["search_vectors"]
    assert search.parent.span_id == request.context.span_id
    assert spans["response_serialization"].parent.span_id == search.context.span_id
    assert request.attributes["http.route"] == "/collections/{name}/search"
    assert request.attributes["http.status_code"] == 200
    assert dict(search.attributes) == {
        "collection.name": "compass",
        "vector.dimension": 2,
        "top_k": 2,
        "filter.enabled": False,
        "index.type": "auto",
    }
