"""Seeded orders: decided by the seed, the same on both backends, read back and played again."""

import logging
from collections.abc import AsyncIterator, Callable
from itertools import pairwise

import anyio
import pytest
from anyio.lowlevel import checkpoint

from agentflow import (
    Actions,
    AgentflowError,
    ConfigError,
    Event,
    FunctionAgent,
    InvocationContext,
    LoopAgent,
    ParallelAgent,
    Run,
    Runner,
    RunResult,
    SequentialAgent,
    StateConflict,
)
from agentflow.testing import FakeClock, OrderFailed, SeededScheduler, counting_ids, explore


def talker(name: str, times: int = 3) -> FunctionAgent:
    async def talk(ctx: InvocationContext) -> None:
        for n in range(times):
            await ctx.emit(ctx.text(f"{name}{n}"))

    return FunctionAgent(name, talk)


def fan(*names: str, times: int = 3) -> ParallelAgent:
    return ParallelAgent("fan", [talker(name, times) for name in names])


def nested() -> SequentialAgent:
    inner = ParallelAgent("inner", [talker("c", 2), LoopAgent("loop", [talker("d", 1)], max_iterations=2)])
    return SequentialAgent("root", [ParallelAgent("fan", [talker("a"), talker("b"), inner]), talker("e", 1)])


async def order_of(agent, seed: int = 0, **settings) -> tuple[list[tuple[str, str]], list[str]]:
    """The trace of one run, and its events as JSON, times and ids included."""
    async with SeededScheduler(seed, **settings) as scheduler:
        made = Runner(agent, scheduler=scheduler, time=FakeClock(tick=1.0), new_id=counting_ids())
        async with made as runner, runner.run("go", session_id="s") as run:
            events = [event.model_copy(update={"lifecycle": None}).to_json() async for event in run]
    return scheduler.trace, events


def test_the_seed_alone_decides_the_order_on_both_backends():
    async def work(seed: int):
        return await order_of(nested(), seed)

    orders = []
    for seed in range(15):
        first, *others = [anyio.run(work, seed, backend=backend) for backend in ("asyncio", "trio") * 2]
        assert all(other == first for other in others), seed
        orders.append(first[0])
    assert len({tuple(trace) for trace in orders}) == 15


async def test_seeds_give_different_orders_and_miss_none():
    """Those too in which one branch is done before the other has begun."""
    heard = set()

    def check(events: list[Event], result: RunResult) -> None:
        heard.add("".join(event.text[0] for event in events if event.text))

    explored = await explore(fan("a", "b", times=1), check, seeds=range(20))
    assert heard == {"ab", "ba"}
    assert explored.runs == 20
    assert 2 <= explored.orders <= 20
    heard.clear()
    explored = await explore(fan("a", "b", times=3), check, seeds=range(150))
    assert explored.orders > 130
    assert len(heard) >= 15  # of the 20 ways to mix two rows of three
    assert heard >= {"aaabbb", "bbbaaa", "ababab", "bababa"}


async def test_a_trace_names_who_went_on_and_from_where():
    trace, _ = await order_of(SequentialAgent("root", [talker("a", 1)]))
    assert trace == [("root", "start"), ("root.a", "start"), ("root.a", "emit"), ("root.a", "go on")]


async def test_an_order_is_played_again_from_its_trace():
    trace, events = await order_of(nested(), 7)
    for seed in (7, 8):
        async with SeededScheduler(seed, choices=trace) as scheduler:
            made = Runner(nested(), scheduler=scheduler, time=FakeClock(tick=1.0), new_id=counting_ids())
            async with made as runner, runner.run("go", session_id="s") as run:
                again = [event.model_copy(update={"lifecycle": None}).to_json() async for event in run]
        assert (scheduler.trace, again, scheduler.diverged) == (trace, events, None)


async def test_a_trace_that_no_longer_fits_is_followed_as_far_as_it_goes():
    trace, _ = await order_of(fan("a", "b"), 3)
    async with (
        SeededScheduler(choices=trace) as scheduler,
        Runner(fan("a", "c"), scheduler=scheduler) as runner,
        runner.run("go") as run,
    ):
        assert len([event async for event in run if event.text]) == 6
    assert scheduler.diverged == min(trace.index(choice) for choice in trace if choice[0] == "fan.b")
    assert scheduler.trace[: scheduler.diverged] == trace[: scheduler.diverged]


async def test_agents_that_wait_for_each_other_do_not_stop_it():
    def pair(scheduler):
        arrived = {"a": anyio.Event(), "b": anyio.Event()}

        def meets(me: str, other: str) -> FunctionAgent:
            async def meet(ctx: InvocationContext) -> None:
                await ctx.emit(ctx.text(f"{me} is here"))
                arrived[me].set()
                await arrived[other].wait()
                await ctx.emit(ctx.text(f"{me} met {other}"))

            return FunctionAgent(me, meet)

        return Runner(ParallelAgent("pair", [meets("a", "b"), meets("b", "a")]), scheduler=scheduler)

    def check(events: list[Event], result: RunResult) -> None:
        texts = [event.text for event in events if event.text]
        assert set(texts[:2]) == {"a is here", "b is here"}
        assert len(texts) == 4

    await explore(pair, check, seeds=range(30))


async def test_agents_that_wait_for_a_timer_or_a_thread_do_not_stop_it():
    async def naps(ctx: InvocationContext) -> None:
        await anyio.sleep(0.001)
        await anyio.to_thread.run_sync(lambda: None)
        await ctx.emit(ctx.text("awake"))

    def check(events: list[Event], result: RunResult) -> None:
        assert result.status == "ok"
        assert sum(event.text == "awake" for event in events) == 1

    await explore(ParallelAgent("fan", [FunctionAgent("naps", naps), talker("a")]), check, seeds=range(10))


async def test_an_agent_that_polls_is_told_of_and_stops_nothing(caplog):
    """It can't be ordered: it never waits for anything."""
    others = {"a": False}

    async def polls(ctx: InvocationContext) -> None:
        while not others["a"]:  # noqa: ASYNC110 - that is polling
            await checkpoint()
        await ctx.emit(ctx.text("seen"))

    async def works(ctx: InvocationContext) -> None:
        await ctx.emit(ctx.text("done"))
        others["a"] = True

    tree = ParallelAgent("fan", [FunctionAgent("polls", polls), FunctionAgent("works", works)])
    with caplog.at_level(logging.WARNING):
        trace, _ = await order_of(tree, patience=0.01)
    assert ("fan.polls", "go on") in trace
    assert caplog.text.count("did not come to rest") == 1


async def test_a_cancelled_run_ends_in_the_order_of_the_seed():
    """Who waits for the reader learns of it first, the others one at a time, each when it is chosen."""

    async def ends(ctx: InvocationContext) -> None:
        try:
            while True:
                await ctx.emit(ctx.text(ctx.agent.name))
        finally:
            left.append(ctx.agent.name)

    orders = set()
    for seed in range(30):
        left: list[str] = []
        tree = ParallelAgent("fan", [FunctionAgent(name, ends) for name in "abc"])
        async with SeededScheduler(seed) as scheduler:
            async with Runner(tree, scheduler=scheduler) as runner, runner.run("go") as run:
                async for event in run:
                    if event.text == "b":
                        run.cancel()
            assert run.result.status == "cancelled"
        orders.add("".join(left))
    assert orders >= {"bac", "bca"}


async def test_nobody_is_held_before_and_after_the_block():
    scheduler = SeededScheduler(1)
    async with Runner(fan("a", "b"), scheduler=scheduler) as runner:
        for _ in range(2):
            async with runner.run("go") as run:
                assert len([event async for event in run if event.text]) == 6
            assert scheduler.trace == []
            async with runner.run("go", on_consumer_gone="drain") as run, scheduler:
                async for event in run:
                    if event.text:
                        break
            assert scheduler.trace
            scheduler = runner._scheduler = SeededScheduler(1)


async def test_it_can_be_cancelled_and_fail_like_any_block():
    async def consume(act: Callable[[], object]) -> None:
        async with (
            SeededScheduler() as scheduler,
            Runner(fan("a", "b"), scheduler=scheduler) as runner,
            runner.run("go") as run,
        ):
            runs.append(run)
            async for event in run:
                if event.text:
                    act()

    runs: list[Run] = []
    with anyio.CancelScope() as scope:
        await consume(scope.cancel)
    with pytest.raises(ZeroDivisionError):
        await consume(lambda: 1 / 0)
    assert [run.status for run in runs] == ["cancelled", "cancelled"]


async def test_it_is_entered_once():
    scheduler = SeededScheduler()
    async with scheduler:
        pass
    with pytest.raises(ConfigError, match="entered once"):
        async with scheduler:
            pass


async def test_two_runs_at_once_share_an_order():
    async with SeededScheduler(5) as scheduler, Runner(fan("a", "b"), scheduler=scheduler) as runner:
        texts = {}

        async def read(session_id: str) -> None:
            async with runner.run("go", session_id=session_id) as run:
                texts[session_id] = [event.text async for event in run if event.text]

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read, "s1")
            tasks.start_soon(read, "s2")
    assert sorted(texts["s1"]) == sorted(texts["s2"]) == ["a0", "a1", "a2", "b0", "b1", "b2"]


async def test_two_schedulers_at_once_do_not_wait_for_each_other():
    async def work(seed: int) -> None:
        assert len((await order_of(fan("a", "b"), seed))[0]) > 10

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            for seed in range(3):
                tasks.start_soon(work, seed)


# explore


async def test_a_failing_check_names_the_seed_and_the_order():
    def check(events: list[Event], result: RunResult) -> None:
        texts = [event.text for event in events if event.text]
        assert texts.index("a0") < texts.index("b1"), "b was twice as fast"

    with pytest.raises(OrderFailed, match="b was twice as fast") as failed:
        await explore(fan("a", "b", times=2), check)
    failure = failed.value
    assert isinstance(failure, AgentflowError)
    assert isinstance(failure, AssertionError)
    assert isinstance(failure.__cause__, AssertionError)
    assert f"seed {failure.seed}:" in str(failure)
    assert "fan.b: emit" in str(failure)
    assert failure.trace.index(("fan.b", "go on")) < failure.trace.index(("fan.a", "emit"))
    with pytest.raises(OrderFailed) as again:
        await explore(fan("a", "b", times=2), check, seeds=[failure.seed])
    assert again.value.trace == failure.trace


async def test_a_check_may_wait():
    checked = []

    async def check(events: list[Event], result: RunResult) -> None:
        await checkpoint()
        checked.append(result.status)

    await explore(fan("a"), check, seeds=range(3))
    assert checked == ["ok"] * 3


async def test_a_race_that_needs_a_rare_order_is_found():
    """Read, think, write: lost when another branch gets in between, though each order by itself looks innocent."""

    async def adds(ctx: InvocationContext) -> None:
        seen = ctx.state.get("count", 0)
        await ctx.emit(ctx.text("thinking"))
        ctx.state["count"] = seen + 1

    def tree() -> SequentialAgent:
        return SequentialAgent("root", [ParallelAgent("fan", [FunctionAgent(name, adds) for name in "ab"])])

    counts = set()

    def check(events: list[Event], result: RunResult) -> None:
        counts.add(max(event.actions.state_delta["count"] for event in events if event.actions))

    await explore(tree(), check, seeds=range(50))
    assert counts == {1, 2}


async def test_a_run_that_fails_fails_its_order_unless_it_may():
    async def fails(ctx: InvocationContext) -> None:
        raise ValueError("no")

    tree = ParallelAgent("fan", [talker("a"), FunctionAgent("fails", fails)])
    results = []
    with pytest.raises(OrderFailed, match="ValueError: no"):
        await explore(tree, lambda events, result: None, seeds=range(3))
    await explore(tree, lambda events, result: results.append(result), seeds=range(3), may_fail=(ValueError,))
    assert [(result.status, str(result.error)) for result in results] == [("error", "no")] * 3


async def test_agents_that_never_end_fail_their_order_by_name():
    async def waits(ctx: InvocationContext) -> None:
        await anyio.sleep_forever()

    tree = ParallelAgent("fan", [talker("a"), FunctionAgent("waits", waits)])
    with pytest.raises(OrderFailed, match=r"still at work: fan, fan\.waits"):
        await explore(tree, lambda events, result: None, seeds=range(3), time_limit=0.05)


async def test_a_runner_that_is_not_given_the_scheduler_is_a_mistake():
    with pytest.raises(ConfigError, match="hand the scheduler on"):
        await explore(lambda scheduler: Runner(fan("a")), lambda events, result: None)


async def test_an_own_runner_is_explored():
    def make(scheduler):
        return Runner(fan("a", "b"), scheduler=scheduler, visibility="prefix", app_name="mine")

    def check(events: list[Event], result: RunResult) -> None:
        assert sum(bool(event.text) for event in events) == 6

    assert (await explore(make, check, seeds=range(5), message=None, lookahead=2)).runs == 5


# What holds in every order


def row(*names: str) -> list[str]:
    return [f"{name}{n}" for name in names for n in range(3)]


async def test_lock_step_and_order_per_branch_hold_in_500_orders():
    """Code after an emit, or after a yield, runs only when the event was read and the next one was asked for."""
    log: list[tuple[str, str]] = []

    def emits(name: str) -> FunctionAgent:
        async def emit(ctx: InvocationContext) -> None:
            for n in range(3):
                event = ctx.text(f"{name}{n}", partial=n == 1)
                await ctx.emit(event)
                log.append(("on", event.id))

        return FunctionAgent(name, emit)

    def yields(name: str) -> FunctionAgent:
        async def generate(ctx: InvocationContext) -> AsyncIterator[Event]:
            for n in range(3):
                event = ctx.text(f"{name}{n}", partial=n == 1)
                yield event
                log.append(("on", event.id))

        return FunctionAgent(name, generate)

    tree = ParallelAgent(
        "fan", [emits("a"), yields("b"), emits("c"), SequentialAgent("d", [ParallelAgent("inner", [yields("e")])])]
    )
    traces = set()
    for seed in range(500):
        log.clear()
        async with (
            SeededScheduler(seed) as scheduler,
            Runner(tree, scheduler=scheduler, new_id=counting_ids()) as runner,
            runner.run("go") as run,
        ):
            events = []
            async for event in run:
                events.append(event)
                log.append(("read", event.id))
                await scheduler.point("(reader)", "read")
                log.append(("asked", event.id))
        traces.add(tuple(scheduler.trace))
        for what, event_id in log:
            if what == "on":
                assert log.index(("asked", event_id)) < log.index(("on", event_id)), (seed, event_id)
        assert sum(what == "on" for what, _ in log) == 12, seed
        for name in "abce":
            assert [event.text for event in events if event.author == name and event.text] == [
                f"{name}{n}" for n in range(3)
            ]
        stored = [event for event in events if not event.partial]
        assert [event.serial for event in stored] == sorted(event.serial for event in stored), seed
        for branch in {event.branch for event in stored if event.branch}:
            seqs = [event.seq for event in stored if event.branch == branch]
            assert seqs == list(range(1, len(seqs) + 1)), (seed, branch)
    assert len(traces) > 450


async def test_fork_and_join_hold_in_500_orders():
    """Nobody sees a running sibling, everybody its own line, and whoever follows the join sees all of it."""
    wrong: list[str] = []

    def says(name: str, *before: str) -> FunctionAgent:
        async def say(ctx: InvocationContext) -> None:
            own: list[str] = []
            for n in range(3):
                seen = [event.text for event in await ctx.history()]
                if seen != ["go", *before, *own]:
                    wrong.append(f"{name} saw {seen}")
                await ctx.emit(ctx.text(f"{name}{n}"))
                own.append(f"{name}{n}")

        return FunctionAgent(name, say)

    async def reads(ctx: InvocationContext) -> None:
        seen = [event.text for event in await ctx.history()]
        wanted = {"go", *row(*names[ctx.agent.name])}
        if set(seen) != wanted or len(seen) != len(wanted):
            wrong.append(f"{ctx.agent.name} saw {seen}")

    names = {"after_inner": "cd", "after_all": "abcd"}
    inner = ParallelAgent("inner", [says("c"), says("d")])
    line = SequentialAgent("line", [inner, FunctionAgent("after_inner", reads)])
    tree = SequentialAgent(
        "root", [ParallelAgent("fan", [says("a"), says("b"), line]), FunctionAgent("after_all", reads)]
    )

    def check(events: list[Event], result: RunResult) -> None:
        found, wrong[:] = wrong[:], []
        assert not found, found

    explored = await explore(tree, check)
    assert explored.orders > 450


async def test_conflicts_are_found_in_500_orders(caplog):
    """Whichever branch comes first: with `"last"` a warning names both and the later commit wins; reducers fold."""

    def writes(name: str) -> FunctionAgent:
        async def write(ctx: InvocationContext) -> None:
            for n in range(2):
                if "shared" in ctx.state:
                    assert ctx.state["shared"][0] in "abc"
                ctx.state["shared"] = f"{name}{n}"
                ctx.state["votes"] = [f"{name}{n}"]
                ctx.state[f"own-{name}"] = n
                assert ctx.state["shared"] == f"{name}{n}"
                await ctx.emit(ctx.text("written"))

        return FunctionAgent(name, write)

    tree = ParallelAgent("fan", [writes(name) for name in "abc"], on_conflict={"votes": lambda a, b: [*a, *b]})
    winners = set()

    def check(events: list[Event], result: RunResult) -> None:
        written = [event for event in events if event.actions and "shared" in event.actions.state_delta]
        assert len(written) == 6
        last = max(written, key=lambda event: event.serial or 0)
        gathered = events[-2]
        assert gathered.actions is not None
        assert gathered.actions.state_delta == {"votes": ["a0", "a1", "b0", "b1", "c0", "c1"]}
        winners.add(last.actions.state_delta["shared"] if last.actions else None)
        told = [record.getMessage() for record in caplog.records if "both wrote" in record.getMessage()]
        authors = [event.author for event in sorted(written, key=lambda event: event.serial or 0)]
        changes = [f"'fan.{one}' and 'fan.{two}'" for one, two in pairwise(authors) if one != two]
        assert [message.split(" of ")[0].removeprefix("branches ") for message in told] == changes
        caplog.clear()

    with caplog.at_level(logging.WARNING, logger="agentflow"):
        explored = await explore(tree, check)
    assert explored.orders > 450
    assert winners == {"a1", "b1", "c1"}


async def test_a_conflict_that_is_an_error_is_one_in_500_orders():
    """The second branch to write fails, whichever that is; what it wrote is not stored."""

    def writes(name: str) -> FunctionAgent:
        async def write(ctx: InvocationContext) -> None:
            await ctx.emit(ctx.text("first"))
            await ctx.emit(ctx.event("second", actions=Actions({"shared": name})))

        return FunctionAgent(name, write)

    tree = ParallelAgent("fan", [writes("a"), writes("b"), talker("c", 1)], on_conflict="error")
    pairs = set()

    def check(events: list[Event], result: RunResult) -> None:
        written = [event.author for event in events if event.actions and "shared" in event.actions.state_delta]
        assert len(written) == 1
        error = result.error
        assert isinstance(error, StateConflict)
        assert error.key == "shared"
        assert error.branches[0] == f"fan.{written[0]}"
        pairs.add(error.branches)

    explored = await explore(tree, check, may_fail=(StateConflict,))
    assert explored.orders > 450
    assert pairs == {("fan.a", "fan.b"), ("fan.b", "fan.a")}
