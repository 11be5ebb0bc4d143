"""A timeout on any agent, at any place of a tree. Waits for the reader don't count."""

import anyio
import pytest

from agentflow import (
    Agent,
    AgentTimeout,
    ConfigError,
    InvocationContext,
    Limits,
    LoopAgent,
    ParallelAgent,
    Retry,
    Runner,
    SequentialAgent,
    agent,
)
from tests.core.actors import play, read, says, sleeps
from tests.faults.checks import log_problems


class Forwards(Agent):
    """Watches its child and passes on what it says."""

    async def run(self, ctx: InvocationContext) -> None:
        async with ctx.open(self.sub_agents[0]) as events:
            async for event in events:
                await ctx.emit(event)


class Runs(Agent):
    """Lets its child take a turn."""

    async def run(self, ctx: InvocationContext) -> None:
        await ctx.run(self.sub_agents[0])


PLACES = {
    "root": lambda child: child,
    "sequential": lambda child: SequentialAgent("s", [says("x"), child]),
    "loop": lambda child: LoopAgent("l", [child], max_iterations=2),
    "parallel": lambda child: ParallelAgent("p", [child, says("x")]),
    "parallel in loop in sequential": lambda child: SequentialAgent(
        "s", [LoopAgent("l", [ParallelAgent("p", [child])], max_iterations=2)]
    ),
    "ctx.run": lambda child: Runs("r", sub_agents=[child]),
    "ctx.open": lambda child: Forwards("f", sub_agents=[child]),
}

KINDS = {
    "function": lambda **options: sleeps("t", 50, **options),
    "sequential": lambda **options: SequentialAgent("t", [sleeps("a", 50)], **options),
    "loop": lambda **options: LoopAgent("t", [sleeps("a", 3)], max_iterations=50, **options),
    "parallel": lambda **options: ParallelAgent("t", [sleeps("a", 50), sleeps("b", 1)], **options),
    "custom": lambda **options: Forwards("t", sub_agents=[sleeps("a", 50)], **options),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", PLACES)
async def test_a_timeout_is_kept_on_every_agent_at_every_place(kind: str, place: str) -> None:
    root = PLACES[place](KINDS[kind](timeout=10))
    began = anyio.current_time()
    events: list = []
    async with Runner(root) as runner:
        run = runner.run("go")
        with pytest.raises(AgentTimeout) as caught:
            await read(run, events)
        session = await runner.sessions.get(run.session)
    assert anyio.current_time() - began == pytest.approx(10)
    assert caught.value.seconds == 10
    assert caught.value.agent.endswith("t")
    assert caught.value.invocation_id == run.id
    assert isinstance(caught.value, TimeoutError)
    ends = {e.author: e.lifecycle.outcome for e in session.events if e.lifecycle and "complete" in e.lifecycle.name
            and e.lifecycle.name != "gather_complete"}  # fmt: skip
    assert ends["t"] == "timeout"
    assert set(ends.values()) <= {"timeout", "cancelled", "error", "ok"}
    assert log_problems(session.events) == []


@pytest.mark.parametrize("place", PLACES)
async def test_waits_for_the_reader_do_not_count(place: str) -> None:
    talker = SequentialAgent("q", [says("a", "one", "two"), *[says(f"quiet{n}") for n in range(5)]], timeout=5)
    root = SequentialAgent("outer", [PLACES[place](talker)], timeout=8)
    async with Runner(root) as runner, runner.run("go") as run:
        async for _ in run:
            await anyio.sleep(20)
    assert run.status == "ok"


async def test_work_counts_also_when_the_reader_is_slow() -> None:
    @agent(timeout=5)
    async def works(ctx: InvocationContext) -> None:
        for number in range(5):
            await ctx.emit(ctx.text(str(number)))
            await anyio.sleep(2)

    got = []
    async with Runner(works) as runner:
        run = runner.run("go")

        async def read_slowly() -> None:
            async with run:
                async for event in run:
                    got.append(event.text)
                    await anyio.sleep(20)

        with pytest.raises(AgentTimeout):
            await read_slowly()
    assert [text for text in got if text] == ["0", "1", "2"]


async def test_the_shortest_deadline_above_decides_and_is_inherited() -> None:
    left = []

    @agent(timeout=100)
    async def curious(ctx: InvocationContext) -> None:
        left.append((ctx.remaining, ctx.deadline - anyio.current_time()))
        await anyio.sleep(500)

    root = SequentialAgent("s", [LoopAgent("l", [curious], max_iterations=1, timeout=20)], timeout=60)
    with pytest.raises(AgentTimeout) as caught:
        await play(root, limits=Limits(seconds=80))
    assert caught.value.agent == "s.l"
    assert left == [(20, 20)]


async def test_a_timeout_s_error_can_be_handled_by_who_runs_the_agent() -> None:
    class Patient(Agent):
        async def run(self, ctx: InvocationContext) -> None:
            try:
                await ctx.run(self.sub_agents[0])
            except AgentTimeout as error:
                await ctx.emit(ctx.text(f"{error.agent} took too long"))

    played = await play(Patient("boss", sub_agents=[sleeps("a", 50, timeout=1)]))
    assert played.texts == ["good night", "boss.a took too long"]
    assert played.run.status == "ok"


async def test_a_timeout_covers_all_attempts_and_the_waits_between_them() -> None:
    @agent(timeout=10, retry=Retry(attempts=50, delay=3, factor=1))
    async def tries(ctx: InvocationContext) -> None:
        raise ValueError

    began = anyio.current_time()
    with pytest.raises(AgentTimeout):
        await play(tries)
    assert anyio.current_time() - began == pytest.approx(10)


@pytest.mark.parametrize(
    ("text", "seconds"), [("5m", 300), ("90s", 90), ("1.5h", 5400), ("200ms", 0.2), (7, 7), ("3", 3)]
)
def test_durations_may_be_written_out(text, seconds: float) -> None:
    assert says("a", timeout=text).timeout == seconds


@pytest.mark.parametrize("bad", [0, -1, "soon", float("inf"), float("nan"), True, "1 2"])
def test_durations_that_are_none_are_refused(bad) -> None:
    with pytest.raises(ConfigError, match="timeout"):
        says("a", timeout=bad)
