"""Trying again: what, how often, when, and what is kept of a failed attempt."""

import itertools
import operator

import anyio
import pytest

from agentflow import (
    Agent,
    AgentTimeout,
    ConfigError,
    InvalidEvent,
    InvocationContext,
    LoopAgent,
    ModelError,
    ParallelAgent,
    Retry,
    SequentialAgent,
    ServiceError,
    agent,
)
from tests.agents.test_timeouts import PLACES
from tests.core.actors import flaky, play, says, sleeps
from tests.faults.checks import log_problems

KINDS = {
    "function": lambda **options: flaky("t", 2, **options),
    "sequential": lambda **options: SequentialAgent("t", [says("one"), flaky("tricky", 2)], **options),
    "loop": lambda **options: LoopAgent("t", [flaky("tricky", 1)], max_iterations=2, **options),
    "parallel": lambda **options: ParallelAgent("t", [flaky("tricky", 2), sleeps("z", 1)], **options),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", PLACES)
async def test_a_retry_is_kept_on_every_agent_at_every_place(kind: str, place: str) -> None:
    root = PLACES[place](KINDS[kind](retry=Retry(attempts=3, delay=1)))
    played = await play(root)
    assert played.run.status == "ok"
    assert log_problems(played.session.events) == []
    starts = [e.lifecycle for e in played.events if e.author == "t" and e.lifecycle and "start" in e.lifecycle.name]
    starts = [start for start in starts if start.name != "scatter_start"]
    assert [start.attempt for start in starts[:3]] == [1, 2, 3]
    assert starts[0].error is None
    assert (starts[1].error.type, "failed" in starts[1].error.message) == ("ValueError", True)
    ends = [e.lifecycle for e in played.events if e.author == "t" and e.lifecycle and "_complete" in e.lifecycle.name]
    ends = [end for end in ends if end.name != "gather_complete"]
    assert (ends[0].outcome, ends[0].attempts) == ("ok", 3)


async def test_waits_grow_up_to_a_limit() -> None:
    times = []

    @agent(retry=Retry(attempts=6, delay=1, factor=3, max_delay=10))
    async def tries(ctx: InvocationContext) -> None:
        times.append(anyio.current_time())
        raise ValueError("again")

    with pytest.raises(ValueError, match="again"):
        await play(tries)
    waits = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert waits == pytest.approx([1, 3, 9, 10, 10])


def _busy(*waits: float | None) -> Exception:
    errors = [ModelError("busy", kind="rate_limit", retry_after=wait) for wait in waits]
    return errors[0] if len(errors) == 1 else ExceptionGroup("both", errors)


@pytest.mark.parametrize(
    ("error", "waits"),
    [(_busy(None), [1, 2]), (_busy(7), [7, 7]), (_busy(0), [0, 0]), (_busy(3, None, 8), [8, 8]), (_busy(11), [])],
    ids=["not said", "said", "none", "of a group", "too long"],
)
async def test_the_pause_that_a_provider_asks_for_is_obeyed(error: Exception, waits: list[float]) -> None:
    times = []

    @agent(retry=Retry(attempts=3, delay=1, max_delay=10))
    async def tries(ctx: InvocationContext) -> None:
        times.append(anyio.current_time())
        raise error

    with pytest.raises(type(error)):
        await play(tries)
    assert [later - earlier for earlier, later in itertools.pairwise(times)] == pytest.approx(waits)


async def test_jitter_is_the_same_for_the_same_seed() -> None:
    async def wait(seed: int) -> float:
        began = anyio.current_time()
        await play(flaky("a", 1, retry=Retry(attempts=2, delay=100, jitter=1)), seed=seed)
        return anyio.current_time() - began

    assert await wait(1) == pytest.approx(await wait(1))
    assert await wait(1) != pytest.approx(await wait(2))
    assert 0 < await wait(1) < 100


async def test_the_last_error_is_raised_when_all_attempts_failed() -> None:
    with pytest.raises(ValueError, match="a failed"):
        await play(flaky("a", 9, retry=3))


@pytest.mark.parametrize(
    ("error", "on", "attempts"),
    [
        (ValueError(), None, 3),
        (ServiceError("down"), None, 3),
        (InvalidEvent("no"), None, 1),
        (ConfigError("no"), None, 1),
        (ValueError(), (KeyError,), 1),
        (KeyError(), (KeyError,), 3),
        (ConfigError("no"), (ConfigError,), 3),
        (ValueError("x"), lambda error: str(error) == "x", 3),
        (ValueError("y"), lambda error: str(error) == "x", 1),
    ],
)
async def test_only_what_is_worth_it_is_tried_again(error: Exception, on, attempts: int) -> None:
    tried = []

    @agent(retry=Retry(attempts=3, delay=0, on=on))
    async def tries(ctx: InvocationContext) -> None:
        tried.append(1)
        raise error

    with pytest.raises(type(error)):
        await play(tries)
    assert len(tried) == attempts


async def test_a_child_s_timeout_is_worth_another_try_one_s_own_is_not() -> None:
    child = SequentialAgent("s", [sleeps("a", 50, timeout=1)], retry=Retry(attempts=3, delay=0))
    began = anyio.current_time()
    with pytest.raises(AgentTimeout):
        await play(child)
    assert anyio.current_time() - began == pytest.approx(3)
    began = anyio.current_time()
    with pytest.raises(AgentTimeout):
        await play(sleeps("a", 50, timeout=1, retry=Retry(attempts=3, delay=0)))
    assert anyio.current_time() - began == pytest.approx(1)


async def test_what_was_not_yet_published_is_dropped_what_was_stays() -> None:
    seen = []

    @agent(retry=Retry(attempts=2, delay=0))
    async def tries(ctx: InvocationContext) -> None:
        seen.append(dict(ctx.state))
        ctx.state["published"] = len(seen)
        await ctx.emit(ctx.text("x"))
        ctx.state["pending"] = len(seen)
        if len(seen) == 1:
            raise ValueError

    played = await play(tries)
    assert seen == [{}, {"published": 1}]
    assert played.session.state == {"published": 2, "pending": 2}


async def test_contributions_of_a_failed_attempt_do_not_count() -> None:
    tried = []

    @agent(retry=Retry(attempts=2, delay=0))
    async def votes(ctx: InvocationContext) -> None:
        tried.append(1)
        ctx.state["votes"] = 1
        await ctx.emit(ctx.text("x"))
        if len(tried) == 1:
            raise ValueError

    other = votes.clone(name="other", retry=None)
    played = await play(ParallelAgent("p", [votes, other], on_conflict={"votes": operator.add}))
    assert played.session.state == {"votes": 2}


def votes_twice(seconds: float) -> Agent:
    """Votes, takes so long, fails; and again, and goes well."""
    tried = []

    @agent(retry=Retry(attempts=2, delay=0))
    async def twice(ctx: InvocationContext) -> None:
        tried.append(1)
        ctx.state["votes"] = [f"try {len(tried)}"]
        await ctx.emit(ctx.text("x"))
        await anyio.sleep(seconds)
        if len(tried) % 2:
            raise ValueError

    return twice


@agent
async def votes_later(ctx: InvocationContext) -> None:
    await anyio.sleep(1)
    ctx.state["votes"] = ["later"]
    await ctx.emit(ctx.text("y"))


async def test_what_others_brought_meanwhile_counts_whatever_is_tried_again() -> None:
    inner = ParallelAgent("q", [votes_twice(2), votes_later.clone()])
    played = await play(ParallelAgent("p", [inner], on_conflict={"votes": operator.add}))
    assert played.session.state == {"votes": ["try 2", "later"]}


async def test_so_does_what_others_brought_on_the_same_branch() -> None:
    @agent(sub_agents=[votes_twice(3), votes_later.clone()])
    async def team(ctx: InvocationContext) -> None:
        first, second = ctx.agent.sub_agents
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ctx.run, first)
            await anyio.sleep(1)
            tasks.start_soon(ctx.run, second)
            ctx.state["votes"] = ["mine"]
            await ctx.emit(ctx.text("z"))

    line = SequentialAgent("s", [says("before", "x"), team])
    played = await play(ParallelAgent("p", [line], on_conflict={"votes": operator.add}))
    assert played.session.state == {"votes": ["mine", "later", "try 2"]}


async def test_what_earlier_iterations_brought_counts_too() -> None:
    loop = LoopAgent("l", [votes_twice(0)], max_iterations=2)
    played = await play(ParallelAgent("p", [loop], on_conflict={"votes": operator.add}))
    assert played.session.state == {"votes": ["try 2", "try 4"]}


async def test_the_outcome_is_of_the_last_attempt() -> None:
    tried = []

    class Boss(Agent):
        async def run(self, ctx: InvocationContext) -> None:
            outcome = await ctx.run(self.sub_agents[0])
            tried.append((outcome.status, outcome.text))

    @agent(retry=Retry(attempts=2, delay=0))
    async def tries(ctx: InvocationContext) -> None:
        tried.append(1)
        if len(tried) == 1:
            await ctx.emit(ctx.text("first"))
            raise ValueError

    await play(Boss("boss", sub_agents=[tries]))
    assert tried[-1] == ("ok", "")


async def test_a_cancelled_attempt_is_not_tried_again() -> None:
    tried = []

    @agent(retry=9)
    async def tries(ctx: InvocationContext) -> None:
        tried.append(1)
        await anyio.sleep_forever()

    await play(ParallelAgent("p", [tries, says("b", "x")], stop_when="first_success"))
    assert tried == [1]


@pytest.mark.parametrize("bad", [{"attempts": 0}, {"attempts": True}, {"delay": -1}, {"factor": 0.5}, {"jitter": 2}])
def test_a_retry_that_can_t_work_is_refused(bad) -> None:
    with pytest.raises(ConfigError):
        Retry(**bad)
    with pytest.raises(ConfigError):
        says("a", retry=0)
