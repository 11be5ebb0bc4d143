"""OpenTelemetry: spans and metrics of runs, agents, branches, model calls and waits; a no-op until an SDK is installed.

Span and attribute names follow the GenAI semantic conventions (Development, November 2026) and all stand here. Parents
are passed explicitly. A span is current only inside its agent's own task, so the consumer's code never runs under it,
and spans that the consumer opens between events are never adopted. A span that an agent's own code opens is a child of
the agent's, and the parent of the agents that run inside of it.
"""

import json
import os
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from opentelemetry import context as otel_context, trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode

from agentflow.content import clean_text
from agentflow.errors import ConfigError

if TYPE_CHECKING:  # the SDK is imported by `setup` alone
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

OPERATION = "gen_ai.operation.name"
AGENT_NAME = "gen_ai.agent.name"
AGENT_DESCRIPTION = "gen_ai.agent.description"
WORKFLOW_NAME = "gen_ai.workflow.name"
WORKFLOW_NESTED = "gen_ai.workflow.nested"
CONVERSATION_ID = "gen_ai.conversation.id"
INPUT_MESSAGES = "gen_ai.input.messages"
OUTPUT_MESSAGES = "gen_ai.output.messages"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
TOOL_NAME = "gen_ai.tool.name"
TOOL_TYPE = "gen_ai.tool.type"
TOOL_DESCRIPTION = "gen_ai.tool.description"
TOOL_CALL_ID = "gen_ai.tool.call.id"
TOOL_ARGUMENTS = "gen_ai.tool.call.arguments"
TOOL_RESULT = "gen_ai.tool.call.result"
ERROR_TYPE = "error.type"
INVOCATION_ID = "agentflow.invocation.id"
APP_NAME = "agentflow.app.name"
USER_ID = "user.id"
PATH = "agentflow.agent.path"
TYPE = "agentflow.agent.type"
BRANCH = "agentflow.branch"
ITERATION = "agentflow.iteration"
ATTEMPTS = "agentflow.attempts"
ATTEMPT = "agentflow.attempt"
ATTEMPT_FAILED = "agentflow.attempt_failed"
EXCEPTION_MESSAGE = "exception.message"
OUTCOME = "agentflow.outcome"
REASON = "agentflow.reason"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
REQUEST_STREAM = "gen_ai.request.stream"
REQUEST_MAX_TOKENS = "gen_ai.request.max_tokens"
REQUEST_TEMPERATURE = "gen_ai.request.temperature"
REQUEST_TOP_P = "gen_ai.request.top_p"
REQUEST_STOP = "gen_ai.request.stop_sequences"
REQUEST_SEED = "gen_ai.request.seed"
REQUEST_REASONING = "gen_ai.request.reasoning.level"
OUTPUT_TYPE = "gen_ai.output.type"
RESPONSE_ID = "gen_ai.response.id"
RESPONSE_MODEL = "gen_ai.response.model"
FINISH_REASONS = "gen_ai.response.finish_reasons"
FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
CACHE_READ_TOKENS = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE_TOKENS = "gen_ai.usage.cache_write.input_tokens"
REASONING_TOKENS = "gen_ai.usage.reasoning.output_tokens"
TOKEN_TYPE = "gen_ai.token.type"
SYSTEM_INSTRUCTIONS = "gen_ai.system_instructions"
TOOL_DEFINITIONS = "gen_ai.tool.definitions"
COST = "agentflow.usage.cost"
QUEUE_SECONDS = "agentflow.queue.duration"
CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"

_AGENT_BUCKETS = [0.1 * 2**n for n in range(13)]
_CLIENT_BUCKETS = [0.01 * 2**n for n in range(14)]
_TOKEN_BUCKETS = [4**n for n in range(14)]
_WORKFLOW_BUCKETS = [1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200]
_SHARES = [n / 10 for n in range(1, 11)]
_PATTERN_METRICS: list[tuple[str, str, str, str, list[float]]] = [
    ("speedup", "speedup", "1", "Work of a pattern's branches by its wall time", [1, 2, 3, 5, 8, 13, 21, 34, 55, 89]),
    ("agreement", "agreement", "1", "Share of the answers that agree with the chosen one", _SHARES),
    ("quality", "quality", "1", "How good a metric or a judge found a pattern's answer", _SHARES),
    ("queue_seconds", "queue.duration", "s", "Time that a pattern's branches waited for room", _AGENT_BUCKETS),
    ("synthesis_seconds", "synthesis.duration", "s", "Time that an aggregator took", _AGENT_BUCKETS),
    ("wall_seconds", "scatter.duration", "s", "Time until a pattern's branches had answered", _AGENT_BUCKETS),
]
_TOLD = "_agentflow_trace"
"""Where an exception keeps the trace that has recorded it, so that the spans above the one it came from don't again."""


def setup(
    *,
    service_name: str | None = None,
    exporter: "SpanExporter | None" = None,
    console: bool = False,
    batch: bool = True,
) -> "TracerProvider":
    """Install an OpenTelemetry SDK tracer provider, for programs that have none.

    Args:
        service_name: Shown by trace viewers; by default what `OTEL_SERVICE_NAME` says, else `agentflow`.
        exporter: A span exporter. By default, unless `console` is wanted, an OTLP one over HTTP (extra `otlp`), which
            reads the standard `OTEL_EXPORTER_OTLP_*` variables.
        console: Print each span as it ends; needs no extra.
        batch: Export in the background; `False` exports each span as it ends.

    Returns:
        The tracer provider. A program that ends normally sends its last spans by itself; one that doesn't
        (`os._exit`, a frozen serverless function) calls `shutdown()` or `force_flush()` first.

    Raises:
        ConfigError: A provider is installed already, or the OTLP exporter isn't.
    """
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SimpleSpanProcessor

    if _installed():
        raise ConfigError("tracing is set up already: this process has an OpenTelemetry tracer provider")
    if exporter is None and not console:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        except ImportError as error:
            raise ConfigError(
                "exporting spans needs the extra `otlp` (agentflow-py[otlp]); or pass exporter=..., or console=True"
            ) from error
        exporter = OTLPSpanExporter()
    resource = Resource.create()
    if service_name is None and str(resource.attributes["service.name"]).startswith("unknown_service"):
        service_name = "agentflow"
    if service_name is not None:
        resource = resource.merge(Resource({"service.name": service_name}))
    provider = TracerProvider(resource=resource)
    if console:
        provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))
    if exporter is not None:
        provider.add_span_processor(BatchSpanProcessor(exporter) if batch else SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return provider


def _installed() -> bool:
    return type(trace.get_tracer_provider()) not in (trace.ProxyTracerProvider, trace.NoOpTracerProvider)


def _disabled() -> bool:
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def has_sdk() -> bool:
    """Whether OpenTelemetry's SDK has been imported: without it hardly anybody can install a provider now.

    Asking for the providers themselves takes as long as storing an event.
    """
    return "opentelemetry.sdk" in sys.modules


def enabled() -> bool:
    """Whether somebody has installed a tracer provider, and `OTEL_SDK_DISABLED` doesn't turn it off."""
    return _installed() and not _disabled()


def metering() -> bool:
    """Whether somebody has installed a meter provider, and `OTEL_SDK_DISABLED` doesn't turn it off."""
    if "opentelemetry.metrics" not in sys.modules and "OTEL_PYTHON_METER_PROVIDER" not in os.environ:
        return False
    from opentelemetry import metrics

    kind = type(metrics.get_meter_provider())
    return kind is not metrics.NoOpMeterProvider and kind.__name__ != "_ProxyMeterProvider" and not _disabled()


class Tracing:
    """The instruments of one Runner. Made only where a provider is installed; what has none pays a truth test."""

    def __init__(self) -> None:
        from opentelemetry import metrics

        self._tracer = trace.get_tracer("agentflow")
        meter = metrics.get_meter("agentflow")
        self._agents = meter.create_histogram(
            "gen_ai.invoke_agent.duration", "s", "Duration of an agent's turn",
            explicit_bucket_boundaries_advisory=_AGENT_BUCKETS,
        )  # fmt: skip
        self._workflows = meter.create_histogram(
            "gen_ai.invoke_workflow.duration", "s", "Duration of a workflow agent's turn",
            explicit_bucket_boundaries_advisory=_WORKFLOW_BUCKETS,
        )  # fmt: skip
        self._queue = meter.create_histogram(
            "agentflow.branch.queue.duration", "s", "Time a branch waited for its turn",
            explicit_bucket_boundaries_advisory=_AGENT_BUCKETS,
        )  # fmt: skip
        self._tools = meter.create_histogram(
            "gen_ai.execute_tool.duration", "s", "Duration of a tool call",
            explicit_bucket_boundaries_advisory=_CLIENT_BUCKETS,
        )  # fmt: skip
        self._calls = meter.create_histogram(
            "gen_ai.client.operation.duration", "s", "Duration of a model call",
            explicit_bucket_boundaries_advisory=_CLIENT_BUCKETS,
        )  # fmt: skip
        self._first_chunks = meter.create_histogram(
            "gen_ai.client.operation.time_to_first_chunk", "s", "Time until the first streamed piece of an answer",
            explicit_bucket_boundaries_advisory=_CLIENT_BUCKETS,
        )  # fmt: skip
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage", "{token}", "Tokens of a model call",
            explicit_bucket_boundaries_advisory=_TOKEN_BUCKETS,
        )  # fmt: skip
        self._waits = meter.create_histogram(
            "agentflow.model.queue.duration", "s", "Time a model call waited for its turn",
            explicit_bucket_boundaries_advisory=_CLIENT_BUCKETS,
        )  # fmt: skip
        self._patterns = {
            name: meter.create_histogram(
                f"agentflow.pattern.{key}", unit, what, explicit_bucket_boundaries_advisory=steps
            )
            for name, key, unit, what, steps in _PATTERN_METRICS
        }
        self._saved = meter.create_counter("agentflow.pattern.saved_calls", "1", "Branches that a pattern didn't need")
        self._branch_tokens = meter.create_histogram(
            "agentflow.branch.tokens", "{token}", "Tokens of a pattern's branch"
        )
        self._branch_cost = meter.create_histogram("agentflow.branch.cost", "{USD}", "Cost of a pattern's branch")
        self.captures = os.environ.get(CAPTURE, "").strip().lower() in ("true", "span_only", "span_and_event")

    def start_run(self, app_name: str, invocation_id: str, session_id: str, user_id: str) -> Span:
        """The span of a whole run; a child of what is current where the run was started."""
        return self._tracer.start_span(
            f"run {app_name}",
            attributes={
                APP_NAME: app_name,
                INVOCATION_ID: invocation_id,
                CONVERSATION_ID: session_id,
                USER_ID: user_id,
            },
        )

    def start_agent(
        self,
        *,
        name: str,
        description: str,
        agent_type: str,
        workflow: bool,
        nested: bool,
        parent: Span,
        path: str,
        branch: str,
        iteration: int | None,
        invocation_id: str,
        session_id: str,
        links: Sequence[SpanContext],
    ) -> Span:
        """The span of an agent's turn: `invoke_workflow` for those that only direct others, else `invoke_agent`."""
        operation = "invoke_workflow" if workflow else "invoke_agent"
        attributes: dict[str, Any] = {
            OPERATION: operation,
            WORKFLOW_NAME if workflow else AGENT_NAME: name,
            CONVERSATION_ID: session_id,
            INVOCATION_ID: invocation_id,
            PATH: path,
            TYPE: agent_type,
            BRANCH: branch,
        }
        if workflow and nested:
            attributes[WORKFLOW_NESTED] = True
        if description and not workflow:
            attributes[AGENT_DESCRIPTION] = description
        if iteration is not None:
            attributes[ITERATION] = iteration
        return self._tracer.start_span(
            f"{operation} {name}",
            context=_below(parent),
            attributes=attributes,
            links=[Link(link) for link in links],
        )

    def end(
        self,
        span: Span,
        *,
        outcome: str,
        duration: float | None = None,
        workflow: bool = False,
        name: str = "",
        error: BaseException | None = None,
        reason: str = "",
        attempts: int = 1,
        output: str | None = None,
    ) -> None:
        """Close a span: an error is one, a cancellation isn't."""
        failure = error if isinstance(error, Exception) else None  # what isn't one is a cancellation
        try:
            if span.is_recording():
                span.set_attribute(OUTCOME, outcome)
                if attempts > 1:
                    span.set_attribute(ATTEMPTS, attempts)
                if reason:
                    span.set_attribute(REASON, clean_text(reason))
                if output and self.captures:
                    span.set_attribute(OUTPUT_MESSAGES, _message("assistant", output))
                if failure is not None:
                    _fail(span, failure)
        finally:
            span.end()
        if duration is not None:
            labels = {WORKFLOW_NAME if workflow else AGENT_NAME: name, OUTCOME: outcome}
            if failure is not None:
                labels[ERROR_TYPE] = _type_of(failure)
            (self._workflows if workflow else self._agents).record(duration, labels, trace.set_span_in_context(span))

    def attempt_failed(self, span: Span, attempt: int, error: Exception) -> None:
        """An attempt of a turn has failed, and another follows: an event on the turn's span, which counts them all."""
        if span.is_recording():
            span.add_event(
                ATTEMPT_FAILED, {ATTEMPT: attempt, ERROR_TYPE: _type_of(error), EXCEPTION_MESSAGE: _words(error)}
            )

    def start_tool(
        self, *, tool: str, description: str, call_id: str, agent: str, parent: Span, args: Mapping[str, Any]
    ) -> Span:
        """The span of a tool call; agents that the tool runs are below it."""
        tool, call_id = clean_text(tool), clean_text(call_id)  # a model's words
        attributes: dict[str, Any] = {
            OPERATION: "execute_tool",
            TOOL_NAME: tool,
            TOOL_TYPE: "function",
            TOOL_CALL_ID: call_id,
            AGENT_NAME: agent,
        }
        if description:
            attributes[TOOL_DESCRIPTION] = description
        if self.captures:
            attributes[TOOL_ARGUMENTS] = _json(args)
        return self._tracer.start_span(f"execute_tool {tool}", context=_below(parent), attributes=attributes)

    def end_tool(
        self, span: Span, *, tool: str, outcome: str, duration: float, error: Exception | None, result: Any
    ) -> None:
        """Close the span of a tool call. An error that the model is told is one; a cancellation and a pause aren't."""
        try:
            if span.is_recording():
                span.set_attribute(OUTCOME, outcome)
                if self.captures and result is not None:
                    span.set_attribute(TOOL_RESULT, _json(result))
                if error is not None:
                    _fail(span, error)
        finally:
            span.end()
        labels = {TOOL_NAME: tool, OUTCOME: outcome}
        if error is not None:
            labels[ERROR_TYPE] = _type_of(error)
        self._tools.record(duration, labels, trace.set_span_in_context(span))

    def start_chat(self, parent: Span, attributes: Mapping[str, Any]) -> Span:
        """The span of a model call, a child of its agent's: provider and model are among its first attributes."""
        return self._tracer.start_span(
            f"chat {attributes[REQUEST_MODEL]}",
            context=_below(parent),
            kind=SpanKind.CLIENT,
            attributes={OPERATION: "chat", **attributes},
        )

    def end_chat(
        self, span: Span, labels: Mapping[str, Any], started: float, attributes: Mapping[str, Any],
        error: BaseException | None = None,
    ) -> None:  # fmt: skip
        """Close the span of a model call that began at `started` (`time.perf_counter`), and measure it.

        Args:
            span: What `start_chat` gave.
            labels: Provider and models, for the metrics.
            started: When it began.
            attributes: What is known at the end.
            error: Why it failed; a cancellation is no failure.
        """
        failure = error if isinstance(error, Exception) else None
        labels = {OPERATION: "chat", **labels}
        try:
            if span.is_recording():
                span.set_attributes({key: value for key, value in attributes.items() if value not in (None, "", 0, ())})
                if error is not None and failure is None:
                    span.set_attribute(OUTCOME, "cancelled")
                if failure is not None:
                    _fail(span, failure)
        finally:
            span.end()
        context = trace.set_span_in_context(span)
        for kind, name in (("input", INPUT_TOKENS), ("output", OUTPUT_TOKENS)):
            if name in attributes:
                self._tokens.record(attributes[name], {**labels, TOKEN_TYPE: kind}, context)
        if FIRST_CHUNK in attributes:
            self._first_chunks.record(attributes[FIRST_CHUNK], labels, context)
        if failure is not None:
            labels[ERROR_TYPE] = _type_of(failure)
        self._calls.record(time.perf_counter() - started, labels, context)

    def waited(self, chat: Span, labels: Mapping[str, Any], waited: float) -> None:
        """A model call waited for its turn: a span of its own below the call's."""
        now = time.time_ns()
        span = self._tracer.start_span(
            f"queue {labels[REQUEST_MODEL]}",
            context=trace.set_span_in_context(chat),
            attributes=dict(labels),
            start_time=now - int(waited * 1e9),
        )
        span.end(now)
        self._waits.record(waited, dict(labels), trace.set_span_in_context(span))

    def queued(self, name: str, parent: Span, started_ns: int, ended_ns: int, branch: str) -> None:
        """A branch waited for its turn: a span of its own, beside the branch's."""
        span = self._tracer.start_span(
            f"queue {name}",
            context=trace.set_span_in_context(parent),
            attributes={AGENT_NAME: name, BRANCH: branch},
            start_time=started_ns,
        )
        span.end(ended_ns)
        self._queue.record(max(0, ended_ns - started_ns) / 1e9, {AGENT_NAME: name}, trace.set_span_in_context(span))

    def pattern(
        self, span: Span, name: str, metrics: Mapping[str, Any], branches: Mapping[str, tuple[int, float]]
    ) -> None:
        """What came of a pattern's turn: on its span, and as metrics; `branches` are tokens and cost of each."""
        labels, context = {WORKFLOW_NAME: name}, trace.set_span_in_context(span)
        for key, value in metrics.items():
            if value is not None and span.is_recording():
                span.set_attribute(f"agentflow.pattern.{key}", value)
            if value is not None and key in self._patterns:
                self._patterns[key].record(value, labels, context)
        self._saved.add(metrics["saved_calls"], labels, context)
        for branch, (tokens, cost) in branches.items():
            own = {**labels, BRANCH: branch}
            if tokens:
                self._branch_tokens.record(tokens, own, context)
            if cost:
                self._branch_cost.record(cost, own, context)

    def input(self, span: Span, text: str) -> None:
        """Put the user's words on the span, where content is captured."""
        if self.captures and text and span.is_recording():
            span.set_attribute(INPUT_MESSAGES, _message("user", text))


def _below(parent: Span) -> Context:
    """A context to start a child of `parent` in: of the span that the parent's own code has opened, where it has."""
    own = trace.get_current_span()
    if own.get_span_context().trace_id == parent.get_span_context().trace_id:
        parent = own
    return trace.set_span_in_context(parent)


def _type_of(error: BaseException) -> str:
    """The qualified name of its class, with the module: what the SDK calls `exception.type`."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _words(error: BaseException) -> str:
    try:
        return clean_text(str(error))
    except Exception:
        return "<exception str() failed>"  # as tracebacks say


def _fail(span: Span, error: Exception) -> None:
    """Mark a span as failed; the innermost of a trace to do so records the exception, once."""
    kind, trace_id = _type_of(error), span.get_span_context().trace_id
    message = _words(error)
    span.set_attribute(ERROR_TYPE, kind)
    span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {message}"))
    if not _told(error, trace_id):
        vars(error)[_TOLD] = trace_id
        stack = clean_text("".join(traceback.format_exception(error)))
        span.add_event("exception", {"exception.type": kind, EXCEPTION_MESSAGE: message, "exception.stacktrace": stack})


def _told(error: BaseException, trace_id: int) -> bool:
    """Whether a span of this trace has recorded it, or all that it is a group of."""
    if vars(error).get(_TOLD) == trace_id:
        return True
    return isinstance(error, BaseExceptionGroup) and all(_told(inner, trace_id) for inner in error.exceptions)


def _json(value: Any) -> str:
    return clean_text(json.dumps(value, default=str, ensure_ascii=False))


def _message(role: str, text: str) -> str:
    return json.dumps([{"role": role, "parts": [{"type": "text", "content": text}]}])


@contextmanager
def current(span: Span) -> Iterator[None]:
    """Make `span` the current one in this task, for what an agent's own code instruments."""
    token = otel_context.attach(trace.set_span_in_context(span))
    try:
        yield
    finally:
        otel_context.detach(token)


__all__ = ["Tracing", "current", "enabled", "metering", "setup"]
