"""What is loaded in a thread on first use is loaded before: time that jumps doesn't wait for threads."""

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from agentflow.models import anthropic, openai, prices, pydantic_ai
from agentflow.tracing import Tracing
from tests.models.traces import Traced


@pytest.fixture(scope="session", autouse=True)
def loaded() -> None:
    prices._load()
    anthropic._sdk()
    openai._sdk()
    pydantic_ai._load()


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Traced:
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers, meters = TracerProvider(), MeterProvider([reader])
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", lambda *args: tracers.get_tracer("agentflow"))
    monkeypatch.setattr(metrics, "get_meter", lambda *args: meters.get_meter("agentflow"))
    tracing = Tracing()
    return Traced(exporter, reader, tracing, tracers.get_tracer("t").start_span("invoke_agent critic"))
