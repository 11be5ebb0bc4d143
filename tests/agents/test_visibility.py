"""Who hears whom: forks, joins, loops, retries, lost races, earlier runs."""

import anyio
import pytest

from agentflow import (
    FunctionAgent,
    InMemorySessionService,
    InvocationContext,
    LoopAgent,
    ParallelAgent,
    Retry,
    Runner,
    SequentialAgent,
    agent,
)
from tests.core.actors import fails, flaky, hears, play, read, says, sleeps


def late_hears(name: str, heard: list[str]) -> FunctionAgent:
    """Listens only when its siblings have spoken."""

    async def turn(ctx: InvocationContext) -> None:
        await anyio.sleep(10)
        heard.extend(event.text for event in await ctx.history() if event.text)

    return FunctionAgent(name, turn)


async def test_siblings_do_not_hear_each_other() -> None:
    heard: list[str] = []
    await play(
        SequentialAgent("s", [says("before", "b"), ParallelAgent("p", [says("a", "x"), late_hears("c", heard)])])
    )
    assert heard == ["go", "b"]


async def test_who_follows_a_parallel_hears_all_of_it() -> None:
    heard: list[str] = []
    group = ParallelAgent("p", [says("a", "x1", "x2"), says("b", "y")])
    await play(SequentialAgent("s", [group, hears("c", heard)]))
    assert sorted(heard) == ["go", "x1", "x2", "y"]
    assert heard.index("x1") < heard.index("x2")


async def test_a_reducer_inside_a_branch_hears_the_parallel_before_it_and_not_the_branch_beside_it() -> None:
    """`P1[S1[P2[A, B], R], C]`: R hears A and B, not C."""
    heard: list[str] = []
    inner = ParallelAgent("p2", [says("a", "x"), says("b", "y")])
    line = SequentialAgent("s1", [inner, late_hears("r", heard)])
    await play(ParallelAgent("p1", [line, says("c", "z")]))
    assert sorted(heard) == ["go", "x", "y"]


async def test_a_second_parallel_hears_the_first() -> None:
    heard: list[list[str]] = [[], []]
    one = ParallelAgent("p1", [says("a", "x"), says("b", "y")])
    two = ParallelAgent("p2", [hears("c", heard[0]), hears("d", heard[1])])
    await play(SequentialAgent("s", [one, two]))
    assert [sorted(words) for words in heard] == [["go", "x", "y"]] * 2


async def test_who_follows_nested_parallels_hears_everything_once() -> None:
    heard: list[str] = []
    deep = ParallelAgent("p3", [says("a", "1"), says("b", "2")])
    middle = ParallelAgent("p2", [SequentialAgent("s1", [deep, says("c", "3")]), says("d", "4")])
    root = ParallelAgent("p1", [SequentialAgent("s2", [middle, says("e", "5")]), says("f", "6")])
    await play(SequentialAgent("s", [root, hears("g", heard)]))
    assert sorted(heard) == ["1", "2", "3", "4", "5", "6", "go"]
    assert max(heard.index("1"), heard.index("2")) < heard.index("3") < heard.index("5")


async def test_an_agent_in_a_loop_hears_the_parallels_of_earlier_iterations() -> None:
    heard: list[str] = []
    group = ParallelAgent("p", [says("a", "x"), hears("b", heard)])
    await play(LoopAgent("l", [group, says("c", "z")], max_iterations=3))
    assert heard == ["go", "go", "x", "z", "go", "x", "z", "x", "z"]


async def test_a_failed_attempt_is_hidden_from_the_next_and_from_whatever_follows() -> None:
    heard: list[str] = []

    @agent(retry=Retry(attempts=3, delay=0))
    async def tries(ctx: InvocationContext):
        heard.append("|".join(event.text for event in await ctx.history() if event.text))
        number = len(heard)
        yield ctx.text(f"try {number}")
        if number < 3:
            raise ValueError

    played = await play(SequentialAgent("s", [says("a", "x"), tries, hears("b", heard)]))
    assert heard[:3] == ["go|x"] * 3
    assert heard[3:] == ["go", "x", "try 3"]
    assert [event.text for event in played.session.events if event.text.startswith("try")] == [
        "try 1", "try 2", "try 3",
    ]  # fmt: skip


async def test_a_retried_parallel_is_heard_as_in_its_last_attempt() -> None:
    heard: list[str] = []
    group = ParallelAgent("p", [says("a", "x"), flaky("b", 1)], retry=Retry(attempts=2, delay=0))
    await play(SequentialAgent("s", [group, hears("c", heard)]))
    assert sorted(heard) == ["go", "try 2", "x"]


async def test_a_retried_branch_is_heard_as_in_its_last_attempt() -> None:
    heard: list[str] = []
    group = ParallelAgent("p", [says("a", "x"), flaky("b", 2, retry=Retry(attempts=3, delay=0))])
    await play(SequentialAgent("s", [group, hears("c", heard)]))
    assert sorted(heard) == ["go", "try 3", "x"]


@pytest.mark.parametrize(("on_error", "expected"), [("collect", ["go", "x", "y"]), ("ignore", ["go", "y"])])
async def test_words_of_failed_branches_are_heard_or_not_as_the_policy_says(on_error, expected) -> None:
    heard: list[str] = []
    group = ParallelAgent("p", [fails("a", "x"), says("b", "y")], on_error=on_error)
    await play(SequentialAgent("s", [group, hears("c", heard)]))
    assert sorted(heard) == expected


async def test_words_of_who_lost_a_race_stay_in_the_log_and_are_not_heard() -> None:
    heard: list[str] = []
    group = ParallelAgent("p", [sleeps("a", 50), says("b", "y")], stop_when="first_success")
    played = await play(SequentialAgent("s", [group, hears("c", heard)]))
    assert heard == ["go", "y"]
    assert "good night" in [event.text for event in played.session.events]


async def test_earlier_runs_of_the_session_are_heard_by_the_same_rules() -> None:
    store = InMemorySessionService()
    heard: list[str] = []
    group = ParallelAgent("p", [says("a", "x"), sleeps("b", 50)], stop_when="first_success")
    await play(SequentialAgent("s", [group, flaky("c", 1, retry=Retry(delay=0))]), "one", sessions=store)
    listener = ParallelAgent("p", [hears("a", heard)])
    await play(SequentialAgent("s", [listener]), "two", sessions=store)
    assert heard == ["one", "x", "try 2", "two"]


async def test_a_run_that_was_cancelled_in_a_parallel_is_heard_up_to_where_it_came() -> None:
    store = InMemorySessionService()
    heard: list[str] = []
    root = ParallelAgent("p", [sleeps("a", 50)])
    async with Runner(root, app_name="s", sessions=store) as runner, runner.run("one", session_id="s") as run:
        async for event in run:
            if event.text:
                break
    await play(SequentialAgent("s", [hears("b", heard)]), "two", sessions=store)
    assert heard == ["one", "good night", "two"]


async def test_an_agent_always_hears_its_own_words() -> None:
    async def turn(ctx: InvocationContext) -> None:
        for number in range(5):
            await ctx.emit(ctx.text(f"{ctx.agent.name}{number}", partial=number == 3))
            last = (await ctx.history())[-1].text
            assert last == f"{ctx.agent.name}{2 if number == 3 else number}"

    await play(ParallelAgent("p", [FunctionAgent(name, turn) for name in "abcd"]))


async def test_children_that_run_beside_each_other_do_not_hear_each_other_and_join_at_their_end() -> None:
    heard: list[str] = []
    after: list[str] = []

    @agent
    async def boss(ctx: InvocationContext) -> None:
        await ctx.emit(ctx.text("start"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ctx.run, sleeps("a", 5))
            await anyio.sleep(1)
            tasks.start_soon(ctx.run, late_hears("b", heard))
        after.extend(event.text for event in await ctx.history() if event.text)

    await play(boss)
    assert heard == ["go", "start", "good night"]  # what was said before it forked, on the line that it forked from
    assert after == ["go", "start", "good night", "good morning"]


async def test_lifecycle_events_are_never_heard() -> None:
    lifecycle = []

    @agent
    async def listener(ctx: InvocationContext) -> None:
        lifecycle.extend(event for event in await ctx.history() if event.lifecycle)

    await play(SequentialAgent("s", [ParallelAgent("p", [says("a", "x")]), listener]))
    assert lifecycle == []


async def test_prefix_visibility_is_adk_go_s_rule() -> None:
    heard: dict[str, list[str]] = {"r": [], "c": [], "end": []}
    inner = ParallelAgent("p2", [says("a", "x"), says("b", "y")])
    line = SequentialAgent("s1", [says("first", "f"), inner, hears("r", heard["r"])])
    root = SequentialAgent(
        "s", [ParallelAgent("p1", [line]), ParallelAgent("p3", [hears("c", heard["c"])]), hears("end", heard["end"])]
    )
    await play(root, visibility="prefix")
    assert heard["r"] == ["go", "f"]  # not the descendants of its own branch
    assert heard["c"] == ["go"]  # nor the parallel before it
    assert sorted(heard["end"]) == ["f", "go", "x", "y"]  # at the root everything


async def test_history_read_back_by_another_runner_is_what_the_run_heard() -> None:
    """The rules follow from the stored events alone."""
    store = InMemorySessionService()
    heard: list[str] = []
    again: list[str] = []
    group = ParallelAgent("p", [SequentialAgent("s1", [says("a", "x"), says("b", "y")]), flaky("c", 1, retry=2)])
    tree = SequentialAgent("s", [group, hears("d", heard)])
    async with Runner(tree, sessions=store, app_name="app") as runner:
        await read(runner.run("go", session_id="s"))
    async with Runner(hears("d", again), sessions=store, app_name="app") as runner:
        await read(runner.run(None, session_id="s"))
    assert heard == again
