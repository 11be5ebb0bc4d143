"""Spans and metrics of model calls, in memory."""

from dataclasses import dataclass, field
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from agentflow import CallSite
from agentflow.tracing import Tracing


@dataclass
class Traced:
    exporter: InMemorySpanExporter
    reader: InMemoryMetricReader
    tracing: Tracing
    parent: trace.Span
    names: list[str] = field(default_factory=list)

    def site(self) -> CallSite:
        return CallSite(
            agent="critic", path="team.critic", branch="b", invocation_id="e-1", session_id="s-1",
            tracing=self.tracing, span=self.parent,
        )  # fmt: skip

    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self.exporter.get_finished_spans()}

    def metric(self, name: str) -> list[Any]:
        data = self.reader.get_metrics_data()
        scopes = data.resource_metrics[0].scope_metrics if data else []
        return [point for scope in scopes for m in scope.metrics if m.name == name for point in m.data.data_points]
