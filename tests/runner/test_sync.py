"""Runs without `await`: for scripts, notebooks, and threads."""

import gc
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import anyio
import pytest

from agentflow import (
    ConfigError,
    InMemorySessionService,
    InvocationContext,
    LimitExceeded,
    Limits,
    ParallelAgent,
    Runner,
    SessionKey,
    agent,
)
from tests.core.actors import fails, says

pytestmark = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def threads_left() -> list[str]:
    return [thread.name for thread in threading.enumerate() if "portal" in thread.name.lower()]


def test_events_stream_and_the_result_follows(backend: str) -> None:
    done: list[str] = []

    @agent
    async def steps(ctx: InvocationContext) -> None:
        for word in ("one", "two", "three"):
            await ctx.emit(ctx.text(word))
            done.append(word)

    run = Runner(steps).run_sync("go", backend=backend)
    for event in run:
        if event.text:
            assert event.text not in done  # it goes on when the next one is asked for
    assert done == ["one", "two", "three"]
    assert (run.result.status, run.result.text) == ("ok", "three")
    assert threads_left() == []


def test_the_result_alone_will_do(backend: str) -> None:
    root = ParallelAgent("p", [says("a", "one"), says("b", "two")])
    result = Runner(root).run_sync("go", backend=backend).result
    assert (result.status, result.text) == ("ok", "one\n\ntwo")


def test_breaking_off_cancels_the_run(backend: str) -> None:
    ended: list[str] = []

    @agent
    async def steps(ctx: InvocationContext) -> None:
        try:
            await ctx.emit(ctx.text("one"))
            await anyio.sleep_forever()
        finally:
            ended.append("yes")

    run = Runner(steps).run_sync("go", backend=backend)
    for event in run:
        if event.text:
            break
    gc.collect()
    assert ended == ["yes"]
    assert run.result.status == "cancelled"
    assert threads_left() == []


def test_an_abandoned_iterator_cancels_the_run(backend: str) -> None:
    ended: list[str] = []

    @agent
    async def steps(ctx: InvocationContext) -> None:
        try:
            await ctx.emit(ctx.text("one"))
            await anyio.sleep_forever()
        finally:
            ended.append("yes")

    events = iter(Runner(steps).run_sync("go", backend=backend))
    while not next(events).text:
        pass
    del events
    gc.collect()
    assert ended == ["yes"]
    assert threads_left() == []


def test_an_error_of_an_agent_is_raised_after_the_last_event(backend: str) -> None:
    run = Runner(fails("a", "one")).run_sync("go", backend=backend)
    got = []
    with pytest.raises(ValueError, match="a failed"):
        got.extend(event.text for event in run)
    assert [text for text in got if text] == ["one"]
    with pytest.raises(ValueError, match="a failed"):
        _ = run.result
    assert threads_left() == []


def test_an_error_of_the_reader_s_own_passes_through(backend: str) -> None:
    run = Runner(says("a", "one")).run_sync("go", backend=backend)

    def read() -> None:
        for _ in run:
            raise KeyError

    with pytest.raises(KeyError):
        read()
    gc.collect()
    assert run.result.status == "cancelled"


def test_limits_and_lookahead_apply(backend: str) -> None:
    runner = Runner(says("a", "one", "two", "three"))
    with pytest.raises(LimitExceeded):
        list(runner.run_sync("go", limits=Limits(events=2), backend=backend))
    assert len(list(runner.run_sync("go", lookahead=5, backend=backend))) == 5


def test_a_session_goes_on_from_call_to_call(backend: str) -> None:
    store = InMemorySessionService()
    runner = Runner(says("a", "one"), sessions=store)
    for _ in range(3):
        assert runner.run_sync("go", session_id="s", backend=backend).result.status == "ok"
    session = anyio.run(store.get, SessionKey("a", "user", "s"))
    assert [event.serial for event in session.events] == list(range(1, 13))


def test_ctrl_c_ends_it_wherever_it_waits(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before its event loop is there, while the Runner is entered, at each event, and while all of it ends."""
    waits = Future.result
    ended: list[int] = []
    reached = 0

    def interrupted(future: Future[object], timeout: float | None = None) -> object:
        nonlocal reached
        if "portal" in threading.current_thread().name or reached < 0:
            return waits(future, timeout)
        reached -= 1
        if reached < 0:
            raise KeyboardInterrupt
        return waits(future, timeout)

    def sweep() -> None:
        nonlocal reached
        for number in range(100):
            reached = number
            try:
                list(Runner(says("a", "one")).run_sync("go", backend=backend))
            except KeyboardInterrupt:
                ended.append(number)
            if reached >= 0:
                break

    monkeypatch.setattr(Future, "result", interrupted)
    thread = threading.Thread(target=sweep, daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive(), f"it hangs where it is interrupted at its wait {len(ended) + 1}"
    assert ended == list(range(len(ended)))
    assert len(ended) > 5
    assert threads_left() == []


def test_a_run_is_read_once(backend: str) -> None:
    run = Runner(says("a", "one")).run_sync("go", backend=backend)
    list(run)
    with pytest.raises(ConfigError, match="read once"):
        list(run)


def test_the_result_of_a_run_that_is_being_read_is_not_there_yet(backend: str) -> None:
    run = Runner(says("a", "one")).run_sync("go", backend=backend)
    for _ in run:
        with pytest.raises(ConfigError, match="still going on"):
            _ = run.result
        break


def test_it_works_inside_a_running_event_loop_as_in_a_notebook(backend: str) -> None:
    async def cell() -> list[str]:
        return [event.text for event in Runner(says("a", "one")).run_sync("go", backend=backend) if event.text]

    assert anyio.run(cell, backend="asyncio") == ["one"]
    if backend == "trio":
        with pytest.raises(ConfigError, match="where trio runs"):
            anyio.run(cell, backend="trio")
    else:
        assert anyio.run(cell, backend="trio") == ["one"]


def test_threads_may_each_have_their_own(backend: str) -> None:
    def one(number: int) -> str:
        return Runner(says("a", f"{number}")).run_sync("go", backend=backend).result.text

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(one, range(8))) == [str(number) for number in range(8)]


def test_an_entered_runner_says_that_it_is_entered(backend: str) -> None:
    async def main() -> None:
        async with Runner(says("a", "one")) as runner:
            with pytest.raises(ConfigError, match="entered already"):
                list(runner.run_sync("go", backend=backend))

    anyio.run(main)
