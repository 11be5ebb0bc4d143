"""How a reader may leave: break, an error of its own, cancelled from outside, in another task; and slow readers."""

import asyncio
import gc
import weakref

import anyio
import pytest
from anyio.lowlevel import checkpoint

from agentflow import InvocationContext, ParallelAgent, Run, Runner, SequentialAgent, agent
from tests.core.actors import read, says, sleeps
from tests.faults.checks import log_problems


class Ends:
    """An agent that tells when its work is over."""

    def __init__(self) -> None:
        self.ended = 0

        @agent(name="a")
        async def turn(ctx: InvocationContext) -> None:
            try:
                await ctx.emit(ctx.text("one"))
                await anyio.sleep_forever()
            finally:
                self.ended += 1

        self.agent = turn


async def leave_at_first_words(run: Run, error: Exception | None = None) -> None:
    async with run:
        async for event in run:
            if event.text and error is not None:
                raise error
            if event.text:
                break


class Held:
    """Something large that an agent has in its hands."""


async def outcomes(runner: Runner, run) -> list[str]:
    session = await runner.sessions.get(run.session)
    assert log_problems(session.events) == []
    return [e.lifecycle.outcome for e in session.events if e.lifecycle and e.lifecycle.name.endswith("complete")]


async def test_leaving_the_block_waits_until_every_agent_has_ended() -> None:
    many = [Ends() for _ in range(5)]
    root = ParallelAgent("p", [one.agent.clone(name=f"a{i}") for i, one in enumerate(many)])
    async with Runner(root) as runner:
        async with runner.run("go") as run:
            spoke = set()
            async for event in run:
                spoke |= {event.author} if event.text else set()
                if len(spoke) == 5:
                    break
        assert [one.ended for one in many] == [1] * 5
        assert run.status == "cancelled"
        assert run.result.reason == "its consumer left"
        assert run.unfinished == []


async def test_an_error_of_the_reader_s_own_passes_through_unchanged() -> None:
    ends = Ends()
    async with Runner(ends.agent) as runner:
        run = runner.run("go")
        with pytest.raises(KeyError, match="mine"):
            await leave_at_first_words(run, KeyError("mine"))
        assert ends.ended == 1
        assert await outcomes(runner, run) == ["cancelled"]


async def test_a_reader_that_is_cancelled_takes_the_run_with_it() -> None:
    ends = Ends()
    async with Runner(ends.agent) as runner:
        run = runner.run("go")
        with anyio.move_on_after(5):
            await read(run)
        assert ends.ended == 1
        assert run.status == "cancelled"
        assert await outcomes(runner, run) == ["cancelled"]


async def test_cancelling_runner_and_all_ends_everything() -> None:
    ends = Ends()
    with anyio.move_on_after(5) as scope:
        async with Runner(ends.agent) as runner:
            run = runner.run("go")
            await read(run)
    assert scope.cancelled_caught
    assert (ends.ended, run.status) == (1, "cancelled")
    assert run.result.reason


async def test_a_reader_in_a_cancelled_asyncio_task_takes_the_run_with_it(anyio_backend) -> None:
    if anyio_backend[0] != "asyncio":
        return
    ends = Ends()
    async with Runner(ends.agent) as runner:
        run = runner.run("go")
        task = asyncio.get_running_loop().create_task(read(run))
        await anyio.sleep(5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (ends.ended, run.status) == (1, "cancelled")
        assert await outcomes(runner, run) == ["cancelled"]


async def test_asyncio_timeout_and_wait_for_around_a_run_work(anyio_backend) -> None:
    if anyio_backend[0] != "asyncio":
        return
    ends = Ends()
    async with Runner(ends.agent) as runner:
        run = runner.run("go")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3):
                await read(run)
        again = runner.run("go")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(read(again), 3)
    assert ends.ended == 2
    assert (run.status, again.status) == ("cancelled", "cancelled")


async def test_a_run_may_be_closed_from_another_task() -> None:
    ends = Ends()
    got = []
    async with Runner(ends.agent) as runner, runner.run("go") as run, anyio.create_task_group() as tasks:

        async def close() -> None:
            await anyio.sleep(1)
            await run.aclose()
            assert ends.ended == 1

        tasks.start_soon(close)
        got += [event async for event in run]
    assert run.status == "cancelled"
    assert [event.text for event in got if event.text] == ["one"]


async def test_a_run_may_be_left_in_another_task_than_it_was_entered_in() -> None:
    ends = Ends()
    async with Runner(ends.agent) as runner:
        run = runner.run("go")

        async def enter() -> None:
            await run.__aenter__()

        async def leave() -> None:
            await run.__aexit__(None, None, None)

        for step in (enter, leave):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(step)
    assert (ends.ended, run.status) == (1, "cancelled")


async def test_cancel_says_why_and_the_stream_ends_after_the_last_event() -> None:
    async with Runner(SequentialAgent("s", [sleeps("a", 500)])) as runner, runner.run("go") as run:
        got = []
        async for event in run:
            got.append(event)
            if event.text:
                run.cancel("enough of that")
                run.cancel("not the reason")
        assert run.status == "cancelled"
        assert run.result.reason == "enough of that"
        assert run.result.text == "good night"
        ends = [event.lifecycle for event in got if event.lifecycle and event.lifecycle.name == "agent_complete"]
        assert [(end.agent_name, end.outcome, end.reason) for end in ends] == [
            ("a", "cancelled", "enough of that"),
            ("s", "cancelled", "enough of that"),
        ]
        session = await runner.sessions.get(run.session)
    assert [event.serial for event in got] == [event.serial for event in session.events][1:]


async def test_cancelling_a_run_that_has_ended_changes_nothing() -> None:
    async with Runner(says("a", "one")) as runner:
        run = await read(runner.run("go"))
        run.cancel("too late")
    assert (run.status, run.result.reason) == ("ok", "")


async def test_cancelling_before_the_first_step_leaves_a_session_that_goes_on() -> None:
    async with Runner(says("a", "one")) as runner:
        async with runner.run("go", session_id="s") as run:
            run.cancel("at once")
        assert run.status == "cancelled"
        again = await read(runner.run("again", session_id="s"))
        assert again.status == "ok"
        await outcomes(runner, again)


async def test_a_slow_reader_slows_its_agents() -> None:
    done = []

    @agent
    async def eager(ctx: InvocationContext) -> None:
        for number in range(5):
            await ctx.emit(ctx.text(str(number)))
            done.append(number)

    async with Runner(eager) as runner, runner.run("go") as run:
        async for event in run:
            for _ in range(10):
                await checkpoint()
            if event.text:
                assert done == list(range(int(event.text)))


@pytest.mark.parametrize("lookahead", [1, 3])
async def test_lookahead_lets_an_agent_go_so_far_and_no_further(lookahead: int) -> None:
    done = []

    @agent
    async def eager(ctx: InvocationContext) -> None:
        for number in range(9):
            await ctx.emit(ctx.text(str(number), partial=number % 2 == 0))
            done.append(number)

    async with Runner(eager) as runner, runner.run("go", lookahead=lookahead) as run:
        async for event in run:
            for _ in range(30):
                await checkpoint()
            if event.text:
                assert done == list(range(min(9, int(event.text) + lookahead)))


async def test_reading_may_go_on_after_a_break() -> None:
    async with Runner(says("a", "one", "two", "three")) as runner, runner.run("go") as run:
        got = []
        for _ in range(9):
            async for event in run:
                got.append(event.text)
                break
    assert [text for text in got if text] == ["one", "two", "three"]
    assert run.status == "ok"


async def test_many_runs_at_once_do_not_mix() -> None:
    root = ParallelAgent("p", [says("a", "one"), says("b", "two")])
    seen = {}
    async with Runner(root) as runner, anyio.create_task_group() as tasks:

        async def one(number: int) -> None:
            events: list = []
            run = await read(runner.run("go", session_id=f"s{number}"), events)
            seen[run.id] = {event.invocation_id for event in events}

        for number in range(20):
            tasks.start_soon(one, number)
    assert len(seen) == 20
    assert all(ids == {run_id} for run_id, ids in seen.items())


async def test_an_error_that_nobody_read_is_raised_when_the_block_is_left() -> None:
    @agent
    async def bad(ctx: InvocationContext) -> None:
        try:
            await ctx.emit(ctx.text("one"))
        finally:
            raise ValueError("bad clean-up")

    async with Runner(bad) as runner:
        run = runner.run("go")
        with pytest.raises(ValueError, match="bad clean-up") as caught:
            await leave_at_first_words(run)
    assert run.status == "error"
    assert run.result.error is caught.value
    assert any("in agent 'bad'" in note for note in caught.value.__notes__)


async def test_what_stopped_branches_held_is_let_go_at_once() -> None:
    """Not by the cyclic collector some time later: it may be much, and there may be many."""
    held = []

    @agent
    async def holds(ctx: InvocationContext) -> None:
        mine = Held()
        held.append(weakref.ref(mine))
        await ctx.emit(ctx.text("I have it"))
        await anyio.sleep_forever()

    root = ParallelAgent("p", [holds.clone(name=f"a{i}") for i in range(3)])
    gc.collect()
    gc.disable()
    try:
        async with Runner(root) as runner:
            async with runner.run("go") as run:
                spoke = set()
                async for event in run:
                    spoke |= {event.author} if event.text else set()
                    if len(spoke) == 3:
                        break
            await checkpoint()
            assert [thing() for thing in held] == [None] * 3
    finally:
        gc.enable()
