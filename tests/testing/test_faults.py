"""Faults at a chosen place."""

import itertools

import pytest
from anyio.lowlevel import checkpoint

from agentflow import (
    CommitUnknown,
    ConfigError,
    Event,
    InMemorySessionService,
    InvocationContext,
    ParallelAgent,
    Run,
    Runner,
    SequentialAgent,
    ServiceError,
    SessionKey,
    agent,
)
from agentflow.testing import FailingSessionService, FaultScheduler, SeededScheduler

KEY = SessionKey("app", "ada", "s1")


@agent
async def first(ctx: InvocationContext) -> None:
    await ctx.emit(ctx.text("one"))
    await ctx.emit(ctx.text("two"))


@agent
async def second(ctx: InvocationContext) -> None:
    await ctx.emit(ctx.text("three"))


TREE = SequentialAgent("line", [first, second])
POINTS = [
    ("line", "start"),
    *(("line.first", where) for where in ("start", "emit", "go on", "emit", "go on")),
    *(("line.second", where) for where in ("start", "emit", "go on")),
]


async def test_a_fault_is_raised_in_the_agent_at_each_point_in_turn():
    hits = []
    for k in itertools.count(1):
        fault = FaultScheduler(k, OSError("disk full"))
        async with Runner(TREE, scheduler=fault) as runner:
            try:
                async with runner.run("go") as run:
                    said = [event.text async for event in run if event.text]
            except OSError as raised:
                error: OSError | None = raised
            else:
                error = None
        if error is None:
            break
        assert error is fault.fault
        assert f"in agent {fault.hit[0]!r}" in error.__notes__[0]
        hits.append(fault.hit)
    assert hits == POINTS
    assert (fault.hit, fault.count, said) == (None, len(POINTS), ["one", "two", "three"])


async def test_a_fault_may_cancel_the_run_at_each_point():
    for k in range(1, len(POINTS) + 1):
        runs: list[Run] = []
        fault = FaultScheduler(k, lambda: runs[0].cancel("enough"))  # noqa: B023 - called in this round
        async with Runner(TREE, scheduler=fault) as runner, runner.run("go") as run:
            runs.append(run)
            said = [event.text async for event in run if event.text]
        assert (run.result.status, run.result.reason) == ("cancelled", "enough")
        assert said == ["one", "two", "three"][: sum(where == "go on" for _, where in POINTS[:k])]


async def test_a_fault_may_be_any_async_function_and_what_it_raises_is_raised_there():
    done = []

    async def act() -> None:
        await checkpoint()
        done.append("act")
        raise LookupError("lost")

    fault = FaultScheduler(2, act)
    async with Runner(TREE, scheduler=fault) as runner, runner.run("go") as run:
        with pytest.raises(LookupError):
            await run.wait()
    assert (done, fault.hit) == (["act"], ("line.first", "start"))


async def test_faults_and_seeded_orders_go_together():
    tree = ParallelAgent("fan", [first.clone(), second.clone()])
    hits = set()
    for seed in range(10):
        async with SeededScheduler(seed) as order:
            fault = FaultScheduler(5, OSError("disk full"), order=order)
            async with Runner(tree, scheduler=fault) as runner, runner.run("go") as run:
                with pytest.raises(OSError, match="disk full"):
                    await run.wait()
        assert order.trace[4] == fault.hit
        hits.add(fault.hit)
    assert len(hits) > 1


@pytest.mark.parametrize("k", [0, -1, True, 1.0, "1"])
def test_points_are_counted_from_one(k):
    with pytest.raises(ConfigError, match="counted from 1"):
        FaultScheduler(k, OSError())
    with pytest.raises(ConfigError, match="counted from 1"):
        FailingSessionService(InMemorySessionService(), fail_at=k)


@pytest.mark.parametrize("fault", [OSError, "disk full", None])
def test_a_fault_is_an_exception_or_a_function(fault):
    with pytest.raises(ConfigError, match="a fault is"):
        FaultScheduler(1, fault)


# Stores that fail


async def test_the_nth_call_fails_and_nothing_is_written():
    inner = InMemorySessionService()
    sessions = FailingSessionService(inner, fail_at=3)
    await sessions.create(*KEY)
    assert await sessions.get(KEY) is not None
    with pytest.raises(ServiceError, match="at call 3"):
        await sessions.append(KEY, [Event(id="lost")])
    await sessions.append(KEY, [Event(id="kept")])
    session = await inner.get(KEY)
    assert session is not None
    assert [event.id for event in session.events] == ["kept"]
    assert (sessions.count, sessions.failed) == (4, 1)


async def test_only_the_calls_that_are_named_count():
    sessions = FailingSessionService(InMemorySessionService(), fail_at=1, calls=["list", "delete"], times=2)
    await sessions.create(*KEY)
    with pytest.raises(ServiceError):
        await sessions.list("app")
    assert await sessions.get(KEY) is not None
    with pytest.raises(ServiceError):
        await sessions.delete(KEY)
    assert [info.key for info in await sessions.list("app", "ada")] == [KEY]
    await sessions.delete(KEY)
    assert await sessions.get(KEY) is None


async def test_it_may_fail_for_good_with_an_error_of_ones_own():
    sessions = FailingSessionService(InMemorySessionService(), fail_at=2, error=PermissionError("no"), times=None)
    await sessions.create(*KEY)
    for _ in range(3):
        with pytest.raises(PermissionError):
            await sessions.get(KEY)
    await sessions.aclose()


async def test_a_write_may_happen_though_its_answer_is_lost():
    inner = InMemorySessionService()
    lost = CommitUnknown("no answer")
    sessions = FailingSessionService(inner, fail_at=1, calls=["append"], error=lost, written=True)
    await sessions.create(*KEY)
    with pytest.raises(CommitUnknown):
        await sessions.append(KEY, [Event(id="there")], expected_version=0)
    session = await inner.get(KEY, recent=5, after=0)
    assert session is not None
    assert [event.id for event in session.events] == ["there"]


async def test_a_run_survives_a_failing_store_at_every_call():
    """The run fails with the store's error, what is stored is a prefix, and the session's next run works."""
    for fail_at in itertools.count(1):
        inner = InMemorySessionService()
        sessions = FailingSessionService(inner, fail_at=fail_at)
        async with Runner(TREE, sessions=sessions) as runner:
            try:
                async with runner.run("go", session_id="s") as run:
                    await run.wait()
            except ServiceError:
                assert sessions.failed == 1
            else:
                break
            async with runner.run("again", session_id="s") as run:
                assert [event.text async for event in run if event.text] == ["one", "two", "three"]
            session = await inner.get(run.session)
            assert session is not None
            assert [event.serial for event in session.events] == list(range(1, session.version + 1))
    assert sessions.failed == 0
    assert fail_at > 10
