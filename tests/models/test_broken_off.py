"""What an answer cost that never came, or that nobody stored: it is charged, it stands in the log, and once."""

from collections.abc import Callable

import anyio
import pytest

from agentflow import (
    Agent,
    AgentTimeout,
    Event,
    FallbackModel,
    InvocationContext,
    LlmAgent,
    ModelError,
    ModelResponse,
    ParallelAgent,
    Plugin,
    Price,
    Retry,
    Run,
    Runner,
    Usage,
    agent,
)
from agentflow.models.base import Model, ModelRequest, OnChunk
from agentflow.testing import FakeAnthropic, FunctionModel, says
from agentflow.timeline import runs

PRICE = Price(input=10, output=50)


async def stalls(number: int) -> None:
    if number > 3:
        await anyio.sleep_forever()


SLOW = says("one two three four", input_tokens=100, output_tokens=40, pace=stalls)


class Fails(Model):
    """Fails, and says what that cost."""

    name = provider = "failing"

    async def generate(self, request: ModelRequest, on_chunk: OnChunk | None = None) -> ModelResponse:
        raise ModelError("busy", kind="overloaded", usage=Usage(7, model_calls=1))


async def play(root: Agent, *, until: Callable[[Event], bool] = lambda event: False, **settings: object) -> Run:
    """Run `root`, cancel when `until` says so, and see that the log tells of all that the run was charged."""
    with anyio.fail_after(10):
        async with Runner(root, **settings) as runner:  # type: ignore[arg-type]
            async with runner.run("go", session_id="s") as run:
                try:
                    async for event in run:
                        if until(event):
                            run.cancel("enough")
                except Exception:  # the tests are about the bill
                    pass
            session = await runner.sessions.get(run.session)
    assert session is not None
    logged = sum((event.usage for event in session.events if event.usage is not None), Usage())
    assert (logged.total_tokens, logged.model_calls) == (run.usage.total_tokens, run.usage.model_calls)
    assert logged.cost == pytest.approx(run.usage.cost)
    [timeline] = runs(session.events)
    assert timeline.usage.total_tokens == logged.total_tokens
    return run


@pytest.mark.parametrize("stream", [True, False])
async def test_a_cancelled_answer_is_charged_as_far_as_its_provider_told(stream: bool) -> None:
    begun = anyio.Event()

    async def pace(number: int) -> None:
        if number > 3:
            begun.set()
            await anyio.sleep_forever()

    fake = FakeAnthropic(says("one two three four", input_tokens=100, pace=pace))
    writer = LlmAgent("writer", model=fake.model(price=PRICE), stream=stream)

    @agent(sub_agents=[writer])
    async def boss(ctx: InvocationContext) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ctx.run, writer)
            await begun.wait()
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        assert ctx.usage is not None
        assert ctx.usage.input_tokens == 100

    run = await play(boss)
    assert run.result.status == "ok"
    assert (run.usage.input_tokens, run.usage.model_calls) == (100, 1)
    assert run.usage.cost == pytest.approx(PRICE.of(run.usage))
    assert run.usage.cost >= 0.001
    assert fake.open_streams == 0


async def test_losers_of_a_race_are_charged_too() -> None:
    stuck, all_stuck = 0, anyio.Event()

    async def pace(number: int) -> None:
        nonlocal stuck
        if number > 3:
            stuck += 1
            if stuck == 3:
                all_stuck.set()
            await anyio.sleep_forever()

    async def lately(request: ModelRequest) -> str:
        await all_stuck.wait()
        return "late"

    fake = FakeAnthropic(says("one two three four", input_tokens=100, pace=pace), repeat=True)
    late = LlmAgent("late", model=FunctionModel(lately))
    losers = [LlmAgent(f"slow{n}", model=fake.model()) for n in range(3)]
    run = await play(ParallelAgent("race", [late, *losers], stop_when="first_success"))
    assert run.result.status == "ok"
    assert run.usage.model_calls == 4
    assert run.usage.input_tokens >= 300


async def test_a_paused_turn_that_is_cancelled_while_it_goes_on() -> None:
    fake = FakeAnthropic(says("half", stop_reason="pause_turn", input_tokens=30, output_tokens=5), SLOW)
    run = await play(LlmAgent("a", model=fake.model()), until=lambda event: "one" in event.text)
    assert (run.usage.input_tokens, run.usage.model_calls) == (130, 2)
    assert run.usage.output_tokens >= 5


async def test_what_failed_before_is_charged_with_it() -> None:
    fake = FakeAnthropic(SLOW)
    model = FallbackModel(Fails(), fake.model(price=PRICE))
    run = await play(LlmAgent("a", model=model), until=lambda event: event.partial)
    assert (run.usage.input_tokens, run.usage.model_calls) == (107, 2)
    assert run.usage.cost >= 0.001


async def test_a_wait_before_the_next_attempt_that_is_cancelled() -> None:
    class Waits(Fails):
        retry = Retry(delay=1000, max_delay=1000)

    run = await play(LlmAgent("a", model=Waits(), timeout=0.05))
    assert isinstance(run.result.error, AgentTimeout)
    assert (run.usage.input_tokens, run.usage.model_calls) == (7, 1)


async def test_who_fails_while_showing_a_piece_doesnt_hide_the_bill() -> None:
    class Breaks(Plugin):
        async def after_model(self, ctx: InvocationContext, response: ModelResponse) -> None:
            if response.text.strip().startswith("one"):
                raise RuntimeError("no")

    fake = FakeAnthropic(SLOW)
    run = await play(LlmAgent("a", model=fake.model()), plugins=[Breaks()])
    assert run.result.status == "error"
    assert run.usage.input_tokens == 100


@pytest.mark.parametrize("words", ["ok", "x" * 5000])
async def test_an_answer_that_came_and_cannot_be_stored_is_charged(words: str) -> None:
    def breaks(ctx: InvocationContext, response: ModelResponse) -> None:
        if len(words) < 10:
            raise RuntimeError("no")

    fake = FakeAnthropic(says(words, input_tokens=100, output_tokens=40))
    one = LlmAgent("a", model=fake.model(), stream=False, after_model=breaks)
    run = await play(one, max_event_bytes=3000)
    assert run.result.status == "error"
    assert run.usage.total_tokens == 140


async def test_an_answer_that_its_watcher_drops_is_charged_and_one_kept_for_later_once() -> None:
    fake = FakeAnthropic(says("no", input_tokens=100, output_tokens=1), repeat=True)
    writer = LlmAgent("writer", model=fake.model())

    @agent(sub_agents=[writer])
    async def picky(ctx: InvocationContext) -> None:
        async with ctx.open(writer) as events:
            kept = [event async for event in events if not event.partial]
        await ctx.emit(kept[-1])

    @agent(sub_agents=[LlmAgent("writer", model=fake.model())])
    async def deaf(ctx: InvocationContext) -> None:
        async with ctx.open(ctx.agent.sub_agents[0]) as events:
            async for _ in events:
                pass

    @agent(sub_agents=[LlmAgent("writer", model=fake.model())])
    async def passing(ctx: InvocationContext) -> None:
        async with ctx.open(ctx.agent.sub_agents[0]) as events:
            async for event in events:
                await ctx.emit(event.model_copy(update={"finish_reason": "other"}))

    for root in (picky, deaf, passing):
        run = await play(root)
        assert run.result.status == "ok", root.name
        assert (run.usage.total_tokens, run.usage.model_calls) == (101, 1), root.name


async def test_an_answer_that_is_stored_when_its_turn_is_cancelled_is_charged_once() -> None:
    class Copies(Plugin):
        async def on_event(self, ctx: InvocationContext, event: Event) -> Event:
            return event.model_copy()

    for plugins in ([], [Copies()]):
        fake = FakeAnthropic(says("whole", input_tokens=100, output_tokens=1))
        one = LlmAgent("a", model=fake.model())
        run = await play(one, until=lambda event: event.text == "whole" and not event.partial, plugins=plugins)
        assert run.usage.total_tokens == 101
