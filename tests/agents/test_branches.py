"""A group of branches of one's own: added at any time, heard of one by one, cancelled, stopped, gathered."""

import operator

import anyio
import pytest
from anyio.lowlevel import checkpoint

from agentflow import (
    ConfigError,
    FunctionAgent,
    InMemorySessionService,
    InvocationContext,
    LimitExceeded,
    Limits,
    Retry,
    SequentialAgent,
    SessionKey,
    Text,
    agent,
)
from agentflow.agents.branches import Branch, Branches
from agentflow.core import Agent
from agentflow.events import GatherComplete
from tests.core.actors import fails, play, says, sleeps, swallows


@agent
async def echo(ctx: InvocationContext) -> None:
    await ctx.emit(ctx.text(f"<{ctx.user_text}>"))


def directs(name: str, turn: object, *sub_agents: Agent) -> FunctionAgent:
    return FunctionAgent(name, turn, sub_agents=[child.clone() for child in sub_agents])


async def every(group: Branches) -> list[Branch]:
    ended = []
    while (branch := await group.next()) is not None:
        ended.append(branch)
    return ended


async def test_one_agent_on_many_branches_each_told_something_else() -> None:
    heard: list[list[str]] = []

    @agent
    async def mapper(ctx: InvocationContext) -> None:
        heard.append([event.text for event in await ctx.history()])
        await ctx.emit(ctx.text(ctx.user_text.upper()))

    async def turn(ctx: InvocationContext) -> None:
        async with Branches(ctx, max_concurrency=2) as group:
            branches = [group.add(mapper, message=word) for word in ("a", "b", "c")]
        assert [branch.outcome.text for branch in branches if branch.outcome] == ["A", "B", "C"]
        assert [branch.name for branch in branches] == ["mapper", "mapper#2", "mapper#3"]
        await ctx.emit(ctx.text(f"{len(await ctx.history())} heard"))

    played = await play(directs("split", turn, mapper))
    assert sorted(heard) == [["go", "a"], ["go", "b"], ["go", "c"]]
    assert played.texts[-1] == "7 heard"
    told = [event for event in played.events if event.author == "user"]
    assert {(event.text, event.branch, event.path) for event in told} == {
        ("a", "split.mapper", "split.mapper"),
        ("b", "split.mapper#2", "split.mapper"),
        ("c", "split.mapper#3", "split.mapper"),
    }
    gathered = played.records("gather_complete")[0]
    assert gathered.outcomes == {"mapper": "ok", "mapper#2": "ok", "mapper#3": "ok"}
    assert gathered.total_agents == gathered.successful == 3


async def test_branches_are_added_as_others_end() -> None:
    async def turn(ctx: InvocationContext) -> None:
        async with Branches(ctx) as group:
            group.add(echo, message="1")
            while (branch := await group.next()) is not None:
                assert branch.outcome is not None
                word = branch.outcome.text.strip("<>")
                if len(word) < 4:
                    group.add(echo, message=word + "1")

    played = await play(directs("grows", turn, echo))
    assert [event.text for event in played.events if event.author == "echo" and event.text] == [
        "<1>",
        "<11>",
        "<111>",
        "<1111>",
    ]


async def test_who_waits_for_room_goes_by_priority_then_by_order() -> None:
    started: list[str] = []

    @agent
    async def notes(ctx: InvocationContext) -> None:
        started.append(ctx.user_text)
        await checkpoint()

    async def turn(ctx: InvocationContext) -> None:
        async with Branches(ctx, max_concurrency=1) as group:
            for word, priority in [("first", 0), ("low", -1), ("b", 5), ("c", 5), ("a", 9)]:
                group.add(notes, message=word, priority=priority)

    await play(directs("queue", turn, notes))
    assert started == ["first", "a", "b", "c", "low"]


async def test_a_failure_is_in_the_outcome_and_fails_nobody_else() -> None:
    async def turn(ctx: InvocationContext) -> None:
        async with Branches(ctx) as group:
            bad, good = group.add(ctx.agent.sub_agents[0]), group.add(echo, message="x")
        assert bad.outcome is not None
        assert isinstance(bad.outcome.error, ValueError)
        assert good.outcome is not None
        assert good.outcome.text == "<x>"

    played = await play(directs("mixed", turn, fails("bad"), echo))
    assert played.records("gather_complete")[0].outcomes == {"bad": "error", "echo": "ok"}


@pytest.mark.parametrize("begun", [True, False])
async def test_one_branch_is_cancelled_alone_running_or_waiting(begun: bool) -> None:
    heard = anyio.Event()
    if not begun:
        heard.set()

    @agent
    async def sleeper(ctx: InvocationContext) -> None:
        await ctx.emit(ctx.text("good night"))
        heard.set()
        await anyio.sleep_forever()

    async def turn(ctx: InvocationContext) -> None:
        async with Branches(ctx, max_concurrency=1) as group:
            running = group.add(ctx.agent.sub_agents[0])
            waiting = group.add(echo, message="waits")
            last = group.add(echo, message="last")
            await heard.wait()
            group.cancel(waiting)
            group.cancel(running)
            ended = await every(group)
        assert [branch.name for branch in ended] == ["echo", "sleeper", "echo#2"]
        assert [branch.outcome.status for branch in (running, waiting, last) if branch.outcome] == [
            "cancelled",
            "skipped",
            "ok",
        ]

    played = await play(directs("picky", turn, sleeper, echo))
    assert played.texts[-2:] == ["last", "<last>"]


async def test_stop_cancels_the_rest_and_hides_what_it_said() -> None:
    @agent
    async def slow(ctx: InvocationContext) -> None:
        await ctx.emit(ctx.text("half a thought"))
        await anyio.sleep_forever()

    seen: list[str] = []

    async def turn(ctx: InvocationContext) -> None:
        async with Branches(ctx) as group:
            group.add(slow)
            group.add(echo, message="done")
            first = await group.next()
            assert first is not None
            assert first.agent is echo
            group.stop("one is enough")
            group.add(echo, message="too late")
            assert await every(group) != []
            seen.append("the director goes on")
        seen.extend(event.text for event in await ctx.history())

    played = await play(directs("race", turn, slow, echo))
    assert seen == ["the director goes on", "go", "done", "<done>"]
    gathered = played.records("gather_complete")[0]
    assert gathered.reason == "one is enough"
    assert gathered.outcomes == {"slow": "cancelled", "echo": "ok", "echo#2": "skipped"}
    assert gathered.hidden == ["race.slow"]


async def test_what_the_block_raises_cancels_the_branches_and_is_raised_as_itself() -> None:
    async def turn(ctx: InvocationContext) -> None:
        async with Branches(ctx) as group:
            group.add(ctx.agent.sub_agents[0])
            await checkpoint()
            raise LookupError("no winner")

    sessions = InMemorySessionService()
    with pytest.raises(LookupError, match="no winner"):
        await play(directs("fails", turn, sleeps("sleeper", 1000)), sessions=sessions)
    session = await sessions.get(SessionKey("fails", "user", "s"))
    assert session is not None
    records = [event.lifecycle for event in session.events if isinstance(event.lifecycle, GatherComplete)]
    gathered = records[0]
    assert (gathered.reason, gathered.outcomes) == ("LookupError", {"sleeper": "cancelled"})


async def test_a_run_out_of_budget_ends_the_group_whoever_directs_it() -> None:
    async def turn(ctx: InvocationContext) -> None:
        async with Branches(ctx) as group:
            group.add(says("wordy", *"abcdefgh"))
            await every(group)

    with pytest.raises(LimitExceeded):
        await play(directs("d", turn), limits=Limits(events=4))


async def test_a_group_that_keeps_nothing_still_counts_and_reduces() -> None:
    @agent
    async def adds(ctx: InvocationContext) -> None:
        ctx.state["sum"] = int(ctx.user_text)
        if ctx.user_text == "3":
            raise ValueError("three")

    async def turn(ctx: InvocationContext) -> None:
        alive = 0
        async with Branches(ctx, max_concurrency=2, keep=False, on_conflict={"sum": operator.add}) as group:
            for number in range(1, 6):
                group.add(adds, message=str(number))
            while await group.next() is not None:
                alive = max(alive, len(group.branches))
        assert alive < 5
        assert ctx.state["sum"] == 1 + 2 + 4 + 5

    played = await play(directs("counts", turn, adds))
    gathered = played.records("gather_complete")[0]
    assert (gathered.total_agents, gathered.successful, gathered.failed, gathered.outcomes) == (5, 4, 1, {})


async def test_a_child_is_told_something_of_its_own_and_so_are_those_it_runs() -> None:
    @agent
    async def asks(ctx: InvocationContext) -> None:
        await ctx.run(ctx.agent.sub_agents[0], message=["look here", Text(", please")])
        await ctx.emit(ctx.text(ctx.user_text))

    inner = SequentialAgent("inner", [echo.clone()])
    played = await play(asks.clone(sub_agents=[inner]))
    assert played.texts == ["look here, please", "<look here, please>", "go"]
    assert [event.author for event in played.events if event.text] == ["user", "echo", "asks"]


async def test_what_an_agent_was_told_stays_when_it_tries_again() -> None:
    tries: list[list[str]] = []

    async def turn(ctx: InvocationContext) -> None:
        tries.append([event.text for event in await ctx.history()])
        await ctx.emit(ctx.text("a try"))
        if len(tries) < 2:
            raise ValueError("again")

    flaky = FunctionAgent("flaky", turn, retry=Retry(attempts=2, delay=0))

    async def asks(ctx: InvocationContext) -> None:
        await ctx.run(flaky, message="do it")
        tries.append([event.text for event in await ctx.history()])

    await play(directs("asks", asks, flaky))
    assert tries == [["go", "do it"], ["go", "do it"], ["go", "do it", "a try"]]


async def test_what_is_no_content_is_refused_before_the_child_starts() -> None:
    async def turn(ctx: InvocationContext) -> None:
        with pytest.raises(ConfigError, match=r"message for agent 'asks\.echo': content must be text"):
            await ctx.run(echo, message=7)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="is not open"):
            Branches(ctx).add(echo)

    played = await play(directs("asks", turn, echo))
    assert [event.author for event in played.events if event.lifecycle] == ["asks", "asks"]


async def test_branches_that_are_forgotten_are_not_in_the_result_as_an_earlier_attempt_left_them() -> None:
    tries = []

    async def waits(ctx: InvocationContext) -> None:
        if len(tries) == 1 and ctx.user_text == "two":
            await anyio.sleep_forever()

    async def turn(ctx: InvocationContext) -> None:
        tries.append(ctx)
        async with Branches(ctx, keep=False) as group:
            for word in ("one", "two"):
                group.add(ctx.agent.sub_agents[0], message=word)
            await group.next()
            if len(tries) == 1:
                raise ValueError("once")
            await every(group)

    leaf = FunctionAgent("leaf", waits)
    played = await play(FunctionAgent("boss", turn, sub_agents=[leaf], retry=Retry(attempts=2, delay=0)))
    assert len(tries) == 2
    assert played.run.result.outcomes == {}


@pytest.mark.parametrize("lookahead", [0, 64])
async def test_what_follows_who_swallowed_that_its_branch_was_cancelled_does_not_begin(lookahead: int) -> None:
    async def turn(ctx: InvocationContext) -> None:
        async with Branches(ctx) as group:
            branch = group.add(ctx.agent.sub_agents[0])
            await anyio.sleep(1)
            group.cancel(branch)
        assert branch.outcome is not None
        assert branch.outcome.status == "cancelled"

    line = SequentialAgent("line", [swallows("a"), says("next", "x")])
    played = await play(FunctionAgent("boss", turn, sub_agents=[line]), lookahead=lookahead)
    assert played.texts == []
