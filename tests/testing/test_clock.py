"""Runs that come out the same each time."""

import anyio

from agentflow import InMemorySessionService, InvocationContext, Runner, agent
from agentflow.testing import FakeClock, counting_ids


@agent
async def twice(ctx: InvocationContext) -> None:
    await ctx.emit(ctx.text("one"))
    await ctx.emit(ctx.text("two"))


def test_a_clock_stands_still_until_it_is_set():
    clock = FakeClock(100.0)
    assert [clock(), clock()] == [100.0, 100.0]
    clock.advance(2.5)
    assert clock() == 102.5
    clock.now = 7.0
    assert clock() == 7.0


def test_a_clock_may_tick_with_each_reading():
    clock = FakeClock(100.0, tick=0.5)
    assert [clock(), clock(), clock()] == [100.0, 100.5, 101.0]


def test_ids_count():
    new_id = counting_ids("r")
    assert [new_id(), new_id()] == ["r-1", "r-2"]
    assert counting_ids()() == "run-1"


async def test_timestamps_and_ids_of_a_run_are_those_of_the_clock_and_the_counter():
    clock = FakeClock(100.0)
    async with Runner(twice, time=clock, new_id=counting_ids()) as runner:
        for number in (1, 2):
            async with runner.run("go", session_id="s") as run:
                events = [event async for event in run]
            assert {event.timestamp for event in events} == {clock.now}
            assert {event.invocation_id for event in events} == {run.id} == {f"run-{number}"}
            clock.advance(60)


def test_two_runs_are_alike_to_the_byte_on_both_backends():
    async def work() -> list[str]:
        sessions = InMemorySessionService(time=FakeClock())
        made = Runner(twice, sessions=sessions, time=FakeClock(tick=1.0), new_id=counting_ids())
        async with made as runner, runner.run("go", session_id="s") as run:
            return [event.to_json() async for event in run if event.lifecycle is None]

    first, *others = [anyio.run(work, backend=backend) for backend in ("asyncio", "trio") * 2]
    assert first
    assert all(other == first for other in others)
