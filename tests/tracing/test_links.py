"""What follows a Parallel links to the spans of its branches: they are what it waited for."""

import anyio

from agentflow import FunctionAgent, InvocationContext, LoopAgent, ParallelAgent, Retry, SequentialAgent
from tests.tracing.agents import failing, run_of, speaker
from tests.tracing.spans import Traced


async def test_who_follows_a_parallel_links_to_its_branches_and_nobody_later(traced: Traced) -> None:
    group = ParallelAgent("group", [speaker("a"), SequentialAgent("b", [speaker("c")])])
    await run_of(SequentialAgent("root", [group, speaker("d"), speaker("e")]))
    traced.shows("""
        run app: ok
          invoke_workflow root: ok
            invoke_workflow group: ok
              invoke_agent a: ok
              invoke_workflow b: ok
                invoke_agent c: ok
            invoke_agent d: ok, after a b
            invoke_agent e: ok
    """)


async def test_a_parallel_after_a_parallel_links_as_a_whole(traced: Traced) -> None:
    first = ParallelAgent("first", [speaker("a"), speaker("b")])
    second = ParallelAgent("second", [speaker("c"), speaker("d")])
    await run_of(SequentialAgent("root", [first, second, speaker("e")]))
    traced.shows("""
        run app: ok
          invoke_workflow root: ok
            invoke_workflow first: ok
              invoke_agent a: ok
              invoke_agent b: ok
            invoke_workflow second: ok, after a b
              invoke_agent c: ok
              invoke_agent d: ok
            invoke_agent e: ok, after c d
    """)


async def test_a_parallel_at_the_end_of_nested_sequences_is_linked_to_by_what_follows_them(traced: Traced) -> None:
    group = ParallelAgent("group", [speaker("a"), speaker("b")])
    deep = SequentialAgent("middle", [SequentialAgent("deep", [speaker("first"), group])])
    await run_of(SequentialAgent("root", [deep, SequentialAgent("next", [speaker("c")])]))
    traced.shows("""
        run app: ok
          invoke_workflow root: ok
            invoke_workflow middle: ok
              invoke_workflow deep: ok
                invoke_agent first: ok
                invoke_workflow group: ok
                  invoke_agent a: ok
                  invoke_agent b: ok
            invoke_workflow next: ok, after a b
              invoke_agent c: ok
    """)


async def test_the_next_iteration_and_what_follows_the_loop_link_to_the_last_group(traced: Traced) -> None:
    group = ParallelAgent("group", [speaker("a"), speaker("b")])
    loop = LoopAgent("loop", [speaker("plan"), group], max_iterations=2)
    await run_of(SequentialAgent("root", [loop, speaker("end")]))
    traced.shows("""
        run app: ok
          invoke_workflow root: ok
            invoke_workflow loop: ok
              invoke_agent plan: ok, iteration 1
              invoke_workflow group: ok, iteration 1
                invoke_agent a: ok, iteration 1
                invoke_agent b: ok, iteration 1
              invoke_agent plan: ok, iteration 2, after a b
              invoke_workflow group: ok, iteration 2
                invoke_agent a: ok, iteration 2
                invoke_agent b: ok, iteration 2
            invoke_agent end: ok, after a b
    """)
    iterations = [span for span in traced.spans if span.name == "invoke_agent a"]
    linked = {link.context.span_id for link in traced.one("invoke_agent end").links}
    assert iterations[0].context.span_id not in linked
    assert iterations[1].context.span_id in linked


async def test_only_the_outer_groups_branches_are_linked_to_by_what_follows_it(traced: Traced) -> None:
    inner = ParallelAgent("inner", [speaker("a"), speaker("b")])
    outer = ParallelAgent("outer", [SequentialAgent("line", [inner]), speaker("c")])
    await run_of(SequentialAgent("root", [outer, speaker("d")]))
    traced.shows("""
        run app: ok
          invoke_workflow root: ok
            invoke_workflow outer: ok
              invoke_agent c: ok
              invoke_workflow line: ok
                invoke_workflow inner: ok
                  invoke_agent a: ok
                  invoke_agent b: ok
            invoke_agent d: ok, after c line
    """)


async def test_a_branch_that_waited_for_another_does_not_link_to_what_that_one_gathered(traced: Traced) -> None:
    """Siblings don't follow each other."""
    inner = ParallelAgent("inner", [speaker("a"), speaker("b")])
    group = ParallelAgent("outer", [SequentialAgent("line", [inner]), speaker("c")], max_concurrency=1)
    await run_of(group)
    traced.shows("""
        run app: ok
          invoke_workflow outer: ok
            invoke_agent c: ok
            invoke_workflow line: ok
              invoke_workflow inner: ok
                invoke_agent a: ok
                invoke_agent b: ok
            queue c
    """)


async def test_a_second_attempt_does_not_link_to_the_first_ones_branches(traced: Traced) -> None:
    group = ParallelAgent("group", [speaker("a"), failing("b", OSError("no"))], on_error="cancel")
    line = SequentialAgent("line", [group, speaker("c")], retry=Retry(attempts=2, delay=0))
    await run_of(line)
    retried = [span for span in traced.spans if span.name == "invoke_workflow group"]
    assert [len(span.links) for span in retried] == [0, 0]
    assert len(traced.one("invoke_agent c").links) == 2
    last = [span for span in traced.spans if span.name == "invoke_agent b"][-1]
    assert last.context.span_id in {link.context.span_id for link in traced.one("invoke_agent c").links}


async def test_an_agent_that_runs_a_parallel_passes_the_links_on(traced: Traced) -> None:
    group, after = ParallelAgent("group", [speaker("a"), speaker("b")]), speaker("after")

    async def run(ctx: InvocationContext) -> None:
        await ctx.run(group)
        async with ctx.open(after) as events:
            async for event in events:
                await ctx.emit(event)

    await run_of(FunctionAgent("boss", run, sub_agents=[group, after]))
    traced.shows("""
        run app: ok
          invoke_agent boss: ok
            invoke_workflow group: ok
              invoke_agent a: ok
              invoke_agent b: ok
            invoke_agent after: ok, after a b
    """)


async def test_branches_that_lost_a_race_are_linked_to_as_well(traced: Traced) -> None:
    """They are part of what the follower waited for."""
    awake = anyio.Event()

    async def quick(ctx: InvocationContext) -> None:
        await awake.wait()

    async def slow(ctx: InvocationContext) -> None:
        awake.set()
        await anyio.sleep_forever()

    race = ParallelAgent("race", [FunctionAgent("slow", slow), FunctionAgent("quick", quick)], stop_when=1)
    await run_of(SequentialAgent("root", [race, speaker("end")]))
    traced.shows("""
        run app: ok
          invoke_workflow root: ok
            invoke_workflow race: ok
              invoke_agent quick: ok
              invoke_agent slow: cancelled
            invoke_agent end: ok, after quick slow
    """)
