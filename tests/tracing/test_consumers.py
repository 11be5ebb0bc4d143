"""The consumer's spans and the agents' never mix, however a run is left."""

import gc
from contextlib import AsyncExitStack

import anyio
import pytest
from opentelemetry import trace

from agentflow import FunctionAgent, InvocationContext, ParallelAgent, Plugin, Runner, SequentialAgent
from tests.tracing.agents import run_of, sleeper, speaker
from tests.tracing.spans import Traced


async def test_the_span_that_a_run_is_entered_in_is_its_parent(traced: Traced) -> None:
    runner = Runner(ParallelAgent("group", [speaker("a"), speaker("b")]), app_name="app")
    with anyio.fail_after(5), traced.tracer.start_as_current_span("program"):
        async with runner:
            with traced.tracer.start_as_current_span("POST /chat"):
                async with runner.run("go") as run:
                    async for _ in run:
                        pass
            with traced.tracer.start_as_current_span("POST /again"):
                run = runner.run("go")
            async with run:
                await run.wait()
    traced.shows("""
        program
          POST /chat
            run app: ok
              invoke_workflow group: ok
                invoke_agent a: ok
                invoke_agent b: ok
          POST /again
          run app: ok
            invoke_workflow group: ok
              invoke_agent a: ok
              invoke_agent b: ok
    """)


async def test_what_the_consumer_opens_between_events_is_never_adopted(traced: Traced) -> None:
    root = SequentialAgent(
        "root", [ParallelAgent("group", [speaker("a"), speaker("b")], max_concurrency=1), speaker("c")]
    )
    with anyio.fail_after(5), traced.tracer.start_as_current_span("request") as request:
        async with Runner(root, app_name="app") as runner, runner.run("go") as run:
            async with AsyncExitStack() as held:
                async for event in run:
                    span = held.enter_context(traced.tracer.start_as_current_span("held"))
                    with traced.tracer.start_as_current_span("draw"):
                        pass
                    assert trace.get_current_span() is span, event
                await held.aclose()
            assert trace.get_current_span() is request
    text = [line for line in traced.lines() if "held" not in line and "draw" not in line]
    assert text == [
        "request",
        "  run app: ok",
        "    invoke_workflow root: ok",
        "      invoke_workflow group: ok",
        "        invoke_agent a: ok",
        "        invoke_agent b: ok",
        "        queue b",
        "      invoke_agent c: ok, after a b",
    ]


async def test_no_span_of_the_run_is_ever_current_in_the_consumer(traced: Traced) -> None:
    """Nor in what it does while a run is on in lock-step, is left or has ended."""
    root = SequentialAgent("root", [speaker("a"), ParallelAgent("group", [speaker("b"), speaker("c")])])
    with anyio.fail_after(5):
        async with Runner(root) as runner:
            async with runner.run("go") as run:
                assert not trace.get_current_span().get_span_context().is_valid
                async for _ in run:
                    assert not trace.get_current_span().get_span_context().is_valid
            assert not trace.get_current_span().get_span_context().is_valid
        assert not trace.get_current_span().get_span_context().is_valid


async def test_a_consumer_that_breaks_cancels_all_and_ends_every_span(traced: Traced) -> None:
    awake = anyio.Event()
    group = ParallelAgent("group", [speaker("a"), SequentialAgent("line", [sleeper("b", awake)])])
    with anyio.fail_after(5), traced.tracer.start_as_current_span("request"):
        async with Runner(SequentialAgent("root", [group]), app_name="app") as runner, runner.run("go") as run:
            await awake.wait()
            async for event in run:
                if event.author == "a" and event.text:
                    break
        with traced.tracer.start_as_current_span("later"):
            pass
    traced.shows("""
        request
          run app: cancelled, because its consumer left
            invoke_workflow root: cancelled, because its consumer left
              invoke_workflow group: cancelled, because its consumer left
                invoke_agent a: cancelled, because its consumer left
                invoke_workflow line: cancelled, because its consumer left
                  invoke_agent b: cancelled, because its consumer left
          later
    """)


async def test_a_consumer_that_raises_is_no_error_of_the_run(traced: Traced) -> None:
    async def consume() -> None:
        root = SequentialAgent("root", [speaker("a")])
        with traced.tracer.start_as_current_span("request"):
            async with Runner(root, app_name="app") as runner, runner.run("go") as run:
                async for event in run:
                    if event.text:
                        raise ZeroDivisionError

    with anyio.fail_after(5), pytest.raises(ZeroDivisionError):
        await consume()
    traced.shows("""
        request: status ERROR, recorded ZeroDivisionError
          run app: cancelled, because its consumer left
            invoke_workflow root: cancelled, because its consumer left
              invoke_agent a: cancelled, because its consumer left
    """)


async def test_a_handle_that_is_collected_as_garbage_leaves_no_span_open(traced: Traced) -> None:
    ended = anyio.Event()

    async def run(ctx: InvocationContext):
        try:
            with traced.tracer.start_as_current_span("own"):
                yield ctx.text("one")
                yield ctx.text("two")
        finally:
            ended.set()

    root = SequentialAgent("root", [FunctionAgent("a", run)])
    with anyio.fail_after(5):
        async with Runner(root, app_name="app", on_exit="wait") as runner:
            with traced.tracer.start_as_current_span("request"):
                handle = runner.run("go")
                await handle.__aenter__()
                async for event in handle:
                    if event.text:
                        break
                del handle, event
            gc.collect()
            await ended.wait()
    traced.shows("""
        request
          run app: cancelled, because its handle was dropped
            invoke_workflow root: cancelled, because its handle was dropped
              invoke_agent a: cancelled, because its handle was dropped
                own
    """)


async def test_closing_from_another_task_ends_every_span(traced: Traced) -> None:
    awake = anyio.Event()
    with anyio.fail_after(5):
        async with Runner(SequentialAgent("root", [sleeper("a", awake)]), app_name="app") as runner:
            with traced.tracer.start_as_current_span("request"):
                run = runner.run("go")
                await run.__aenter__()
            async with anyio.create_task_group() as tasks:
                await awake.wait()
                tasks.start_soon(run.aclose)
    traced.shows("""
        request
          run app: cancelled, because its consumer left
            invoke_workflow root: cancelled, because its consumer left
              invoke_agent a: cancelled, because its consumer left
    """)


async def test_a_cancellation_around_the_runner_ends_every_span(traced: Traced) -> None:
    awake = anyio.Event()
    with anyio.fail_after(5), anyio.CancelScope() as scope:
        async with Runner(SequentialAgent("root", [sleeper("a", awake)])) as runner, runner.run("go"):
            await awake.wait()
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert [(span.attributes["agentflow.outcome"], span.status.is_unset) for span in traced.spans] == [
        ("cancelled", True)
    ] * 3
    assert traced.ledger.open() == []


async def test_a_detached_run_goes_on_below_the_request_that_started_it(traced: Traced) -> None:
    go = anyio.Event()

    async def run(ctx: InvocationContext) -> None:
        await ctx.emit(ctx.text("one"))
        await go.wait()
        await ctx.emit(ctx.text("two"))

    with anyio.fail_after(5):
        async with Runner(SequentialAgent("root", [FunctionAgent("a", run), speaker("b")]), app_name="app") as runner:
            with traced.tracer.start_as_current_span("request"):
                async with runner.run("go", on_consumer_gone="detach") as handle:
                    async for event in handle:
                        if event.text:
                            break
            go.set()
            with traced.tracer.start_as_current_span("second request"):
                async with runner.attach(handle.id, after=handle.position) as handle:
                    async for _ in handle:
                        pass
    traced.shows("""
        request
          run app: ok
            invoke_workflow root: ok
              invoke_agent a: ok
              invoke_agent b: ok
        second request
    """)


async def test_runs_at_the_same_time_have_trees_of_their_own(traced: Traced) -> None:
    both = [anyio.Event(), anyio.Event()]

    async def run(ctx: InvocationContext) -> None:
        mine = int(ctx.user_text)
        both[mine].set()
        await both[1 - mine].wait()

    async def consume(runner: Runner, number: int) -> None:
        with traced.tracer.start_as_current_span(f"request {number}"):
            async with runner.run(str(number)) as events:
                async for _ in events:
                    pass

    with anyio.fail_after(5):
        async with Runner(FunctionAgent("a", run), app_name="app") as runner, anyio.create_task_group() as tasks:
            for number in range(2):
                tasks.start_soon(consume, runner, number)
    traced.shows("""
        request 0
          run app: ok
            invoke_agent a: ok
        request 1
          run app: ok
            invoke_agent a: ok
    """)


async def test_a_run_started_inside_of_an_agent_is_below_that_agent(traced: Traced) -> None:
    async with Runner(speaker("inner"), app_name="inside") as inside:

        async def run(ctx: InvocationContext) -> None:
            async with inside.run("go") as events:
                async for event in events:
                    await ctx.emit(ctx.text(event.text))

        await run_of(FunctionAgent("outer", run))
    traced.shows("""
        run app: ok
          invoke_agent outer: ok
            run inside: ok
              invoke_agent inner: ok
    """)


def test_a_run_without_await_is_below_the_span_that_it_is_read_in(traced: Traced) -> None:
    for backend in ("asyncio", "trio"):
        with traced.tracer.start_as_current_span(f"script on {backend}"):
            for _ in Runner(speaker("a"), app_name="app").run_sync("go", backend=backend):
                with traced.tracer.start_as_current_span("print"):
                    pass
            assert Runner(speaker("a"), app_name="app").run_sync("go", backend=backend).result.text == "a"
    text = [line for line in traced.lines() if "print" not in line]
    run = ["  run app: ok", "    invoke_agent a: ok"]
    assert text == ["script on asyncio", *run, *run, "script on trio", *run, *run]


async def test_what_plugins_instrument_is_below_the_run_or_the_agent(traced: Traced) -> None:
    class Spans(Plugin):
        async def on_user_message(self, ctx, message):
            with traced.tracer.start_as_current_span("on_user_message"):
                pass

        async def before_run(self, ctx):
            with traced.tracer.start_as_current_span("before_run"):
                pass

        async def before_agent(self, ctx):
            with traced.tracer.start_as_current_span("before_agent"):
                pass

        async def after_agent(self, ctx):
            with traced.tracer.start_as_current_span("after_agent"):
                pass

    with traced.tracer.start_as_current_span("request"):
        await run_of(SequentialAgent("root", [speaker("a")]), plugins=[Spans()])
    traced.shows("""
        request
          run app: ok
            on_user_message
            before_run
            invoke_workflow root: ok
              before_agent
              invoke_agent a: ok
                before_agent
                after_agent
              after_agent
    """)


async def test_what_a_plugin_does_after_the_run_is_below_it(traced: Traced) -> None:
    class Spans(Plugin):
        async def after_run(self, ctx):
            with traced.tracer.start_as_current_span("after_run"):
                pass

    with traced.tracer.start_as_current_span("request"):
        await run_of(speaker("a"), plugins=[Spans()])
    traced.shows("""
        request
          run app: ok
            invoke_agent a: ok
            after_run
    """)
