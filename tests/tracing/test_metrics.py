"""Durations, under the names of the GenAI conventions."""

import anyio
import pytest
from trio.testing import MockClock

from agentflow import FunctionAgent, InvocationContext, ParallelAgent, Retry, Runner, SequentialAgent, tracing
from tests.tracing.agents import failing, run_of, sleeper, speaker
from tests.tracing.spans import Metered, Traced

AGENT, WORKFLOW = "gen_ai.invoke_agent.duration", "gen_ai.invoke_workflow.duration"


def labels(metered: Metered, metric: str) -> list[tuple[dict[str, object], int]]:
    return [(dict(point.attributes), point.count) for point in metered.points().get(metric, ())]


async def test_turns_are_measured_by_name_and_outcome(metered: Metered) -> None:
    """Without a tracer provider too."""
    root = SequentialAgent("root", [speaker("a"), ParallelAgent("group", [speaker("b")])])
    assert not tracing.enabled()
    assert tracing.metering()
    await run_of(root)
    await run_of(root)
    assert labels(metered, AGENT) == [
        ({"gen_ai.agent.name": "a", "agentflow.outcome": "ok"}, 2),
        ({"gen_ai.agent.name": "b", "agentflow.outcome": "ok"}, 2),
    ]
    assert labels(metered, WORKFLOW) == [
        ({"gen_ai.workflow.name": "group", "agentflow.outcome": "ok"}, 2),
        ({"gen_ai.workflow.name": "root", "agentflow.outcome": "ok"}, 2),
    ]


async def test_seconds_and_the_conventions_buckets(metered: Metered) -> None:
    await run_of(SequentialAgent("root", [speaker("a")]))
    (resource,) = metered.reader.get_metrics_data().resource_metrics
    (scope,) = resource.scope_metrics
    found = {metric.name: metric for metric in scope.metrics}
    assert scope.scope.name == "agentflow"
    assert {metric.unit for metric in found.values()} == {"s"}
    (agent,), (workflow,) = found[AGENT].data.data_points, found[WORKFLOW].data.data_points
    assert agent.explicit_bounds == (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 204.8, 409.6)
    assert workflow.explicit_bounds == (1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200)
    assert 0 < agent.sum < workflow.sum < 5


async def test_failures_say_their_type_and_cancelled_turns_have_none(metered: Metered) -> None:
    awake = anyio.Event()

    async def run(ctx: InvocationContext) -> None:
        await awake.wait()
        raise ValueError("no")

    group = ParallelAgent("group", [FunctionAgent("bad", run), sleeper("slow", awake)])
    with pytest.raises(ValueError, match="no"):
        await run_of(group)
    assert labels(metered, AGENT) == [
        ({"gen_ai.agent.name": "slow", "agentflow.outcome": "cancelled"}, 1),
        ({"gen_ai.agent.name": "bad", "agentflow.outcome": "error", "error.type": "ValueError"}, 1),
    ]
    assert labels(metered, WORKFLOW) == [
        ({"gen_ai.workflow.name": "group", "agentflow.outcome": "error", "error.type": "ValueError"}, 1),
    ]


async def test_a_timeout_and_a_retried_turn_count_once(metered: Metered) -> None:
    slow = sleeper("slow", timeout=0.01)
    flaky = failing("flaky", OSError("no"), retry=Retry(attempts=2, delay=0))
    await run_of(ParallelAgent("group", [slow, flaky], on_error="collect"))
    timeout = {
        "gen_ai.agent.name": "slow",
        "agentflow.outcome": "timeout",
        "error.type": "agentflow.errors.AgentTimeout",
    }
    assert labels(metered, AGENT) == [
        ({"gen_ai.agent.name": "flaky", "agentflow.outcome": "ok"}, 1),
        (timeout, 1),
    ]


async def test_spans_and_metrics_work_together(traced: Traced, metered: Metered) -> None:
    """Each measurement keeps the span that it belongs to, as an exemplar."""
    await run_of(SequentialAgent("root", [speaker("a")]))
    (point,) = metered.points()[AGENT]
    assert [exemplar.span_id for exemplar in point.exemplars] == [traced.one("invoke_agent a").context.span_id]


@pytest.mark.parametrize("anyio_backend", [("trio", {"clock": MockClock(autojump_threshold=0)})])
async def test_durations_are_by_the_event_loops_clock(metered: Metered) -> None:
    async def run(ctx: InvocationContext) -> None:
        await anyio.sleep(30)  # by the clock that jumps

    with anyio.fail_after(100):
        async with Runner(SequentialAgent("root", [FunctionAgent("a", run)])) as runner, runner.run("go") as events:
            await events.wait()
    for metric in (AGENT, WORKFLOW):
        (point,) = metered.points()[metric]
        assert point.sum == pytest.approx(30)
