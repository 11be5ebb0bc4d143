"""Branches that waited for their turn have a span that says how long."""

import anyio
import pytest

from agentflow import FunctionAgent, InvocationContext, LoopAgent, ParallelAgent, SequentialAgent, tracing
from tests.tracing.agents import run_of, speaker
from tests.tracing.spans import Metered, Traced


async def test_branches_that_waited_have_a_span_beside_their_turns(traced: Traced) -> None:
    """The first two never waited."""
    group = ParallelAgent("group", [speaker(name) for name in "abcd"], max_concurrency=2)
    await run_of(SequentialAgent("root", [group]))
    traced.shows("""
        run app: ok
          invoke_workflow root: ok
            invoke_workflow group: ok
              invoke_agent a: ok
              invoke_agent b: ok
              invoke_agent c: ok
              invoke_agent d: ok
              queue c
              queue d
    """)


async def test_the_wait_is_from_the_declaration_to_the_turns(traced: Traced) -> None:
    group = ParallelAgent("group", [speaker(name) for name in "abc"], max_concurrency=1)
    await run_of(group)
    around, second, third = (traced.one(f"{name}") for name in ("invoke_workflow group", "queue b", "queue c"))
    assert around.start_time <= second.start_time <= third.start_time <= traced.one("invoke_agent a").end_time
    assert traced.one("invoke_agent a").end_time <= second.end_time <= traced.one("invoke_agent b").start_time
    assert traced.one("invoke_agent b").end_time <= third.end_time <= traced.one("invoke_agent c").start_time
    assert second.attributes[tracing.AGENT_NAME] == "b"
    assert second.attributes[tracing.BRANCH] == "group.b"


async def test_nested_groups_have_queues_of_their_own(traced: Traced) -> None:
    inner = ParallelAgent("inner", [speaker("a"), speaker("b")], max_concurrency=1)
    outer = ParallelAgent("outer", [speaker("c"), SequentialAgent("line", [inner])], max_concurrency=1)
    await run_of(LoopAgent("loop", [outer], max_iterations=2))
    traced.shows("""
        run app: ok
          invoke_workflow loop: ok
            invoke_workflow outer: ok, iteration 1
              invoke_agent c: ok, iteration 1
              invoke_workflow line: ok, iteration 1
                invoke_workflow inner: ok, iteration 1
                  invoke_agent a: ok, iteration 1
                  invoke_agent b: ok, iteration 1
                  queue b
              queue line
            invoke_workflow outer: ok, iteration 2, after c line
              invoke_agent c: ok, iteration 2
              invoke_workflow line: ok, iteration 2
                invoke_workflow inner: ok, iteration 2
                  invoke_agent a: ok, iteration 2
                  invoke_agent b: ok, iteration 2
                  queue b
              queue line
    """)


async def test_a_branch_whose_wait_ended_with_the_group_has_no_span(traced: Traced, metered: Metered) -> None:
    awake = anyio.Event()

    async def bad(ctx: InvocationContext) -> None:
        await awake.wait()
        raise ValueError("no")

    async def slow(ctx: InvocationContext) -> None:
        awake.set()
        await anyio.sleep_forever()

    group = ParallelAgent(
        "group", [FunctionAgent("bad", bad), FunctionAgent("slow", slow), speaker("never")], max_concurrency=2
    )
    with pytest.raises(ValueError, match="no"):
        await run_of(group)
    traced.shows("""
        run app: error, status ERROR, ValueError
          invoke_workflow group: error, status ERROR, ValueError
            invoke_agent bad: error, status ERROR, ValueError, recorded ValueError
            invoke_agent slow: cancelled
    """)
    assert "agentflow.branch.queue.duration" not in metered.points()


async def test_waits_are_measured(metered: Metered) -> None:
    await run_of(ParallelAgent("group", [speaker(name) for name in "abc"], max_concurrency=1))
    points = metered.points()["agentflow.branch.queue.duration"]
    assert [(dict(point.attributes), point.count) for point in points] == [
        ({tracing.AGENT_NAME: "b"}, 1),
        ({tracing.AGENT_NAME: "c"}, 1),
    ]
    assert 0 <= points[0].sum <= points[1].sum
