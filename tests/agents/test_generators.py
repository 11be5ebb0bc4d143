"""Agents that are async generators: scopes around a `yield`, clean-up, and those that don't want to end."""

import logging

import anyio
import pytest
from opentelemetry import trace

from agentflow import Agent, InvocationContext, LoopAgent, ParallelAgent, Run, Runner, SequentialAgent, agent
from tests.core.actors import play, says, sleeps
from tests.faults.checks import Spans, install, log_problems


async def test_a_timeout_around_a_yield_is_raised_at_the_yield_of_a_slow_reader() -> None:
    seen = []

    @agent
    async def hurried(ctx: InvocationContext):
        try:
            with anyio.fail_after(5):
                yield ctx.text("one")
                yield ctx.text("never")
        except TimeoutError:
            seen.append("timeout")
        yield ctx.text("two")

    got = []
    async with Runner(hurried) as runner, runner.run("go") as run:
        async for event in run:
            got.append(event.text)
            if event.text == "one":
                await anyio.sleep(10)
    assert seen == ["timeout"]
    assert [text for text in got if text] == ["one", "two"]
    assert run.status == "ok"


async def test_a_timeout_around_a_yield_does_not_reach_the_reader() -> None:
    """The reader's own awaits are not cut short by a scope that an agent holds."""

    @agent
    async def hurried(ctx: InvocationContext):
        with anyio.move_on_after(1):
            yield ctx.text("one")
            yield ctx.text("two")

    slept = []
    async with Runner(hurried) as runner, runner.run("go") as run:
        async for event in run:
            if event.text == "one":
                await anyio.sleep(10)
                slept.append(True)
    assert slept == [True]
    assert run.result.text == "one"


async def test_a_timeout_around_a_yield_also_cuts_what_the_agent_awaits() -> None:
    @agent
    async def hurried(ctx: InvocationContext):
        with anyio.move_on_after(1) as scope:
            yield ctx.text("one")
            await anyio.sleep(10)
        yield ctx.text(f"cut: {scope.cancelled_caught}")

    assert (await play(hurried)).texts == ["one", "cut: True"]


@pytest.mark.parametrize("leave", [False, True])
async def test_a_task_group_around_a_yield_works_and_is_left_in_order(leave: bool) -> None:
    ended = []

    @agent
    async def busy(ctx: InvocationContext):
        async def work() -> None:
            try:
                await anyio.sleep(3)
            finally:
                ended.append("work")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(work)
            yield ctx.text("one")
            yield ctx.text("two")
        ended.append("agent")

    async with Runner(busy) as runner, runner.run("go") as run:
        async for event in run:
            if leave and event.text == "one":
                break
    assert ended == (["work"] if leave else ["work", "agent"])


async def test_a_failing_task_of_a_group_around_a_yield_ends_the_agent_and_not_the_reader() -> None:
    @agent
    async def busy(ctx: InvocationContext):
        async def work() -> None:
            await anyio.sleep(1)
            raise ValueError("work failed")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(work)
            yield ctx.text("one")
            yield ctx.text("never")

    slept = []

    async def read_slowly(run: Run) -> None:
        async with run:
            async for event in run:
                if event.text == "one":
                    await anyio.sleep(5)
                    slept.append(True)

    async with Runner(busy) as runner:
        with pytest.raises(ExceptionGroup) as caught:
            await read_slowly(runner.run("go"))
    assert str(caught.value.exceptions[0]) == "work failed"
    assert slept == [True]


async def test_a_span_around_a_yield_is_not_seen_by_the_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    spans = Spans()
    install(monkeypatch, spans)
    tracer = trace.get_tracer("test")

    @agent
    async def traced(ctx: InvocationContext):
        with tracer.start_as_current_span("mine"):
            yield ctx.text("one")
            yield ctx.text("two")

    current = set()
    async with Runner(traced) as runner, runner.run("go") as run:
        async for event in run:
            current.add(trace.get_current_span())
            if event.text == "one":
                break
    assert current == {trace.INVALID_SPAN}
    assert spans.problems() == []
    mine = next(span for span in spans.ended if span.name == "mine")
    assert mine.parent.span_id == next(s for s in spans.ended if s.name == "invoke_agent traced").context.span_id


async def test_what_stands_after_a_yield_does_not_run_when_the_reader_stops_there() -> None:
    ran = []

    @agent
    async def steps(ctx: InvocationContext):
        for step in range(3):
            yield ctx.text(str(step))
            ran.append(step)

    async with Runner(steps) as runner, runner.run("go") as run:
        async for event in run:
            if event.text == "1":
                break
    assert ran == [0]


async def test_a_generator_s_clean_up_may_await_and_speak() -> None:
    @agent
    async def tidy(ctx: InvocationContext):
        try:
            yield ctx.text("one")
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(1)
                yield ctx.text("tidied up")

    async with Runner(tidy) as runner:
        async with runner.run("go") as run:
            async for event in run:
                if event.text == "one":
                    break
        session = await runner.sessions.get(run.session)
    assert [event.text for event in session.events if event.text] == ["go", "one", "tidied up"]
    assert log_problems(session.events) == []
    assert run.status == "cancelled"


@pytest.mark.parametrize("swallowed", [1, 2, 3])
async def test_a_generator_that_swallows_some_cancellations_still_stops(swallowed: int) -> None:
    @agent
    async def stubborn(ctx: InvocationContext):
        for _ in range(swallowed):
            try:
                yield ctx.text("still here")
                await anyio.sleep_forever()
            except BaseException:
                pass
        yield ctx.text("leaving")
        await anyio.sleep_forever()

    async with Runner(stubborn) as runner:
        with anyio.fail_after(4):
            async with runner.run("go") as run:
                async for event in run:
                    if event.text:
                        break
    assert run.status == "cancelled"


@pytest.mark.parametrize("how", ["alone", "in a branch"])
async def test_a_generator_that_never_gives_up_is_closed_and_reported(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    over: list[bool] = []

    @agent
    async def stubborn(ctx: InvocationContext):
        while True:
            try:
                yield ctx.text("still here")
            except BaseException:
                if over:
                    raise

    root = stubborn if how == "alone" else ParallelAgent("p", [stubborn, says("a", "x")])
    async with Runner(root) as runner:
        with anyio.fail_after(4):
            async with runner.run("go") as run:
                async for event in run:
                    if event.author == "stubborn" and event.text:  # it has begun, whoever was first
                        break
        session = await runner.sessions.get(run.session)
    assert run.status == "cancelled"
    assert log_problems(session.events) == []
    assert "stubborn" in caplog.text
    over.append(True)  # else Python complains of it too, when it is collected
    assert all(record.levelno == logging.ERROR for record in caplog.records)


async def test_a_coroutine_that_swallows_its_cancellation_is_cancelled_again() -> None:
    @agent
    async def stubborn(ctx: InvocationContext) -> None:
        for _ in range(3):
            try:
                await ctx.emit(ctx.text("x"))
                await anyio.sleep(100)
            except BaseException:
                pass

    began = anyio.current_time()
    async with Runner(SequentialAgent("s", [stubborn, says("after", "no")])) as runner:
        async with runner.run("go") as run:
            async for event in run:
                if event.text:
                    break
        session = await runner.sessions.get(run.session)
    assert anyio.current_time() == began
    assert "no" not in [event.text for event in session.events]
    assert log_problems(session.events) == []


async def test_an_error_thrown_in_at_a_yield_can_be_caught_there() -> None:
    @agent
    async def careful(ctx: InvocationContext):
        try:
            yield "no event"
        except Exception as error:
            yield ctx.text(type(error).__name__)

    assert (await play(careful)).texts == ["InvalidEvent"]


async def test_a_generator_may_hold_a_watched_child_across_a_yield() -> None:
    inner = sleeps("inner", 5)

    @agent(sub_agents=[inner])
    async def outer(ctx: InvocationContext):
        async with ctx.open(inner) as events:
            async for event in events:
                yield event
        yield ctx.text("done")

    assert (await play(outer)).texts == ["good night", "good morning", "done"]
    async with Runner(outer) as runner, runner.run("go") as run:
        async for event in run:
            if event.text:
                break
    assert run.status == "cancelled"


async def test_a_generator_in_a_loop_is_a_new_one_each_time() -> None:
    @agent
    async def counts(ctx: InvocationContext):
        yield ctx.text(f"{ctx.iteration}")

    assert (await play(LoopAgent("l", [counts], max_iterations=3))).texts == ["1", "2", "3"]


async def test_any_async_iterator_will_do() -> None:
    class Once:
        def __init__(self, ctx: InvocationContext) -> None:
            self.left = [ctx.text("one"), ctx.text("two")]

        def __aiter__(self) -> "Once":
            return self

        async def __anext__(self):
            if not self.left:
                raise StopAsyncIteration
            return self.left.pop(0)

    class Custom(Agent):
        def run(self, ctx: InvocationContext) -> Once:
            return Once(ctx)

    assert (await play(Custom("a"))).texts == ["one", "two"]
