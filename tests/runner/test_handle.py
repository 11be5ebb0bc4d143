"""The handle of a run: reading it, waiting for it, letting go of it, and finding it again."""

import gc
from collections.abc import Callable

import anyio
import pytest
from anyio.lowlevel import checkpoint

from agentflow import ConfigError, InMemorySessionService, InvocationContext, Runner, RunNotFound, agent
from tests.core.actors import fails, refuses, says, sleeps


async def _after(seconds: float, call: Callable[[], object]) -> None:
    await anyio.sleep(seconds)
    call()


async def test_waiting_after_reading_some_events_lets_the_run_end() -> None:
    async with Runner(says("a", "one", "two")) as runner, runner.run("go") as run:
        async for _ in run:
            break
        with anyio.fail_after(5):
            result = await run.wait()
    assert result.text == "two"


@pytest.mark.parametrize("wait_first", [False, True])
async def test_waiting_goes_on_when_the_task_that_read_has_ended(wait_first: bool) -> None:
    waiting = anyio.Event()

    async def read_some() -> None:
        async for _ in run:
            if wait_first:
                await waiting.wait()
            return

    async with Runner(says("a", "one", "two")) as runner, runner.run("go") as run, anyio.create_task_group() as tasks:
        reader = tasks.start_soon(read_some)
        for _ in range(9):
            await checkpoint()
        if wait_first:
            tasks.start_soon(_after, 1, waiting.set)
        with anyio.fail_after(50):
            result = await run.wait()
        del reader
    assert result.text == "two"


async def test_waiting_leaves_the_reading_to_the_task_that_reads_next() -> None:
    got = []

    async def read(many: int) -> None:
        async for event in run:
            got.append(event.text)
            await anyio.sleep(2)
            if len(got) == many:
                return

    async with Runner(says("a", "one", "two")) as runner, runner.run("go") as run, anyio.create_task_group() as tasks:
        tasks.start_soon(read, 1)
        await anyio.sleep(1)
        tasks.start_soon(_after, 0.5, lambda: tasks.start_soon(read, 4))
        await run.wait()
    assert got == ["", "one", "two", ""]


async def test_waiting_at_a_handle_that_was_left_leaves_the_events_to_who_is_attached() -> None:
    async with Runner(sleeps("a", 50)) as runner:
        async with runner.run("go", on_consumer_gone="detach") as run:
            pass
        async with runner.attach(run.id) as again, anyio.create_task_group() as tasks:
            tasks.start_soon(run.wait)
            assert [event.text async for event in again if event.text] == ["good night", "good morning"]


async def test_an_agent_can_not_wait_for_its_own_run() -> None:
    @agent
    async def selfish(ctx: InvocationContext) -> None:
        with pytest.raises(ConfigError, match="wait for itself"):
            await run.wait()
        await ctx.emit(ctx.text("no"))

    async with Runner(selfish) as runner, runner.run("go") as run:
        result = await run.wait()
    assert result.text == "no"


async def test_waiting_without_reading_gives_the_result() -> None:
    async with Runner(says("a", "one", "two")) as runner, runner.run("go") as run:
        result = await run.wait()
        assert (result.status, result.text, run.status) == ("ok", "two", "ok")
        assert await run.wait() is result


async def test_a_run_that_nobody_reads_waits_and_is_cancelled_when_it_is_left() -> None:
    async with Runner(says("a", "one", "two")) as runner:
        async with runner.run("go") as run:
            for _ in range(20):
                await checkpoint()
            assert run.status == "running"
        session = await runner.sessions.get(run.session)
    assert run.status == "cancelled"
    assert [event.text for event in session.events if event.text] == ["go", "one"]


async def test_iterating_after_the_end_gives_nothing_more() -> None:
    async with Runner(fails("a", "one")) as runner:
        async with runner.run("go") as run:
            with pytest.raises(ValueError, match="a failed"):
                [event async for event in run]
            assert [event async for event in run] == []
        assert [event async for event in run] == []


async def test_a_second_reader_is_told_that_there_is_one() -> None:
    async with Runner(sleeps("a", 50)) as runner, runner.run("go") as run:

        async def read() -> None:
            async for _ in run:
                pass

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await checkpoint()
            await checkpoint()
            with pytest.raises(ConfigError, match="one reader"):
                await read()
            tasks.cancel_scope.cancel()


async def test_a_handle_is_entered_once_and_before_it_is_used() -> None:
    async with Runner(says("a", "one")) as runner:
        run = runner.run("go")
        assert run.status == "pending"
        for use in (lambda: run.id, lambda: run.result, run.cancel):
            with pytest.raises(ConfigError, match="enter the run"):
                use()
        with pytest.raises(ConfigError, match="enter the run"):
            await anext(run)
        async with run:
            with pytest.raises(ConfigError, match="still going on"):
                _ = run.result
        with pytest.raises(ConfigError, match="entered once"):
            async with run:
                pass


async def test_a_dropped_handle_cancels_its_run() -> None:
    async with Runner(sleeps("a", 500)) as runner:
        run = runner.run("go", session_id="s")
        await run.__aenter__()
        async for event in run:
            if event.text:
                break
        del run, event
        gc.collect()
        with anyio.fail_after(5):
            async with runner.run("again", session_id="s") as other:
                run_id = other.id
        session = await runner.sessions.get(other.session)
    ends = [event for event in session.events if event.lifecycle and event.lifecycle.name == "agent_complete"]
    assert ends[0].lifecycle.outcome == "cancelled"
    assert ends[0].lifecycle.reason == "its handle was dropped"
    assert ends[0].invocation_id != run_id


async def test_an_error_of_a_dropped_run_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with Runner(refuses("a", "x")) as runner:
        run = runner.run("go", session_id="s")
        await run.__aenter__()
        async for event in run:
            if event.text:
                break
        del run, event
        gc.collect()
        async with runner.run(None, session_id="s"):
            pass
    assert "a failed" in caplog.text


async def test_an_error_of_a_detached_run_that_nobody_attaches_to_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with Runner(fails("a", "x"), on_exit="wait") as runner, runner.run("go", on_consumer_gone="detach"):
        pass
    assert "a failed" in caplog.text


async def test_a_detached_run_can_be_attached_to_again_and_again() -> None:
    async with Runner(says("a", "one", "two")) as runner:
        async with runner.run("go", on_consumer_gone="detach") as run:
            pass
        read = []
        for _ in range(3):
            async with runner.attach(run.id) as again:
                read.append([event.text async for event in again])
    assert read[0] == read[1] == read[2]


async def test_attaching_to_an_unknown_run_is_an_error() -> None:
    async with Runner(says("a", "one")) as runner:
        with pytest.raises(RunNotFound, match="e-nobody"):
            async with runner.attach("e-nobody"):
                pass


@pytest.mark.parametrize(
    "left_after",
    [
        *range(1, 6),
        6,
    ],
)
async def test_attaching_from_a_position_loses_no_event_and_doubles_none(left_after: int) -> None:
    async with Runner(says("a", "one", "two", "three", "four")) as runner:
        async with runner.run("go", on_consumer_gone="detach") as run:
            first = [await anext(run) for _ in range(left_after)]
        for _ in range(left_after):
            await checkpoint()
        async with runner.attach(run.id, after=run.position) as again:
            second = [event async for event in again]
        session = await runner.sessions.get(run.session)
    assert [event.serial for event in first + second] == [event.serial for event in session.events][1:]


async def test_attaching_to_a_run_that_is_being_read_is_an_error() -> None:
    async with Runner(sleeps("a", 50)) as runner, runner.run("go") as run:
        with pytest.raises(ConfigError, match="read already"):
            async with runner.attach(run.id):
                pass


async def test_closing_a_detachable_run_ends_its_reader_too() -> None:
    async with (
        Runner(sleeps("a", 500)) as runner,
        runner.run("go", on_consumer_gone="detach") as run,
        anyio.create_task_group() as tasks,
    ):

        async def close() -> None:
            await anyio.sleep(1)
            await run.aclose()

        tasks.start_soon(close)
        with anyio.fail_after(50):
            async for _ in run:
                pass
        assert run.status == "running"  # the reader has left; the run hasn't


async def test_who_waits_while_the_runner_ends_is_told_and_leaves_nothing() -> None:
    store = InMemorySessionService()
    runner = Runner(sleeps("a", 50), sessions=store)
    made = []

    async def second() -> None:
        with pytest.raises(ConfigError, match="enter the Runner"):
            async with runner.run("two", session_id="s"):
                pass

    runner._make = lambda *args, make=runner._make: made.append(make(*args)) or made[-1]
    async with anyio.create_task_group() as tasks, runner:
        async with runner.run("one", session_id="s", on_consumer_gone="detach"):
            pass
        tasks.start_soon(second)
        for _ in range(5):
            await checkpoint()
    assert len(made) == 1


async def test_a_run_that_is_entered_while_its_runner_ends_leaves_nothing() -> None:
    asked, go = anyio.Event(), anyio.Event()

    class Slow(InMemorySessionService):
        async def get(self, *args, **options):
            asked.set()
            await go.wait()
            return await super().get(*args, **options)

    async def enter() -> None:
        with pytest.raises(ConfigError, match="enter the Runner"):
            async with runner.run("go", session_id="s"):
                pass

    store = Slow()
    runner = Runner(says("a", "one"), sessions=store)
    async with anyio.create_task_group() as tasks:
        async with runner:
            tasks.start_soon(enter)
            await asked.wait()
        go.set()
    assert runner._live == {}
    async with runner, runner.run("go", session_id="s", on_busy="reject") as run:
        assert (await run.wait()).text == "one"


async def test_a_handle_that_has_read_nothing_yet_is_where_it_was_attached() -> None:
    async with Runner(sleeps("a", 50)) as runner:
        async with runner.run("go", on_consumer_gone="detach") as run:
            async for event in run:
                if event.text:
                    break
        async with runner.attach(run.id, after=run.position) as again:
            pass
        assert again.position == run.position
        async with runner.attach(run.id, after=again.position) as third:
            assert [event.text async for event in third if event.text] == ["good morning"]
