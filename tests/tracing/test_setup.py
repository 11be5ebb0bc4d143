"""Tracing is found where it is installed, can be installed in a line, and costs nothing where it isn't."""

import gzip
import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import anyio
import pytest
from opentelemetry import metrics, trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from agentflow import ConfigError, FunctionAgent, InvocationContext, Runner, SequentialAgent, tracing
from tests.tracing.agents import run_of, speaker
from tests.tracing.spans import Metered, Traced

ELSEWHERE = trace.SpanContext(0xABC, 0xDEF, is_remote=True, trace_flags=trace.TraceFlags(1))


def script(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own, warnings being errors."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": "", **environment},
    )


class Witness(FunctionAgent):
    """Keeps what it found while it ran."""

    def __init__(self, name: str) -> None:
        self.tracing: list[object] = []
        self.current: list[trace.SpanContext] = []
        super().__init__(name, self.look)

    async def look(self, ctx: InvocationContext) -> None:
        self.tracing.append(ctx._run.tracing)
        self.current.append(trace.get_current_span().get_span_context())


async def test_without_an_sdk_there_is_nothing() -> None:
    witness = Witness("a")
    await run_of(SequentialAgent("root", [witness]))
    assert not tracing.enabled()
    assert not tracing.metering()
    assert witness.tracing == [None]
    assert witness.current == [trace.INVALID_SPAN_CONTEXT]


async def test_without_an_sdk_the_callers_trace_is_passed_on() -> None:
    """As OpenTelemetry's API promises: an HTTP client of an agent's still sends the request's `traceparent`."""
    witness = Witness("a")
    with trace.use_span(trace.NonRecordingSpan(ELSEWHERE)):
        await run_of(SequentialAgent("root", [witness]))
    assert witness.current == [ELSEWHERE]


async def test_with_metrics_alone_the_callers_trace_is_passed_on(metered: Metered) -> None:
    witness = Witness("a")
    with trace.use_span(trace.NonRecordingSpan(ELSEWHERE)):
        await run_of(SequentialAgent("root", [witness]))
    assert witness.tracing != [None]
    assert witness.current == [ELSEWHERE]
    assert metered.points()


async def test_a_provider_that_does_nothing_is_none() -> None:
    trace.set_tracer_provider(trace.NoOpTracerProvider())
    metrics.set_meter_provider(metrics.NoOpMeterProvider())
    witness = Witness("a")
    await run_of(witness)
    assert witness.tracing == [None]


@pytest.mark.parametrize("value", ["true", "TRUE", " True "])
async def test_otel_sdk_disabled_turns_it_off(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", value)
    traced, metered = Traced(), Metered()
    witness = Witness("a")
    await run_of(SequentialAgent("root", [witness]))
    assert not tracing.enabled()
    assert not tracing.metering()
    assert witness.tracing == [None]
    assert traced.spans == ()
    metered.provider.shutdown()


async def test_an_sdk_that_is_installed_late_is_found_by_the_next_run() -> None:
    with anyio.fail_after(5):
        async with Runner(speaker("a"), app_name="app") as runner:
            async with runner.run("go") as run:
                await run.wait()
            traced = Traced()
            async with runner.run("go") as run:
                await run.wait()
    traced.shows("""
        run app: ok
          invoke_agent a: ok
    """)


async def test_a_tracer_that_is_installed_after_metrics_is_found_by_the_next_run(metered: Metered) -> None:
    with anyio.fail_after(5):
        async with Runner(speaker("a"), app_name="app") as runner:
            async with runner.run("go") as run:
                await run.wait()
            traced = Traced()
            async with runner.run("go") as run:
                await run.wait()
    traced.shows("""
        run app: ok
          invoke_agent a: ok
    """)
    assert [point.count for point in metered.points()["gen_ai.invoke_agent.duration"]] == [2]


async def test_setup_with_an_exporter_of_ones_own() -> None:
    exporter = InMemorySpanExporter()
    provider = tracing.setup(exporter=exporter, batch=False)
    assert tracing.enabled()
    await run_of(speaker("a"))
    assert [span.name for span in exporter.get_finished_spans()] == ["invoke_agent a", "run app"]
    assert exporter.get_finished_spans()[0].resource.attributes["service.name"] == "agentflow"
    provider.shutdown()


async def test_setup_exports_in_the_background_and_shutdown_flushes() -> None:
    exporter = InMemorySpanExporter()
    provider = tracing.setup(exporter=exporter)
    await run_of(speaker("a"))
    provider.shutdown()
    assert [span.name for span in exporter.get_finished_spans()] == ["invoke_agent a", "run app"]


@pytest.mark.parametrize(
    ("name", "environment", "expected"),
    [
        (None, {}, "agentflow"),
        ("mine", {}, "mine"),
        (None, {"OTEL_SERVICE_NAME": "theirs"}, "theirs"),
        ("mine", {"OTEL_SERVICE_NAME": "theirs"}, "mine"),
        (None, {"OTEL_RESOURCE_ATTRIBUTES": "service.name=theirs,deployment.environment.name=test"}, "theirs"),
    ],
)
def test_setup_names_the_service(
    monkeypatch: pytest.MonkeyPatch, name: str | None, environment: dict[str, str], expected: str
) -> None:
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    provider = tracing.setup(service_name=name, exporter=InMemorySpanExporter(), batch=False)
    assert provider.resource.attributes["service.name"] == expected
    provider.shutdown()


def test_setup_twice_is_a_clear_error() -> None:
    provider = tracing.setup(console=True)
    with pytest.raises(ConfigError, match="tracing is set up already"):
        tracing.setup(console=True)
    assert trace.get_tracer_provider() is provider
    provider.shutdown()


def test_setup_leaves_somebody_elses_provider_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that is turned off."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    provider = TracerProvider(shutdown_on_exit=False)
    trace.set_tracer_provider(provider)
    with pytest.raises(ConfigError, match="tracing is set up already"):
        tracing.setup(console=True)
    assert trace.get_tracer_provider() is provider


def test_setup_without_the_otlp_extra_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(ConfigError, match=r"extra `otlp` \(agentflow-py\[otlp\]\)") as caught:
        tracing.setup()
    assert isinstance(caught.value.__cause__, ImportError)
    assert not tracing.enabled()


class Collector:
    """An OTLP collector over HTTP, on this machine."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        requests = self.requests

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers["Content-Encoding"] == "gzip":
                    body = gzip.decompress(body)
                if self.path == "/v1/traces":
                    requests.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.thread = Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


async def test_setup_sends_spans_to_a_collector(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server.server_port}")
    provider = tracing.setup(service_name="mine")
    await run_of(SequentialAgent("root", [speaker("a")]))
    await anyio.to_thread.run_sync(provider.shutdown)
    (resource,) = [resource for request in collector.requests for resource in request.resource_spans]
    names = {attribute.key: attribute.value.string_value for attribute in resource.resource.attributes}
    assert names["service.name"] == "mine"
    spans = {span.name: span for scope in resource.scope_spans for span in scope.spans}
    assert spans["invoke_agent a"].parent_span_id == spans["invoke_workflow root"].span_id
    assert spans["invoke_workflow root"].parent_span_id == spans["run app"].span_id
    assert not spans["run app"].parent_span_id


PROGRAM = """
    import sys
    import anyio
    from agentflow import Runner, ParallelAgent, agent, tracing

    @agent
    async def a(ctx):
        await ctx.emit(ctx.text("hello"))

    async def main():
        group = ParallelAgent("group", [a, a.clone(name="b")], max_concurrency=1)
        async with Runner(group, app_name="app") as runner, runner.run("go") as run:
            async for _ in run:
                pass
"""


def test_neither_the_import_nor_a_run_loads_the_sdk() -> None:
    code = """
    for backend in ("asyncio", "trio"):
        anyio.run(main, backend=backend)
    assert not tracing.enabled() and not tracing.metering()
    print([name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))])
    """
    done = script(PROGRAM + code)
    assert (done.stdout, done.stderr, done.returncode) == ("[]\n", "", 0)


def test_the_console_shows_each_span_as_it_ends() -> None:
    done = script(PROGRAM + "\n    tracing.setup(console=True)\n    anyio.run(main)\n")
    assert (done.stderr, done.returncode) == ("", 0)
    spans = []
    text = done.stdout.strip()
    while text:
        span, end = json.JSONDecoder().raw_decode(text)
        spans.append(span["name"])
        text = text[end:].strip()
    assert spans == ["invoke_agent a", "queue b", "invoke_agent b", "invoke_workflow group", "run app"]


def test_a_program_that_ends_sends_its_last_spans_by_itself() -> None:
    code = """
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    class Print(SpanExporter):
        def export(self, spans):
            print(sorted(span.name for span in spans))
            return SpanExportResult.SUCCESS

    tracing.setup(exporter=Print())
    anyio.run(main, backend="trio")
    print("main has ended")
    """
    done = script(PROGRAM + code)
    assert (done.stderr, done.returncode) == ("", 0)
    names = ["invoke_agent a", "invoke_agent b", "invoke_workflow group", "queue b", "run app"]
    assert done.stdout == f"main has ended\n{names}\n"


def test_a_provider_named_in_the_environment_is_used() -> None:
    code = """
    from opentelemetry import trace
    print(tracing.enabled(), type(trace.get_tracer_provider()).__module__)
    anyio.run(main)
    """
    done = script(PROGRAM + code, OTEL_PYTHON_TRACER_PROVIDER="sdk_tracer_provider")
    assert (done.stdout, done.stderr, done.returncode) == ("True opentelemetry.sdk.trace\n", "", 0)
