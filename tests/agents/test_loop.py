"""Again and again, until something ends it."""

import anyio
import pytest
from anyio.lowlevel import checkpoint

from agentflow import (
    Actions,
    Agent,
    ConfigError,
    InvalidEvent,
    InvocationContext,
    LoopAgent,
    ParallelAgent,
    Runner,
    SequentialAgent,
    agent,
)
from tests.core.actors import escalates, fails, hears, play, says, sleeps, writes


async def test_a_loop_runs_so_often_and_numbers_its_events() -> None:
    played = await play(LoopAgent("l", [says("a", "x"), says("b", "y")], max_iterations=3))
    assert [(event.text, event.iteration) for event in played.events if event.text] == [
        ("x", 1), ("y", 1), ("x", 2), ("y", 2), ("x", 3), ("y", 3),
    ]  # fmt: skip
    iterations = played.records("loop_iteration")
    assert [(record.iteration, record.max_iterations) for record in iterations] == [(1, 3), (2, 3), (3, 3)]
    assert [event.iteration for event in played.events if event.author == "l" and event.lifecycle] == [
        None, 1, 2, 3, None,
    ]  # fmt: skip


async def test_events_of_nested_loops_carry_the_inner_number() -> None:
    inner = LoopAgent("inner", [says("a", "x")], max_iterations=2)
    played = await play(LoopAgent("outer", [inner, says("b", "y")], max_iterations=2))
    assert [(e.text, e.iteration) for e in played.events if e.text] == [
        ("x", 1), ("x", 2), ("y", 1), ("x", 1), ("x", 2), ("y", 2),
    ]  # fmt: skip


async def test_until_is_asked_after_each_iteration_with_its_context() -> None:
    asked = []

    def enough(ctx: InvocationContext) -> bool:
        asked.append((ctx.iteration, ctx.state.get("x")))
        return ctx.iteration == 2

    played = await play(LoopAgent("l", [writes("a", x=1), says("b", "y")], until=enough))
    assert asked == [(1, 1), (2, 1)]
    assert played.texts.count("y") == 2


async def test_an_error_in_until_is_the_loop_s_error() -> None:
    def enough(ctx: InvocationContext) -> bool:
        raise ValueError("until failed")

    with pytest.raises(ValueError, match="until failed") as caught:
        await play(LoopAgent("l", [says("a")], until=enough))
    assert any("'l'" in note for note in caught.value.__notes__)


async def test_who_escalates_finishes_its_turn_and_those_after_it_are_skipped() -> None:
    played = await play(LoopAgent("l", [says("a", "x"), escalates("b", at=2), says("c", "y")], max_iterations=9))
    assert played.texts == ["x", "bye", "y", "x", "enough", "bye"]


async def test_an_escalation_ends_only_the_nearest_loop() -> None:
    inner = LoopAgent("inner", [escalates("a"), says("never", "no")], max_iterations=5)
    played = await play(LoopAgent("outer", [inner, says("b", "y")], max_iterations=2))
    assert played.texts == ["enough", "bye", "y"] * 2


async def test_an_escalation_by_name_ends_that_loop_and_those_inside_of_it() -> None:
    inner = LoopAgent("inner", [escalates("a", "outer"), says("never", "no")], max_iterations=5)
    outer = LoopAgent("outer", [SequentialAgent("s", [inner, says("b", "no")])], max_iterations=5)
    played = await play(SequentialAgent("t", [outer, says("c", "after")]))
    assert played.texts == ["enough", "bye", "after"]


async def test_escalating_to_a_loop_that_isn_t_there_is_an_error_that_says_so() -> None:
    with pytest.raises(InvalidEvent, match="'nowhere', but no loop of that name"):
        await play(LoopAgent("l", [escalates("a", "nowhere")], max_iterations=2))


async def test_an_escalation_inside_a_parallel_ends_the_loop_after_the_gather() -> None:
    group = ParallelAgent("p", [escalates("a"), sleeps("b", 5)])
    played = await play(LoopAgent("l", [group, says("never", "no")], max_iterations=3))
    assert sorted(played.texts) == ["bye", "enough", "good morning", "good night"]
    (gather,) = played.records("gather_complete")
    assert gather.outcomes == {"a": "ok", "b": "ok"}


async def test_stop_when_escalation_cancels_the_siblings_of_who_escalates() -> None:
    group = ParallelAgent("p", [escalates("a"), sleeps("b", 5)], stop_when="escalation")
    played = await play(LoopAgent("l", [group, says("never", "no")], max_iterations=3))
    assert "good morning" not in played.texts
    assert "no" not in played.texts
    (gather,) = played.records("gather_complete")
    assert gather.outcomes["b"] in ("cancelled", "skipped")  # skipped, if `a` was faster than its first step
    assert gather.reason == "a escalated"


async def test_an_escalation_that_a_loop_inside_of_the_branch_takes_does_not_end_the_group() -> None:
    branch = LoopAgent("inner", [escalates("a")], max_iterations=9)
    group = ParallelAgent("p", [branch, sleeps("b", 5)], stop_when="escalation")
    played = await play(LoopAgent("l", [group], max_iterations=2))
    assert played.texts.count("good morning") == 2


async def test_an_error_ends_the_loop() -> None:
    with pytest.raises(ValueError, match="a failed"):
        await play(LoopAgent("l", [fails("a"), says("never")], max_iterations=5))


async def test_each_iteration_hears_those_before_it() -> None:
    heard: list[str] = []
    await play(LoopAgent("l", [says("a", "x"), hears("b", heard)], max_iterations=2))
    assert heard == ["go", "x", "go", "x", "x"]


@pytest.mark.parametrize("bad", [{"max_iterations": 0}, {"max_iterations": -1}, {"max_iterations": True}, {"until": 3}])
def test_a_loop_with_a_setting_that_can_t_work_is_refused(bad) -> None:
    with pytest.raises(ConfigError, match="'l'"):
        LoopAgent("l", [says("a")], **bad)


def test_a_loop_that_could_never_end_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least one"):
        LoopAgent("l", [], max_iterations=3)

    class Director(Agent):
        """Like Sequential and Loop: it only directs others, and can't escalate."""

        directs_others = True

    with pytest.raises(ConfigError, match="could never end"):
        LoopAgent("l", [SequentialAgent("s", [Director("d")])])
    LoopAgent("l", [says("a")])  # `a` may escalate
    LoopAgent("timed", [says("a")], timeout=5)


async def test_a_loop_of_silent_agents_can_be_cancelled() -> None:
    @agent
    async def silent(ctx: InvocationContext) -> None:
        pass

    async with Runner(LoopAgent("l", [silent], until=lambda ctx: False)) as runner, runner.run("go") as run:
        async for event in run:
            if event.iteration == 3:
                break
    assert run.status == "cancelled"


async def test_a_silent_endless_loop_that_nobody_reads_leaves_the_others_time() -> None:
    @agent
    async def silent(ctx: InvocationContext) -> None:
        pass

    async with (
        Runner(LoopAgent("l", [silent], until=lambda ctx: False)) as runner,
        runner.run("go") as run,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(run.wait)
        for _ in range(50):
            await checkpoint()
        run.cancel()
    assert run.status == "cancelled"


async def test_escalating_partially_does_nothing() -> None:
    @agent
    async def streams(ctx: InvocationContext) -> None:
        await ctx.emit(ctx.event("x", actions=Actions(escalate=True), partial=True))
        await ctx.emit(ctx.text("x"))

    played = await play(LoopAgent("l", [streams], max_iterations=3))
    assert played.texts == ["x"] * 3
