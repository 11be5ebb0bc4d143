"""Whatever the tree, and in whatever order its questions are answered: what is stored in the end is the same."""

import operator
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import anyio
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from agentflow import (
    Actions,
    Agent,
    AgentTool,
    Event,
    FunctionAgent,
    InMemorySessionService,
    InvocationContext,
    LoopAgent,
    ParallelAgent,
    Runner,
    SequentialAgent,
    SessionKey,
)
from tests.tools.callers import caller


@dataclass(frozen=True)
class Shape:
    """A tree: what it is, and what is in it."""

    kind: str
    inside: tuple["Shape", ...] = ()
    n: int = 1


leaves = st.builds(Shape, st.sampled_from(["say", "ask", "vote", "escalate", "tool"]), n=st.integers(1, 2))
shapes = st.recursive(
    leaves,
    lambda inner: st.builds(
        Shape,
        st.sampled_from(["seq", "par", "loop", "custom", "team", "watch", "agent_tool"]),
        st.lists(inner, min_size=1, max_size=3).map(tuple),
        st.integers(1, 3),
    ),
    max_leaves=8,
)


def is_fair(shape: Shape) -> bool:
    """In a team a question stops the others in the middle of what they do, and they may race for a key."""
    return not (is_in("team", shape) and any(is_in(kind, shape) for kind in ("watch", "tool", "agent_tool", "vote")))


def is_in(kind: str, shape: Shape) -> bool:
    return shape.kind == kind or any(is_in(kind, inner) for inner in shape.inside)


def build(shape: Shape, names: Iterator[str], asking: bool) -> Agent:
    """The tree; where it isn't `asking`, every question is answered at once."""
    name = next(names)

    async def ask(ctx: InvocationContext, question: str) -> str:
        return str(await ctx.request_input(question)) if asking else f"{question}!"

    async def turn(ctx: InvocationContext) -> None:
        await ctx.emit(ctx.text(f"{name} begins"))
        ctx.state[f"n {ctx.path}"] = ctx.state.get(f"n {ctx.path}", 0) + 1
        for number in range(shape.n):
            if shape.kind == "ask":
                where = f"{ctx.path}@{ctx.branch}@{ctx.iteration}@{number}"
                await ctx.emit(ctx.text(f"{name} heard {await ask(ctx, where)}"))
            elif shape.kind == "vote":
                ctx.state["votes"] = [name]
        if shape.kind == "escalate":
            await ctx.emit(ctx.event("enough", actions=Actions(escalate=True)))

    children = [build(child, names, asking) for child in shape.inside]

    async def custom(ctx: InvocationContext) -> None:
        for child in children:
            await ctx.run(child)
            await ctx.emit(ctx.text(f"{name} ran {child.name}"))

    async def team(ctx: InvocationContext) -> None:
        async with anyio.create_task_group() as tasks:
            for child in children:
                tasks.start_soon(ctx.run, child)
        await ctx.emit(ctx.text(f"{name} ran all"))

    async def watch(ctx: InvocationContext) -> None:
        for child in children:
            async with ctx.open(child) as events:
                async for event in events:
                    if event.text:
                        await ctx.emit(ctx.text(f"{name} saw {event.text}"))
                    await ctx.emit(event)

    async def consult(ctx: InvocationContext) -> str:
        return await ask(ctx, f"{ctx.path}@{ctx.branch}@{ctx.iteration}")

    if shape.kind == "seq":
        return SequentialAgent(name, children)
    if shape.kind == "par":
        return ParallelAgent(name, children, on_conflict={"votes": operator.add})
    if shape.kind == "loop":
        return LoopAgent(name, children, max_iterations=shape.n)
    if shape.kind in ("custom", "team", "watch"):
        turn = {"custom": custom, "team": team, "watch": watch}[shape.kind]
        return FunctionAgent(name, turn, sub_agents=children)
    if shape.kind == "agent_tool":
        calls = [(child.name, {"request": "x"}) for child in children]
        turns = [[call] for call in calls] if is_in("vote", shape) else [calls]  # at once, two would race for one key
        return caller(name, [AgentTool(child) for child in children], *turns)
    if shape.kind == "tool":
        return caller(name, [consult], [("consult", {})] * shape.n)
    return FunctionAgent(name, turn)


def counted() -> Iterator[str]:
    n = 0
    while True:
        n += 1
        yield f"a{n}"


def story(events: list[Event]) -> dict[tuple[str, str], list[str]]:
    """What was said by each agent on each branch, in order; of tool calls, the last answer."""
    said: dict[tuple[str, str], list[str]] = defaultdict(list)
    answers: dict[tuple[str, str, str], int] = {}
    for event in events:
        key = (event.path, event.branch)
        for part in event.parts if event.author != "user" else ():
            if part.kind == "text":
                said[key].append(f"{event.iteration}: {part.text}")
            elif part.kind == "tool_result":
                place = (*key, f"{part.id}-{event.iteration}")
                if place in answers:
                    said[key][answers[place]] = str(part.result)
                else:
                    answers[place] = len(said[key])
                    said[key].append(str(part.result))
    return dict(said)


def by_agent(told: dict[tuple[str, str], list[str]]) -> dict[str, list[str]]:
    """A story without its branches and its order."""
    said: dict[str, list[str]] = defaultdict(list)
    for (path, _), words in told.items():
        said[path] = sorted(said[path] + [re.sub("@[^@]*@", "@@", word) for word in words])
    return said


Choose = Callable[[list[str]], set[str]]
"""Which of these questions are answered next."""


async def play(root: Agent, choose: Choose | None = None) -> tuple[dict[tuple[str, str], list[str]], dict, list[str]]:
    store = InMemorySessionService()
    answers: dict[str, str] = {}
    message: str | None = "go"
    for _ in range(200):
        runner = Runner(root, sessions=store)
        async with runner, runner.run(message, session_id="s", answers=answers) as run:
            result = await run.wait()
        if result.status != "paused":
            break
        assert choose is not None
        assert result.pending
        ids = {question.id: question.message for question in result.pending}
        chosen = choose(sorted(ids, key=ids.__getitem__))
        answers, message = {id: f"{ids[id]}!" for id in chosen}, None
    else:
        raise AssertionError("it never ends")
    session = await store.get(SessionKey(root.name, "user", "s"))
    assert session is not None
    assert [event.serial for event in session.events] == list(range(1, len(session.events) + 1))
    assert len({event.id for event in session.events}) == len(session.events)
    names = [event.lifecycle.name for event in session.events if event.lifecycle]
    assert names.count("scatter_start") == names.count("gather_complete")
    asked = [
        part.id for event in session.events for part in event.parts if part.kind == "tool_call" and "adk" in part.name
    ]
    assert len(asked) == len(set(asked))
    return story(session.events), session.state, [result.text]


async def check(shape: Shape, choose: Choose) -> None:
    """However it is asked and answered, it ends as where nobody had to wait."""
    with anyio.fail_after(60):
        straight = await play(build(shape, counted(), asking=False))
        paused = await play(build(shape, counted(), asking=True), choose)
    if is_in("team", shape) or is_in("watch", shape):  # tasks of one's own: any order, and any numbers of branches
        assert by_agent(paused[0]) == by_agent(straight[0])
    else:
        assert paused[0] == straight[0]
    for state in (paused[1], straight[1]):  # parallel branches vote in any order
        state["votes"] = sorted(state.get("votes", []))
    assert paused[1] == straight[1]
    assert paused[2] == straight[2]


async def test_a_caller_that_paused_in_a_loop_makes_all_its_calls_in_each_iteration() -> None:
    await check(Shape("loop", (Shape("agent_tool", (Shape("ask"), Shape("vote"))),), 2), set)


@pytest.mark.parametrize(
    "turns",
    [
        (Shape("agent_tool", (Shape("par", (Shape("vote"),)), Shape("ask"))),),
        (Shape("agent_tool", (Shape("vote"),)), Shape("vote"), Shape("ask")),
        (Shape("par", (Shape("vote"), Shape("vote"))), Shape("vote"), Shape("ask")),
    ],
    ids=["a tool's group", "a tool and the line", "a group and the line"],
)
async def test_votes_from_before_a_pause_count_once_each(turns: tuple[Shape, ...]) -> None:
    await check(Shape("par", (Shape("seq", turns),)), set)


async def test_a_vote_of_an_attempt_that_failed_before_a_pause_doesnt_count() -> None:
    tries: list[str] = []

    async def turn(ctx: InvocationContext) -> None:
        tries.append("failed" if not tries else "went well")
        ctx.state["votes"] = tries[-1:]
        await ctx.emit(ctx.text("voted"))
        if len(tries) == 1:
            raise OSError("once")
        await ctx.request_input("sure?")

    voters = ParallelAgent("voters", [FunctionAgent("voter", turn, retry=2)], on_conflict={"votes": operator.add})
    _, state, _ = await play(voters, set)
    assert state["votes"] == ["went well"]


@settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=60)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@given(shape=shapes.filter(is_fair), data=st.data())
def test_pauses_change_nothing_in_the_end(backend: str, shape: Shape, data: st.DataObject) -> None:
    async def both() -> None:
        await check(shape, lambda ids: data.draw(st.sets(st.sampled_from(ids), min_size=1)))

    anyio.run(both, backend=backend)
