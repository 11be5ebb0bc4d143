"""What is on a span, by the GenAI conventions, and what of it a sampler gets to see."""

from collections.abc import Callable, Sequence

import anyio
import pytest
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

from agentflow import FunctionAgent, InvocationContext, LoopAgent, ParallelAgent, Runner, SequentialAgent, agent
from tests.tracing.agents import failing, run_of, speaker
from tests.tracing.spans import Traced

IDS = {"gen_ai.conversation.id": "s1", "agentflow.invocation.id": "r1"}


class Noting(Sampler):
    """Keeps what it is asked about, and drops spans of some names."""

    def __init__(self, *dropped: str) -> None:
        self.asked: dict[str, tuple[SpanKind | None, dict[str, object]]] = {}
        self.dropped = dropped

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        self.asked[name] = (kind, dict(attributes or {}))
        return SamplingResult(Decision.DROP if name in self.dropped else Decision.RECORD_AND_SAMPLE, attributes)

    def get_description(self) -> str:
        return "Noting"


async def run_named(root) -> None:
    runner = Runner(root, app_name="app", new_id=lambda: "r1")
    with anyio.fail_after(5):
        async with runner, runner.run("hello", user_id="u1", session_id="s1") as run:
            await run.wait()


async def test_what_is_known_at_the_start_is_there_at_the_start(traced_by: Callable[[Sampler], Traced]) -> None:
    """A sampler decides by it."""
    noting = Noting()
    traced = traced_by(noting)
    loop = LoopAgent("loop", [speaker("a", description="Says a.")], max_iterations=1)
    await run_named(ParallelAgent("group", [loop, speaker("b")], max_concurrency=1))
    assert noting.asked == {
        "run app": (SpanKind.INTERNAL, {**IDS, "agentflow.app.name": "app", "user.id": "u1"}),
        "invoke_workflow group": (
            SpanKind.INTERNAL,
            {
                **IDS,
                "gen_ai.operation.name": "invoke_workflow",
                "gen_ai.workflow.name": "group",
                "agentflow.agent.path": "group",
                "agentflow.agent.type": "ParallelAgent",
                "agentflow.branch": "",
            },
        ),
        "invoke_workflow loop": (
            SpanKind.INTERNAL,
            {
                **IDS,
                "gen_ai.operation.name": "invoke_workflow",
                "gen_ai.workflow.name": "loop",
                "gen_ai.workflow.nested": True,
                "agentflow.agent.path": "group.loop",
                "agentflow.agent.type": "LoopAgent",
                "agentflow.branch": "group.loop",
            },
        ),
        "invoke_agent a": (
            SpanKind.INTERNAL,
            {
                **IDS,
                "gen_ai.operation.name": "invoke_agent",
                "gen_ai.agent.name": "a",
                "gen_ai.agent.description": "Says a.",
                "agentflow.agent.path": "group.loop.a",
                "agentflow.agent.type": "FunctionAgent",
                "agentflow.branch": "group.loop",
                "agentflow.iteration": 1,
            },
        ),
        "queue b": (SpanKind.INTERNAL, {"gen_ai.agent.name": "b", "agentflow.branch": "group.b"}),
        "invoke_agent b": (
            SpanKind.INTERNAL,
            {
                **IDS,
                "gen_ai.operation.name": "invoke_agent",
                "gen_ai.agent.name": "b",
                "agentflow.agent.path": "group.b",
                "agentflow.agent.type": "FunctionAgent",
                "agentflow.branch": "group.b",
            },
        ),
    }
    for span in traced.spans:
        _, at_start = noting.asked[span.name]
        later = {} if span.name == "queue b" else {"agentflow.outcome": "ok"}
        assert dict(span.attributes) == {**at_start, **later}
        assert span.instrumentation_scope.name == "agentflow"


async def test_with_everything_sampled_out_a_run_is_as_ever(traced_by: Callable[[Sampler], Traced]) -> None:
    traced = traced_by(ALWAYS_OFF)
    group = ParallelAgent(
        "group", [failing("a", ValueError("no")), speaker("b")], max_concurrency=1, on_error="collect"
    )
    await run_of(SequentialAgent("root", [group, speaker("c")]))
    with pytest.raises(ValueError, match="no"):
        await run_of(failing("a", ValueError("no")))
    assert traced.spans == ()


async def test_where_a_failed_agents_span_is_sampled_out_the_next_above_records_the_exception(
    traced_by: Callable[[Sampler], Traced],
) -> None:
    traced = traced_by(Noting("invoke_agent a"))
    with pytest.raises(ValueError, match="no"):
        await run_of(SequentialAgent("root", [failing("a", ValueError("no"))]))
    traced.shows("""
        run app: error, status ERROR, ValueError
          invoke_workflow root: error, status ERROR, ValueError, recorded ValueError
    """)


async def test_error_type_names_the_module_of_errors_that_arent_built_in(traced: Traced) -> None:
    class Broken(Exception):
        pass

    with pytest.raises(Broken):
        await run_of(failing("a", Broken("no")))
    span = traced.one("invoke_agent a")
    name = f"{__name__}.{Broken.__qualname__}"
    assert span.attributes["error.type"] == name
    assert span.events[0].attributes["exception.type"] == name
    assert span.status.description == "Broken: no"


async def test_text_that_no_collector_takes_is_made_safe(traced: Traced) -> None:
    """A lone surrogate in a status would lose the whole batch that the span is in."""

    @agent
    async def odd(ctx: InvocationContext) -> None:
        raise ValueError("half \ud83d of a pair")

    with pytest.raises(ValueError, match="half"):
        await run_of(odd)
    async with Runner(speaker("a"), app_name="app") as runner, runner.run("go") as run:
        run.cancel("because \ud83d")
    assert traced.one("invoke_agent odd").status.description == "ValueError: half \ufffd of a pair"
    assert encode_spans(traced.spans).SerializeToString()


async def test_an_exception_group_of_an_agents_own_is_recorded_whole_once(traced: Traced) -> None:
    """It holds one that no span has recorded."""
    child = failing("child", ValueError("known"))

    async def run(ctx: InvocationContext) -> None:
        try:
            await ctx.run(child)
        except ValueError as error:
            raise ExceptionGroup("both", [error, LookupError("new")]) from None

    with pytest.RaisesGroup(ValueError, LookupError):
        await run_of(SequentialAgent("root", [FunctionAgent("boss", run, sub_agents=[child])]))
    traced.shows("""
        run app: error, status ERROR, ExceptionGroup
          invoke_workflow root: error, status ERROR, ExceptionGroup
            invoke_agent boss: error, status ERROR, ExceptionGroup, recorded ExceptionGroup
              invoke_agent child: error, status ERROR, ValueError, recorded ValueError
    """)


async def test_an_exception_that_cant_be_printed_ends_its_span_all_the_same() -> None:
    traced = Traced()

    class Unprintable(Exception):
        def __str__(self) -> str:
            raise RuntimeError("not even this")

    with pytest.raises(Unprintable):
        await run_of(SequentialAgent("root", [failing("a", Unprintable())]))
    traced.shows("""
        run app: error, status ERROR, Unprintable
          invoke_workflow root: error, status ERROR, Unprintable
            invoke_agent a: error, status ERROR, Unprintable, recorded Unprintable
    """)
