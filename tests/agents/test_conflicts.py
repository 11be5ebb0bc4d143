"""Two branches that write one key: a reducer, an error, or the last word and a warning."""

import operator

import anyio
import pytest

from agentflow import FunctionAgent, InvocationContext, LoopAgent, ParallelAgent, SequentialAgent, StateConflict, agent
from tests.core.actors import play


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
