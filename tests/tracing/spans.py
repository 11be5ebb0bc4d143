"""Spans as text: what was traced, as an indented tree that a test compares as a whole."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from difflib import ndiff
from textwrap import dedent

import pytest
from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler

from agentflow import tracing


class Ledger(SpanProcessor):
    """Keeps which spans were started and which ended, in order, so that nothing depends on a clock."""

    def __init__(self) -> None:
        self.started: dict[int, int] = {}
        self.ended: dict[int, int] = {}
        self.names: dict[int, str] = {}
        self._count = 0

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        self._count += 1
        assert span.context is not None
        self.started[span.context.span_id] = self._count
        self.names[span.context.span_id] = span.name

    def on_end(self, span: ReadableSpan) -> None:
        self._count += 1
        assert span.context is not None
        assert span.context.span_id not in self.ended, f"{span.name} ended twice"
        self.ended[span.context.span_id] = self._count

    def open(self) -> list[str]:
        """Names of the spans that were started and not ended."""
        return [name for span_id, name in self.names.items() if span_id not in self.ended]


class Traced:
    """The spans of this test."""

    def __init__(self, sampler: Sampler | None = None) -> None:
        self.ledger = Ledger()
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        self.provider.add_span_processor(self.ledger)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("test")
        trace.set_tracer_provider(self.provider)

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """Those that have ended, in that order."""
        return self.exporter.get_finished_spans()

    def one(self, name: str) -> ReadableSpan:
        """The only span of this name."""
        (span,) = [span for span in self.spans if span.name == name]
        return span

    def lines(self) -> list[str]:
        """All of them, every one ended, as a tree; see `tree`."""
        return tree(self.spans, self.ledger).splitlines()

    def shows(self, expected: str) -> None:
        """Fail unless they are the tree that `expected` draws."""
        wanted, found = dedent(expected).strip().splitlines(), self.lines()
        if found != wanted:
            pytest.fail("\n".join(["not the expected spans:", *ndiff(wanted, found)]), pytrace=False)


class Metered:
    """The metrics of this test."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader], shutdown_on_exit=False)
        metrics.set_meter_provider(self.provider)

    def points(self) -> dict[str, list[HistogramDataPoint]]:
        """The data points by metric."""
        data = self.reader.get_metrics_data()
        return {
            metric.name: sorted(metric.data.data_points, key=lambda point: sorted(point.attributes.items()))
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


def tree(spans: Sequence[ReadableSpan], ledger: Ledger) -> str:
    """The forest that `spans` are, a line each: its name, and what is special about it.

    Siblings stand in the order they were started in; those that ran at the same time, by their text.
    """
    assert ledger.open() == [], f"these spans were never ended: {ledger.open()}"
    by_id = {span.context.span_id: span for span in spans}
    children = defaultdict(list)
    for span in spans:
        above = span.parent.span_id if span.parent is not None else None
        assert above is None or above in by_id, f"the parent of {span.name} is unknown"
        children[above].append(span)

    def draw(span: ReadableSpan, depth: int) -> str:
        span_id = span.context.span_id
        for child in children[span_id]:
            _check_inside(child, span, ledger)
        line = "  " * depth + _line(span, by_id) + "\n"
        return line + "".join(branch(children[span_id], depth + 1, span))

    def branch(siblings: Iterable[ReadableSpan], depth: int, parent: ReadableSpan | None) -> list[str]:
        siblings = sorted(siblings, key=lambda span: ledger.started[span.context.span_id])
        if parent is not None and parent.attributes.get(tracing.TYPE) == "ParallelAgent":
            return sorted(draw(span, depth) for span in siblings)
        groups: list[list[str]] = []
        until = -1
        for span in siblings:
            if ledger.started[span.context.span_id] > until:
                groups.append([])
            groups[-1].append(draw(span, depth))
            until = max(until, ledger.ended[span.context.span_id])
        return [text for group in groups for text in sorted(group)]

    return "".join(branch(children[None], 0, None))


def _line(span: ReadableSpan, by_id: dict[int, ReadableSpan]) -> str:
    """`name: ok`; then iteration, attempts, reason, failure, recorded exceptions and links, if any."""
    found = dict(span.attributes)
    told = [str(found[tracing.OUTCOME])] if tracing.OUTCOME in found else []
    if tracing.ITERATION in found:
        told.append(f"iteration {found[tracing.ITERATION]}")
    if tracing.ATTEMPTS in found:
        told.append(f"{found[tracing.ATTEMPTS]} attempts")
    for event in span.events:
        if event.name == tracing.ATTEMPT_FAILED:
            said = [event.attributes[name] for name in (tracing.ATTEMPT, tracing.ERROR_TYPE, "exception.message")]
            told.append("failed {} {} {}".format(*said))
    if tracing.REASON in found:
        told.append(f"because {found[tracing.REASON]}")
    if not span.status.is_unset:
        told.append(f"status {span.status.status_code.name}")
    if tracing.ERROR_TYPE in found:
        told.append(str(found[tracing.ERROR_TYPE]).rsplit(".", 1)[-1])
    for event in span.events:
        if event.name == "exception":
            told.append(f"recorded {str(event.attributes['exception.type']).rsplit('.', 1)[-1]}")
        elif event.name != tracing.ATTEMPT_FAILED:
            told.append(f"recorded {event.name}")
    if span.links:
        names = sorted(by_id[link.context.span_id].name.rsplit(" ", 1)[-1] for link in span.links)
        told.append(f"after {' '.join(names)}")
    return span.name + (f": {', '.join(told)}" if told else "")


def _check_inside(child: ReadableSpan, parent: ReadableSpan, ledger: Ledger) -> None:
    """A span of ours begins and ends inside of its parent."""
    if tracing.OUTCOME in parent.attributes:
        assert ledger.started[child.context.span_id] > ledger.started[parent.context.span_id]
        assert ledger.ended[child.context.span_id] < ledger.ended[parent.context.span_id], f"{child.name} ended late"
        assert parent.start_time <= child.start_time <= child.end_time <= parent.end_time, child.name
