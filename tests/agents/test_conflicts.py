"""Two branches that write one key: a reducer, an error, or the last word and a warning."""

import contextlib
import operator

import anyio
import pytest

from agentflow import (
    Actions,
    Agent,
    FunctionAgent,
    InvocationContext,
    LimitExceeded,
    Limits,
    LoopAgent,
    ParallelAgent,
    Runner,
    SequentialAgent,
    StateConflict,
    agent,
)
from tests.core.actors import play, read


def sets(name: str, key: str, value: object) -> FunctionAgent:
    async def turn(ctx: InvocationContext) -> None:
        ctx.state[key] = value
        await ctx.emit(ctx.text(name))

    return FunctionAgent(name, turn)


@pytest.mark.parametrize(
    "key",
    [
        "n",
        "user:n",
        "app:n",
        "temp:n",
    ],
)
async def test_contributions_are_folded_on_top_of_what_was_there(key: str) -> None:
    found = []

    async def look(ctx: InvocationContext) -> None:
        found.append(ctx.state[key])

    votes = ParallelAgent("p", [sets("a", key, 1), sets("b", key, 2)], on_conflict={key: operator.add})
    played = await play(SequentialAgent("s", [sets("init", key, 10), votes, FunctionAgent("look", look)]))
    assert found == [13]
    assert played.session.state == ({key: 13} if key != "temp:n" else {})
    if key == "temp:n":
        assert not [event for event in played.session.events if event.actions and event.actions.contributions]


async def test_the_last_write_wins_and_a_warning_names_both(caplog: pytest.LogCaptureFixture) -> None:
    @agent
    async def later(ctx: InvocationContext) -> None:
        await anyio.sleep(1)
        ctx.state["k"] = "later"

    root = ParallelAgent("p", [SequentialAgent("s", [ParallelAgent("q", [sets("a", "k", "first")])]), later])
    played = await play(root)
    assert played.session.state == {"k": "later"}
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    for part in ("'p.s.q.a'", "'p.later'", "'p'", "'k'"):
        assert part in record.getMessage()


async def test_conflicts_may_be_errors() -> None:
    root = ParallelAgent("p", [sets("a", "k", 1), sets("b", "k", 2)], on_conflict="error")
    with pytest.raises(StateConflict) as caught:
        await play(root)
    error = caught.value
    assert error.key == "k"
    assert sorted(error.branches) == ["p.a", "p.b"]
    assert error.agent == f"p.{error.branch[-1]}"


async def test_a_conflict_is_found_also_when_it_is_written_as_the_agent_ends() -> None:
    async def silent(ctx: InvocationContext) -> None:
        ctx.state["k"] = ctx.agent.name

    group = [FunctionAgent(name, silent) for name in "ab"]
    with pytest.raises(StateConflict):
        await play(ParallelAgent("p", group, on_conflict="error"))


async def test_one_branch_may_write_a_key_again_and_again_and_so_may_branches_of_different_groups(
    caplog: pytest.LogCaptureFixture,
) -> None:
    one = SequentialAgent("s", [sets("a", "k", 1), sets("b", "k", 2)])
    first = ParallelAgent("p", [one, sets("c", "other", 1)], on_conflict="error")
    second = ParallelAgent("q", [sets("d", "k", 3)], on_conflict="error")
    played = await play(SequentialAgent("t", [first, second]))
    assert played.session.state == {"k": 3, "other": 1}
    assert caplog.records == []


async def test_the_nearest_common_parallel_decides() -> None:
    inner = ParallelAgent("q", [sets("a", "k", 1), sets("b", "k", 2)], on_conflict={"k": operator.add})
    outer = ParallelAgent("p", [inner, sets("c", "other", 3)], on_conflict="error")
    assert (await play(outer)).session.state == {"k": 3, "other": 3}
    inner = ParallelAgent("q", [sets("a", "k", 1), sets("b", "x", 2)], on_conflict={"x": operator.add})
    outer = ParallelAgent("p", [inner, sets("c", "k", 3)], on_conflict="error")
    with pytest.raises(StateConflict) as caught:
        await play(outer)
    assert sorted(caught.value.branches) == ["p.c", "p.q.q.a"]


async def test_nested_reducers_fold_from_the_inside_out() -> None:
    inner = ParallelAgent("q", [sets("a", "k", [1]), sets("b", "k", [2])], on_conflict={"k": operator.add})
    outer = ParallelAgent("p", [sets("c", "k", [0]), inner, sets("d", "k", [3])], on_conflict={"k": operator.add})
    assert (await play(outer)).session.state == {"k": [0, 1, 2, 3]}


async def test_contributions_fold_in_declaration_order_whoever_was_first() -> None:
    def late(name: str, seconds: float) -> FunctionAgent:
        async def turn(ctx: InvocationContext) -> None:
            await anyio.sleep(seconds)
            ctx.state["k"] = name

        return FunctionAgent(name, turn)

    root = ParallelAgent("p", [late("a", 3), late("b", 1), late("c", 2)], on_conflict={"k": operator.add})
    assert (await play(root)).session.state == {"k": "abc"}


async def test_a_branch_reads_its_own_contributions_and_not_its_sibling_s() -> None:
    seen = {}

    @agent
    async def one(ctx: InvocationContext) -> None:
        ctx.state["k"] = 1
        await ctx.emit(ctx.text("x"))
        ctx.state["k"] = 2
        await ctx.emit(ctx.text("y"))
        await anyio.sleep(2)
        seen["one"] = ctx.state["k"]

    @agent
    async def two(ctx: InvocationContext) -> None:
        await anyio.sleep(1)
        seen["two"] = ctx.state["k"]
        ctx.state["k"] = 100

    root = ParallelAgent("p", [one, two], on_conflict={"k": operator.add})
    played = await play(root, state={"k": 10})
    assert seen == {"one": 13, "two": 10}
    assert played.session.state == {"k": 113}


@pytest.mark.parametrize("on_error", ["collect", "ignore"])
async def test_contributions_of_branches_that_did_not_succeed_do_not_count(on_error) -> None:
    @agent
    async def bad(ctx: InvocationContext) -> None:
        ctx.state["k"] = 1
        await ctx.emit(ctx.text("x"))
        raise ValueError

    root = ParallelAgent("p", [bad, sets("b", "k", 10)], on_conflict={"k": operator.add}, on_error=on_error)
    assert (await play(root)).session.state == {"k": 10}


async def test_contributions_are_not_in_state_until_the_join_and_are_told_in_the_gather() -> None:
    root = ParallelAgent("p", [sets("a", "k", 1), sets("b", "k", 2)], on_conflict={"k": operator.add})
    played = await play(root)
    said = {event.author: event.actions for event in played.events if event.text}
    assert (said["a"].contributions, said["a"].state_delta) == ({"k": 1}, {})
    (gather,) = [event for event in played.events if event.lifecycle and event.lifecycle.name == "gather_complete"]
    assert gather.actions.state_delta == {"k": 3}


async def test_a_group_in_a_loop_folds_anew_each_time() -> None:
    group = ParallelAgent("p", [sets("a", "k", 1), sets("b", "k", 2)], on_conflict={"k": operator.add})
    assert (await play(LoopAgent("l", [group], max_iterations=3))).session.state == {"k": 9}


async def test_an_error_in_a_reducer_is_the_group_s() -> None:
    root = ParallelAgent("p", [sets("a", "k", 1), sets("b", "k", "x")], on_conflict={"k": operator.add})
    with pytest.raises(TypeError) as caught:
        await play(root)
    assert any("in agent 'p'" in note for note in caught.value.__notes__)


def voter(name: str, *, after: float = 0, fails: bool = False, still: float = 0) -> FunctionAgent:
    """Votes for itself, goes on for so long and then, perhaps, fails."""

    async def turn(ctx: InvocationContext) -> None:
        await anyio.sleep(after)
        ctx.state["votes"] = [name]
        await ctx.emit(ctx.text(name))
        await anyio.sleep(still)
        if fails:
            raise ValueError(name)

    return FunctionAgent(name, turn)


@pytest.mark.parametrize("stop_when", ["all", "first_success"])
@pytest.mark.parametrize("on_error", ["collect", "ignore"])
async def test_a_group_inside_folds_what_its_branches_bring_to_a_group_around_it(on_error, stop_when) -> None:
    branches = [voter("slow", after=2, still=9), voter("fails", fails=True), voter("ok", after=1, still=1)]
    inner = ParallelAgent("q", branches, on_error=on_error, stop_when=stop_when)
    seen = []

    async def look(ctx: InvocationContext) -> None:
        seen.append(ctx.state["votes"])

    line = SequentialAgent("s", [voter("before"), inner, FunctionAgent("look", look)])
    root = ParallelAgent("p", [line, voter("z")], on_conflict={"votes": operator.add})
    played = await play(root)
    counted = ["slow", "ok"] if stop_when == "all" else ["ok"]
    assert seen == [["before", *counted]]
    assert played.session.state == {"votes": ["before", *counted, "z"]}


async def test_what_a_branch_brought_counts_if_it_ended_well_though_its_group_had_been_stopped() -> None:
    @agent
    async def tidy(ctx: InvocationContext) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(2)
            ctx.state["votes"] = ["tidy"]
            await ctx.emit(ctx.text("tidied up"))

    group = ParallelAgent(
        "p", [tidy, voter("quick", after=1)], on_conflict={"votes": operator.add}, stop_when="first_success"
    )
    async with Runner(group) as runner, runner.run("go") as run:
        result = await run.wait()  # nobody reads
        session = await runner.sessions.get(run.session)
    assert [(name, one.status) for name, one in result.outcomes.items()] == [("p.tidy", "ok"), ("p.quick", "ok")]
    assert session.state == {"votes": ["tidy", "quick"]}


async def test_a_group_inside_that_failed_brings_nothing() -> None:
    inner = ParallelAgent("q", [voter("a"), voter("b", after=1, fails=True)])

    @agent(sub_agents=[inner])
    async def catches(ctx: InvocationContext) -> None:
        ctx.state["votes"] = ["mine"]
        with pytest.raises(ValueError, match="b"):
            await ctx.run(inner)

    played = await play(ParallelAgent("p", [catches], on_conflict={"votes": operator.add}))
    assert played.session.state == {"votes": ["mine"]}


async def test_after_a_pause_the_same_counts() -> None:
    asked = []

    @agent
    async def asks(ctx: InvocationContext) -> None:
        asked.append(await ctx.request_input("?"))

    failed = ParallelAgent("f", [voter("c"), voter("d", after=1, fails=True)])

    @agent(sub_agents=[failed])
    async def catches(ctx: InvocationContext) -> None:
        with contextlib.suppress(ValueError):
            await ctx.run(failed)

    inner = ParallelAgent("q", [voter("a"), voter("b", fails=True)], on_error="collect")
    root = ParallelAgent("p", [inner, catches, asks], on_conflict={"votes": operator.add})
    async with Runner(root) as runner:
        first = await read(runner.run("go", session_id="s"))
        (question,) = first.result.pending
        second = await read(runner.run(answers={question.id: "yes"}, session_id="s"))
        session = await runner.sessions.get(second.session)
    assert asked == ["yes"]
    assert session.state == {"votes": ["a"]}


def first_then(turn) -> list[Agent]:
    """`first` writes `y`; a second later it is the turn of `a`."""

    async def later(ctx: InvocationContext) -> None:
        await anyio.sleep(1)
        await turn(ctx)

    return [sets("first", "y", 1), FunctionAgent("a", later)]


async def test_an_event_that_is_refused_has_claimed_nothing_and_brought_nothing() -> None:
    async def a(ctx: InvocationContext) -> None:
        event = ctx.event("x, y and a vote", actions=Actions(state_delta={"x": 1, "votes": ["a"], "temp:t": 1, "y": 1}))
        with pytest.raises(StateConflict):
            await ctx.emit(event)
        assert event.actions.state_delta == {"x": 1, "votes": ["a"], "temp:t": 1, "y": 1}
        assert "temp:t" not in ctx.state

    @agent
    async def b(ctx: InvocationContext) -> None:
        await anyio.sleep(2)
        ctx.state["x"] = "b"

    first, second = first_then(a)
    inner = ParallelAgent("q", [second], on_conflict={"votes": operator.add})
    played = await play(ParallelAgent("p", [first, inner, b], on_conflict="error"))
    assert played.session.state == {"y": 1, "x": "b"}


async def test_an_event_beyond_the_limit_has_claimed_nothing_and_brought_nothing() -> None:
    @agent
    async def a(ctx: InvocationContext) -> None:
        ctx.state["votes"] = ["a"]
        for word in ("one", "two"):
            with pytest.raises(LimitExceeded):
                await ctx.emit(ctx.event(word, actions=Actions(state_delta={"x": "a"})))

    @agent
    async def b(ctx: InvocationContext) -> None:
        await anyio.sleep(1)
        ctx.state["x"] = "b"

    inner = ParallelAgent("q", [a], on_conflict={"votes": operator.add})
    group = ParallelAgent("p", [inner, b], on_conflict="error")
    played = await play(SequentialAgent("s", [sets("fill", "k", 1), group]), limits=Limits(events=1))
    assert played.session.state == {"k": 1, "x": "b", "votes": ["a"]}


async def test_a_write_that_is_refused_is_dropped_and_its_agent_can_go_on() -> None:
    async def a(ctx: InvocationContext) -> None:
        ctx.state["y"], ctx.state["mine"] = 2, 1
        mine = ctx.text("mine")
        with pytest.raises(StateConflict):
            await ctx.emit(mine)
        assert (ctx.state["y"], ctx.state["mine"]) == (1, 1)
        await ctx.emit(mine)

    played = await play(ParallelAgent("p", first_then(a), on_conflict="error"))
    assert played.texts == ["first", "mine"]
    assert played.session.state == {"y": 1, "mine": 1}


async def test_what_is_pending_and_what_the_event_itself_brings_both_count() -> None:
    @agent
    async def a(ctx: InvocationContext) -> None:
        ctx.state["votes"] = ["pending"]
        await ctx.emit(ctx.event("x", actions=Actions(state_delta={"votes": ["said"]})))

    played = await play(ParallelAgent("p", [a], on_conflict={"votes": operator.add}))
    assert played.session.state == {"votes": ["pending", "said"]}
