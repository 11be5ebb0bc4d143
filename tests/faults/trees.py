"""Trees of mixed nesting for the fault tests. Agents are built once; what changes lives in the run."""

import operator

import anyio

from agentflow import Agent, Event, InvocationContext, LoopAgent, ParallelAgent, Retry, SequentialAgent
from tests.core.actors import escalates, fails, flaky, refuses, says, sleeps, writes, yields


class Editor(Agent):
    """Watches its child: shouts some events, drops some, adds its own, then lets another take a turn."""

    def __init__(self, name: str, child: Agent, after: Agent) -> None:
        super().__init__(name, sub_agents=[child, after])

    async def run(self, ctx: InvocationContext):
        child, after = self.sub_agents
        async with ctx.open(child) as events:
            async for event in events:
                if event.text == "drop":
                    continue
                if event.text == "change":
                    yield event.model_copy(update={"parts": Event(parts="changed").parts})
                else:
                    yield event
            yield ctx.text(f"edited {events.outcome.agent}")
        await ctx.run(after)


class Team(Agent):
    """Runs its children at once from a task group of its own, and speaks meanwhile."""

    async def run(self, ctx: InvocationContext) -> None:
        async with anyio.create_task_group() as tasks:
            for child in self.sub_agents:
                tasks.start_soon(ctx.run, child)
            await ctx.emit(ctx.text("all at work"))
        await ctx.emit(ctx.text("all done"))


class Cleaner(Agent):
    """Says a last word, shielded, when it is stopped."""

    async def run(self, ctx: InvocationContext) -> None:
        try:
            await ctx.emit(ctx.text("working"))
            await ctx.emit(ctx.text("still working"))
        finally:
            with anyio.move_on_after(60, shield=True):
                await ctx.emit(ctx.text("cleaned up"))


TREES: dict[str, Agent] = {
    "line": SequentialAgent(
        "line", [yields("a", "one", "two"), writes("b", x=1, user_y=[2], temp_z=3), Cleaner("c"), says("d")]
    ),
    "loop": LoopAgent(
        "loop",
        [
            LoopAgent("inner", [says("a", "one"), escalates("b", at=2)], max_iterations=3),
            escalates("c", "loop", at=2),
            says("never"),
        ],
        max_iterations=3,
    ),
    "nested": SequentialAgent(
        "nested",
        [
            ParallelAgent(
                "p1",
                [
                    SequentialAgent("s1", [yields("a", "one"), ParallelAgent("p2", [says("b", "x"), Cleaner("c")])]),
                    LoopAgent("l1", [yields("d", "two")], max_iterations=2),
                    writes("e", votes=1, user_v=2),
                ],
                on_conflict={"votes": operator.add},
            ),
            yields("f", "sum"),
        ],
    ),
    "queue": ParallelAgent(
        "queue",
        [says("a", "one"), yields("b", "two"), fails("c", "three"), sleeps("d", 5), says("e")],
        max_concurrency=2,
        on_error="collect",
        branch_timeout=3,
    ),
    "failing": SequentialAgent(
        "failing",
        [ParallelAgent("p", [flaky("a", 1), Cleaner("b"), yields("c", "x", "y")], retry=Retry(attempts=2, delay=1))],
        timeout=30,
    ),
    "race": SequentialAgent(
        "race",
        [
            ParallelAgent("first", [fails("a", "no"), says("b", "x", "y"), sleeps("c", 9)], stop_when="first_success"),
            ParallelAgent("quorum", [says("d", "x"), yields("e", "y"), sleeps("g", 9)], stop_when=2, on_error="ignore"),
            ParallelAgent("until", [says("h", "x"), Cleaner("i")], stop_when=lambda event: event.text == "x"),
        ],
    ),
    "editor": Editor(
        "editor",
        SequentialAgent(
            "s", [yields("a", "keep", "drop", "change"), ParallelAgent("p", [says("b", "x"), Cleaner("c")])]
        ),
        says("d", "after"),
    ),
    "team": Team("team", sub_agents=[yields("a", "one", "two"), says("b", "x"), Cleaner("c")]),
    "crowd": ParallelAgent(
        "crowd",
        [
            Team(
                "t",
                sub_agents=[
                    fails("a", "w"),
                    ParallelAgent("p", [says("b", "x"), sleeps("c", 5)]),
                    Cleaner("d"),
                    SequentialAgent("s", [refuses("e", "u")]),
                ],
            ),
            Team("v", sub_agents=[yields("f", "k"), writes("g", n=1)]),
        ],
        on_error="collect",
    ),
    "retries": LoopAgent(
        "retries",
        [
            ParallelAgent(
                "p", [flaky("a", 2, retry=Retry(attempts=3, delay=2)), sleeps("b", 1, timeout=20)], max_concurrency=1
            )
        ],
        max_iterations=2,
        timeout=60,
    ),
}
"""Each ends by itself, and well, when nothing is done to it."""
