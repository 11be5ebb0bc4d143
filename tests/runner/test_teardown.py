"""Agents and plugins that don't end in time: who is told of it, and who waits."""

import anyio
import pytest

from agentflow import (
    Agent,
    CommitUnknown,
    InMemorySessionService,
    InvocationContext,
    ParallelAgent,
    Plugin,
    PluginError,
    Runner,
    SequentialAgent,
    ServiceError,
    agent,
)
from agentflow.testing import FailingSessionService
from tests.core.actors import read, says, sleeps
from tests.faults.checks import log_problems


def clings(name: str, seconds: float) -> Agent:
    """Takes so long to clean up, and lets nothing hurry it."""

    @agent(name=name)
    async def turn(ctx: InvocationContext) -> None:
        try:
            await ctx.emit(ctx.text("one"))
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(seconds)

    return turn


async def stop_at_first_words(runner: Runner):
    async with runner.run("go", session_id="s") as run:
        async for event in run:
            if event.author == "a" and event.text:
                break
    return run


async def test_who_refuses_to_end_is_reported_by_name_and_the_runner_waits(caplog: pytest.LogCaptureFixture) -> None:
    root = SequentialAgent("s", [ParallelAgent("p", [clings("a", 100), says("b", "x")])])
    began = anyio.current_time()
    async with Runner(root, teardown_timeout=2) as runner:
        run = await stop_at_first_words(runner)
        assert anyio.current_time() - began == pytest.approx(2)
        assert run.status == "running"
        assert run.unfinished == ["s", "s.p", "s.p.a"]
        (record,) = caplog.records
        assert record.levelname == "ERROR"
        assert "s.p.a" in record.getMessage()
        assert "2 s" in record.getMessage()
        assert "s.p.b" not in record.getMessage()
    assert anyio.current_time() - began == pytest.approx(100)
    assert (run.status, run.unfinished) == ("cancelled", [])
    session = await runner.sessions.get(run.session)
    assert session is None or log_problems(session.events) == []


async def test_clean_up_within_the_grace_period_is_waited_for_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    began = anyio.current_time()
    async with Runner(clings("a", 4)) as runner:
        run = await stop_at_first_words(runner)
        assert anyio.current_time() - began == pytest.approx(4)
        assert run.status == "cancelled"
    assert caplog.records == []


async def test_several_runs_share_one_grace_period_when_the_runner_ends(caplog: pytest.LogCaptureFixture) -> None:
    began = anyio.current_time()
    async with Runner(clings("a", 100), teardown_timeout=2) as runner:
        for number in range(5):
            async with runner.run("go", session_id=f"s{number}", on_consumer_gone="detach") as run:
                async for event in run:
                    if event.text:
                        break
    assert anyio.current_time() - began == pytest.approx(100)
    assert len(caplog.records) == 5


async def test_a_session_is_busy_until_its_run_has_really_ended() -> None:
    began = anyio.current_time()
    async with Runner(clings("a", 100), teardown_timeout=2) as runner:
        await stop_at_first_words(runner)
        async with runner.run(None, session_id="s"):
            assert anyio.current_time() - began == pytest.approx(100)


async def test_on_exit_wait_lets_detached_runs_finish() -> None:
    async with Runner(sleeps("a", 50), on_exit="wait") as runner, runner.run("go", on_consumer_gone="detach") as run:
        pass
    assert (run.status, run.result.text) == ("ok", "good morning")


async def test_on_exit_cancel_stops_detached_runs() -> None:
    async with Runner(sleeps("a", 50)) as runner:
        async with runner.run("go", on_consumer_gone="detach") as run:
            pass
        await anyio.sleep(1)
    assert (run.status, run.result.text, run.result.reason) == ("cancelled", "good night", "its Runner ended")


async def test_an_error_in_the_runner_s_block_stops_detached_runs_whatever_on_exit_says() -> None:
    runner = Runner(sleeps("a", 50), on_exit="wait")

    async def fail():
        async with runner:
            async with runner.run("go", on_consumer_gone="detach") as run:
                runs.append(run)
            raise KeyError("mine")

    runs: list = []
    with pytest.raises(KeyError, match="mine"):
        await fail()
    assert runs[0].status == "cancelled"


async def test_drain_waits_until_the_run_has_ended_by_itself() -> None:
    async with Runner(sleeps("a", 50)) as runner:
        async with runner.run("go", on_consumer_gone="drain") as run:
            async for event in run:
                if event.text:
                    break
        assert (run.status, run.result.text) == ("ok", "good morning")


async def test_drain_gives_up_when_the_reader_is_cancelled() -> None:
    async with Runner(sleeps("a", 50)) as runner:
        with anyio.move_on_after(5):
            async with runner.run("go", on_consumer_gone="drain") as run:
                pass
        assert run.status == "cancelled"


async def test_a_plugin_s_close_is_bounded_and_an_error_in_it_is_raised(caplog: pytest.LogCaptureFixture) -> None:
    closed = []

    class Slow(Plugin):
        async def close(self) -> None:
            await anyio.sleep_forever()

    class Bad(Plugin):
        async def close(self) -> None:
            raise ValueError("no")

    class Good(Plugin):
        async def close(self) -> None:
            closed.append(True)

    async def use() -> None:
        async with Runner(says("a", "x"), plugins=[Slow(), Bad(), Good()], teardown_timeout=2) as runner:
            await read(runner.run("go"))

    began = anyio.current_time()
    with pytest.raises(PluginError) as caught:
        await use()
    assert (caught.value.plugin, caught.value.hook) == ("Bad", "close")
    assert isinstance(caught.value.__cause__, ValueError)
    assert closed == [True]
    assert anyio.current_time() - began == pytest.approx(2)
    assert "'Slow' was not closed" in caplog.text


async def test_a_slow_after_run_is_bounded_also_for_a_cancelled_run(caplog: pytest.LogCaptureFixture) -> None:
    class Slow(Plugin):
        async def after_run(self, ctx: InvocationContext) -> None:
            await anyio.sleep_forever()

    async with Runner(sleeps("a", 50), plugins=[Slow()], teardown_timeout=2) as runner:
        run = await stop_at_first_words(runner)
        with anyio.fail_after(1):
            await run.wait()
    assert run.status == "cancelled"
    assert "after_run took longer" in caplog.text


async def test_what_the_store_refuses_once_at_the_very_end_is_stored_all_the_same() -> None:
    store = InMemorySessionService()
    failing = FailingSessionService(store, fail_at=5, calls=("append",))
    async with Runner(SequentialAgent("s", [sleeps("a", 50)]), sessions=failing) as runner:
        run = await stop_at_first_words(runner)
    assert (run.status, failing.failed) == ("cancelled", 1)
    session = await store.get(run.session)
    assert session is not None
    assert log_problems(session.events) == []


@pytest.mark.parametrize(("error", "times", "calls"), [(ServiceError("full"), 2, 2), (CommitUnknown("silent"), 1, 1)])
async def test_it_is_tried_once_more_and_not_where_it_may_be_stored_already(
    error: Exception, times: int, calls: int
) -> None:
    failing = FailingSessionService(InMemorySessionService(), fail_at=5, calls=("append",), error=error, times=times)
    async with Runner(SequentialAgent("s", [sleeps("a", 50)]), sessions=failing) as runner:
        with pytest.raises(type(error), match=str(error)):
            await stop_at_first_words(runner)
    assert failing.failed == calls
