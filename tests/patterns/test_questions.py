"""A node, a piece or an item that asks a person pauses the run; what is done is not done again after the answer."""

from collections import Counter
from typing import Any

import anyio
import pytest

from agentflow import (
    Agent,
    FanOutFanIn,
    FunctionAgent,
    GraphAgent,
    InMemorySessionService,
    InvocationContext,
    MapReduceAgent,
    Node,
    RecordSplitter,
    Runner,
    RunResult,
    ScatterGatherAgent,
    ScatterGatherResult,
    Usage,
)


class Desk:
    """Agents that are told something and say it again; of `b`, only when a person agrees. Counts who was asked what."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()

    def agent(self, name: str, *, lasts: float = 0.0) -> Agent:
        async def turn(ctx: InvocationContext) -> None:
            word = ctx.user_text
            await anyio.sleep(lasts if word != "a" else 3 * lasts)
            if word == "b":
                word = str(await ctx.request_input("May I?"))
            self.asked[word] += 1
            await ctx.emit(ctx.text(word))

        return FunctionAgent(name, turn)

    async def run(self, agent: Agent, message: str) -> tuple[RunResult, RunResult]:
        """Run it to its question, answer, and run it to its end."""
        async with Runner(agent, sessions=InMemorySessionService()) as runner:
            async with runner.run(message, session_id="s") as run:
                paused = await run.wait()
            (question,) = paused.pending
            async with runner.run(session_id="s", answers={question.id: "B"}) as run:
                return paused, await run.wait()


async def test_what_does_not_depend_on_the_answer_goes_on_and_nothing_is_done_twice() -> None:
    desk = Desk()
    nodes = [
        Node(desk.agent("one"), message="b", priority=9),
        Node(desk.agent("two"), message="c"),
        Node(desk.agent("three"), after="two", message="d"),
        Node(desk.agent("four"), after=["one", "three"], message=lambda one, three: one + three),
    ]
    paused, done = await desk.run(GraphAgent("g", nodes, max_concurrency=1), "go")
    assert paused.status == "paused"
    assert done.text == "Bd"
    assert desk.asked == Counter(["B", "c", "d", "Bd"])


@pytest.mark.parametrize("lasts", [0.0, 1.0])
async def test_a_piece_that_waits_holds_up_its_own_reduction_alone(lasts: float) -> None:
    desk, reduced = Desk(), []

    async def join(results: list[str]) -> str:
        reduced.append("".join(results))
        return "".join(results)

    mapped = MapReduceAgent(
        "m", mapper=desk.agent("mapper", lasts=lasts), reducer=join, splitter=RecordSplitter(), fan_in=2
    )
    paused, done = await desk.run(mapped, "\n".join("abcdef"))
    assert paused.status == "paused"
    assert done.text == "aBcdef"
    assert desk.asked == Counter("aBcdef")
    assert sorted(reduced) == ["aB", "aBcd", "aBcdef", "cd", "ef"]


@pytest.mark.parametrize("dispatch", ["free", "round_robin"])
async def test_an_item_that_waits_lets_the_others_go_on(dispatch: Any) -> None:
    desk = Desk()
    pool = FanOutFanIn("f", [desk.agent("x", lasts=1), desk.agent("y", lasts=1)], dispatch=dispatch)
    paused, done = await desk.run(pool, "\n".join("abcdef"))
    assert paused.status == "paused"
    assert done.output["answer"] == list("aBcdef")
    assert set(desk.asked) == set("aBcdef")
    if dispatch != "free":  # who is free may be another the second time, and then does an item again, never a wrong one
        assert max(desk.asked.values()) == 1


async def test_what_was_spent_before_the_question_is_counted_once() -> None:
    async def pay(ctx: InvocationContext, text: str, tokens: int) -> None:
        await anyio.sleep(100)
        await ctx.emit(ctx.event(text, usage=Usage(input_tokens=tokens, model_calls=1)))

    async def turn(ctx: InvocationContext) -> None:
        await pay(ctx, "at first", 1)
        if ctx.branch == "panel.voter#2":
            await ctx.request_input("May I?")
        await pay(ctx, "at last", 10)

    panel = ScatterGatherAgent("panel", FunctionAgent("voter", turn), n=3)
    _, done = await Desk().run(panel, "go")
    result = ScatterGatherResult.of(done)
    assert [branch.tokens for branch in result.branches] == [11, 11, 11]
    assert [branch.seconds for branch in result.branches] == [200, 200, 200]
    assert (result.metrics.tokens, result.metrics.work_seconds, result.metrics.speedup) == (33, 200, 1)
    assert done.usage.total_tokens == 10  # of this run alone: what it was before was in that result
