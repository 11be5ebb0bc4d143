"""Whole runs on the real SDK: what fails ends typed or recovers, the next turn is valid, what was bought is stored."""

from itertools import pairwise
from typing import Any

import anyio
import pytest

from agentflow import (
    ConcurrencyLimiter,
    Event,
    LimitExceeded,
    Limits,
    LlmAgent,
    LoopAgent,
    ModelError,
    ModelSettings,
    ParallelAgent,
    Price,
    Retry,
    Runner,
    Thinking,
    ToolCall,
    Usage,
)
from agentflow.testing import FakeAnthropic, Reply, fails, says

CALLING = says(
    Thinking("let me", "sig"), "One moment.", ToolCall("toolu_1", "clock", {"zone": "UTC"}),
    ToolCall("toolu_2", "clock", {"zone": "CET"}),
)  # fmt: skip
ANSWER = says("It is noon.")
FAILURES = ("drop", "eof", "garbage", "error", "stall")
PRICE = Price(input=10, output=50)


def clock(zone: str) -> str:
    """The time."""
    return f"noon in {zone}"


def agent(fake: FakeAnthropic, **fields: Any) -> LlmAgent:
    model = fake.model(settings=ModelSettings(timeout=0.02), retry=Retry(attempts=2, delay=0), price=PRICE)
    return LlmAgent("clock_keeper", model=model, tools=[clock], **fields)


async def stored(runner: Runner, run: Any) -> list[Event]:
    session = await runner.sessions.get(run.session)
    assert session is not None
    return list(session.events)


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("failure", FAILURES)
async def test_each_failure_at_each_place_leaves_a_session_that_goes_on(failure: Any, step: int) -> None:
    broken: Reply = CALLING if step == 1 else ANSWER
    for after in range(len(broken.events) + 1):
        whole = [CALLING, ANSWER]
        whole[step - 1 : step] = [broken.breaking(failure, after), broken]
        fake = FakeAnthropic(*whole, "And so on.", repeat=True)
        ended: ModelError | None = None
        with anyio.fail_after(10):
            async with Runner(agent(fake)) as runner:
                try:
                    async with runner.run("time?", session_id="s") as run:
                        result = await run.wait()
                    assert result.text == "It is noon."
                except ModelError as error:
                    ended = error
                assert ended is None or (ended.shown and ended.agent == "clock_keeper")
                paid = [event.usage for event in await stored(runner, run) if event.usage is not None]
                assert run.usage == sum(paid[1:], paid[0]) if paid else run.usage == Usage()
                begun = sum(1 for request in fake.requests) - (after == 0)
                assert run.usage.model_calls == begun - (1 if ended and after == 0 else 0), "each that began is stored"
                fake.count, fake.script = 0, ("And so on.",)
                async with runner.run("and now?", session_id="s") as again:
                    assert (await again.wait()).text == "And so on.", "the API took the history as it is"
        assert fake.open_streams == 0


@pytest.mark.parametrize("after", range(0, len(CALLING.events), 2))
async def test_a_run_that_is_cancelled_leaves_a_session_that_goes_on(after: int) -> None:
    cancel: list[Any] = []

    async def at(number: int) -> None:
        if number == after and cancel:
            cancel.pop()("enough")
            await anyio.lowlevel.checkpoint()

    paced = says(Thinking("x", "sig"), "a b", ToolCall("toolu_1", "clock", {"zone": "UTC"}), pace=at)
    fake = FakeAnthropic(paced, ANSWER, "And so on.", repeat=True)
    with anyio.fail_after(10):
        async with Runner(agent(fake)) as runner:
            async with runner.run("time?", session_id="s") as run:
                cancel.append(run.cancel)
                async for _ in run:
                    pass
            fake.count, fake.script = 0, ("And so on.",)
            async with runner.run("and now?", session_id="s") as again:
                assert (await again.wait()).text == "And so on."
    assert fake.open_streams == 0


async def test_a_tool_call_whose_run_was_cancelled_is_told_so() -> None:
    working = anyio.Event()

    async def slow() -> str:
        """Takes long."""
        working.set()
        await anyio.sleep_forever()
        return ""

    fake = FakeAnthropic(says(ToolCall("toolu_1", "slow", {})), "Never mind.")
    keeper = LlmAgent("keeper", model=fake.model(), tools=[slow])
    with anyio.fail_after(10):
        async with Runner(keeper) as runner:
            async with runner.run("go", session_id="s", lookahead=50) as run:
                await working.wait()
                run.cancel("enough")
            async with runner.run("and?", session_id="s") as again:
                assert (await again.wait()).text == "Never mind."
    talk = fake.requests[1].body["messages"]
    assert [message["role"] for message in talk] == ["user", "assistant", "user"]
    assert talk[2]["content"][0]["is_error"] is True


@pytest.mark.parametrize(
    ("limits", "limit"),
    [(Limits(cost=0.02), "cost"), (Limits(tokens=1000), "tokens"), (Limits(model_calls=3), "model_calls")],
)
async def test_a_limit_stops_a_run_and_says_what_was_spent(limits: Limits, limit: str) -> None:
    fake = FakeAnthropic(says("again", input_tokens=300, output_tokens=50), repeat=True)
    writer = LlmAgent("writer", model=fake.model(price=PRICE))
    async with Runner(LoopAgent("loop", [writer], max_iterations=100), limits=limits) as runner:
        with pytest.raises(LimitExceeded) as caught:
            async with runner.run("go") as run:
                await run.wait()
    spent = caught.value.spent
    assert caught.value.limit == limit
    assert spent["model_calls"] == len(fake.requests)
    assert spent["tokens"] == 350 * len(fake.requests)
    assert spent["cost"] == pytest.approx((300 * 10 + 50 * 50) / 1e6 * len(fake.requests))
    assert len(fake.requests) <= 4


async def test_what_it_cost_is_told_by_agent_branch_and_run() -> None:
    fake = FakeAnthropic(says("ok", input_tokens=100, output_tokens=10), repeat=True)
    dear = LlmAgent("dear", model=fake.model(price=Price(input=100, output=100)))
    cheap = LlmAgent("cheap", model=fake.model(price=Price(input=1, output=1)))
    async with Runner(ParallelAgent("views", [dear, cheap])) as runner, runner.run("go") as run:
        events = [event async for event in run]
    costs = {event.branch: event.usage.cost for event in events if event.usage is not None}
    assert costs == {"views.dear": pytest.approx(0.011), "views.cheap": pytest.approx(0.00011)}
    assert run.usage.cost == pytest.approx(0.01111)
    assert (run.usage.input_tokens, run.usage.output_tokens, run.usage.model_calls) == (200, 20, 2)


async def test_a_limiter_holds_branches_back_and_their_events_say_how_long() -> None:
    at_once = most = 0

    async def count(number: int) -> None:
        nonlocal at_once, most
        at_once += number == 0
        most = max(most, at_once)
        at_once -= number == len(ANSWER.events) - 1
        await anyio.lowlevel.checkpoint()

    fake = FakeAnthropic(says("It is noon.", pace=count), repeat=True)
    limiter = ConcurrencyLimiter(2)
    views = [LlmAgent(f"view{n}", model=fake.model(limiter=limiter)) for n in range(6)]
    async with Runner(ParallelAgent("views", views)) as runner, runner.run("go", lookahead=50) as run:
        events = [event async for event in run]
    assert most == 2
    waits = [event.usage.extra for event in events if event.usage is not None]
    assert sum(1 for extra in waits if extra and "queueMs" in extra) >= 1
    assert all(extra is None or set(extra) == {"queueMs"} for extra in waits)


async def test_parallel_agents_share_what_the_provider_says_about_its_load() -> None:
    """Twelve branches, a provider that takes three at once: all get through, and few are refused twice."""
    at_once = refused = 0

    def answer(body: dict[str, Any]) -> Reply:
        nonlocal at_once, refused
        if at_once >= 3:
            refused += 1
            return fails(429, retry_after=0.01)
        at_once += 1
        return says("ok", pace=leave)

    async def leave(number: int) -> None:
        nonlocal at_once
        await anyio.lowlevel.checkpoint()
        at_once -= number == 6

    fake = FakeAnthropic(*[answer] * 200)
    model = fake.model(limiter=ConcurrencyLimiter(12), retry=Retry(attempts=10, delay=0.01))
    views = [LlmAgent(f"view{n}", model=model) for n in range(12)]
    with anyio.fail_after(20):
        async with Runner(ParallelAgent("views", views)) as runner, runner.run("go", lookahead=50) as run:
            result = await run.wait()
    assert result.output == ["ok"] * 12
    assert refused < 40


async def test_pieces_of_an_answer_have_the_id_of_the_whole() -> None:
    fake = FakeAnthropic(CALLING, ANSWER)
    async with Runner(agent(fake)) as runner, runner.run("time?") as run:
        events = [event async for event in run if event.response_id is not None]
    for piece, after in pairwise(events):
        if piece.partial:
            assert after.response_id == piece.response_id
    assert [event.response_id for event in events if not event.partial] == ["msg_1", "msg_2"]
