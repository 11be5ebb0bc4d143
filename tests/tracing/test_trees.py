"""The spans of a run mirror its turns, on both backends, however they end."""

import anyio
import pytest
from anyio.lowlevel import checkpoint
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from agentflow import (
    Actions,
    Event,
    FunctionAgent,
    InvocationContext,
    LimitExceeded,
    Limits,
    LoopAgent,
    ParallelAgent,
    Plugin,
    PluginError,
    Retry,
    Runner,
    SequentialAgent,
    agent,
)
from agentflow.events import AgentComplete
from tests.tracing.agents import failing, run_of, sleeper, speaker
from tests.tracing.spans import Traced


async def test_three_levels_of_nesting_are_one_tree(traced: Traced) -> None:
    left = SequentialAgent("left", [speaker("a"), ParallelAgent("inner", [speaker("b"), speaker("c")]), speaker("d")])
    right = SequentialAgent("right", [speaker("e"), speaker("f")])
    await run_of(SequentialAgent("root", [ParallelAgent("outer", [left, right, speaker("g")]), speaker("last")]))
    traced.shows("""
        run app: ok
          invoke_workflow root: ok
            invoke_workflow outer: ok
              invoke_agent g: ok
              invoke_workflow left: ok
                invoke_agent a: ok
                invoke_workflow inner: ok
                  invoke_agent b: ok
                  invoke_agent c: ok
                invoke_agent d: ok, after b c
              invoke_workflow right: ok
                invoke_agent e: ok
                invoke_agent f: ok
            invoke_agent last: ok, after g left right
    """)


async def test_turns_in_a_loop_say_which_iteration(traced: Traced) -> None:
    inner = LoopAgent("inner", [speaker("a")], max_iterations=2)
    await run_of(LoopAgent("outer", [inner, speaker("b")], max_iterations=2))
    traced.shows("""
        run app: ok
          invoke_workflow outer: ok
            invoke_workflow inner: ok, iteration 1
              invoke_agent a: ok, iteration 1
              invoke_agent a: ok, iteration 2
            invoke_agent b: ok, iteration 1
            invoke_workflow inner: ok, iteration 2
              invoke_agent a: ok, iteration 1
              invoke_agent a: ok, iteration 2
            invoke_agent b: ok, iteration 2
    """)


async def test_a_loop_that_is_ended_from_inside_has_no_further_spans(traced: Traced) -> None:
    @agent
    async def stop(ctx: InvocationContext) -> None:
        await ctx.emit(ctx.event("enough", actions=Actions(escalate=True)))

    await run_of(LoopAgent("loop", [speaker("a"), stop, speaker("b")], max_iterations=5))
    traced.shows("""
        run app: ok
          invoke_workflow loop: ok
            invoke_agent a: ok, iteration 1
            invoke_agent stop: ok, iteration 1
    """)


async def test_a_retried_turn_is_one_span_that_tells_of_each_failed_attempt(traced: Traced) -> None:
    flaky = failing("flaky", OSError("one"), OSError("two"), retry=Retry(attempts=3, delay=0))
    await run_of(SequentialAgent("root", [flaky, speaker("a")]))
    traced.shows("""
        run app: ok
          invoke_workflow root: ok
            invoke_agent flaky: ok, 3 attempts, failed 1 OSError one, failed 2 OSError two
            invoke_agent a: ok
    """)


async def test_the_turns_of_a_retried_workflow_are_all_there(traced: Traced) -> None:
    inner = SequentialAgent("inner", [speaker("a"), failing("b", OSError("no"))], retry=Retry(attempts=2, delay=0))
    await run_of(SequentialAgent("root", [inner]))
    traced.shows("""
        run app: ok
          invoke_workflow root: ok
            invoke_workflow inner: ok, 2 attempts, failed 1 OSError no
              invoke_agent a: ok
              invoke_agent b: error, status ERROR, OSError, recorded OSError
              invoke_agent a: ok
              invoke_agent b: ok
    """)


async def test_a_turn_that_failed_each_time_says_how_often_it_tried(traced: Traced) -> None:
    flaky = failing("flaky", OSError("one"), OSError("two"), OSError("three"), retry=Retry(attempts=2, delay=0))
    with pytest.raises(OSError, match="two"):
        await run_of(flaky)
    traced.shows("""
        run app: error, status ERROR, OSError
          invoke_agent flaky: error, 2 attempts, failed 1 OSError one, status ERROR, OSError, recorded OSError
    """)


async def test_an_error_marks_every_span_that_it_passes_and_is_recorded_once(traced: Traced) -> None:
    inner = SequentialAgent("inner", [speaker("a"), failing("b", ValueError("no")), speaker("c")])
    with pytest.raises(ValueError, match="no"):
        await run_of(SequentialAgent("root", [inner, speaker("d")]))
    traced.shows("""
        run app: error, status ERROR, ValueError
          invoke_workflow root: error, status ERROR, ValueError
            invoke_workflow inner: error, status ERROR, ValueError
              invoke_agent a: ok
              invoke_agent b: error, status ERROR, ValueError, recorded ValueError
    """)
    failed = traced.one("invoke_agent b")
    assert failed.status.description == "ValueError: no"
    (event,) = failed.events
    assert event.attributes["exception.message"] == "no"
    assert "left.pop(0)" in event.attributes["exception.stacktrace"]


async def test_an_error_that_is_caught_stops_where_it_was_caught(traced: Traced) -> None:
    boom = failing("boom", ValueError("no"))

    async def run(ctx: InvocationContext) -> None:
        try:
            await ctx.run(boom)
        except ValueError as error:
            raise LookupError("worse") from error

    with pytest.raises(LookupError):
        await run_of(SequentialAgent("root", [FunctionAgent("outer", run, sub_agents=[boom])]))
    traced.shows("""
        run app: error, status ERROR, LookupError
          invoke_workflow root: error, status ERROR, LookupError
            invoke_agent outer: error, status ERROR, LookupError, recorded LookupError
              invoke_agent boom: error, status ERROR, ValueError, recorded ValueError
    """)


async def test_an_exception_object_that_is_raised_again_in_another_run_is_recorded_again(traced: Traced) -> None:
    kept = ValueError("always the same")
    for _ in range(2):
        with pytest.raises(ValueError, match="always"):
            await run_of(failing("a", kept))
    traced.shows("""
        run app: error, status ERROR, ValueError
          invoke_agent a: error, status ERROR, ValueError, recorded ValueError
        run app: error, status ERROR, ValueError
          invoke_agent a: error, status ERROR, ValueError, recorded ValueError
    """)


async def test_the_siblings_of_a_failed_branch_are_cancelled_and_no_errors(traced: Traced) -> None:
    """All are at work when one fails."""
    both = [anyio.Event(), anyio.Event()]

    async def run(ctx: InvocationContext) -> None:
        for event in both:
            await event.wait()
        raise ValueError("no")

    nested = SequentialAgent("nested", [sleeper("deep", both[1])])
    group = ParallelAgent("group", [FunctionAgent("bad", run), sleeper("slow", both[0]), nested])
    with pytest.raises(ValueError, match="no"):
        await run_of(group)
    traced.shows("""
        run app: error, status ERROR, ValueError
          invoke_workflow group: error, status ERROR, ValueError
            invoke_agent bad: error, status ERROR, ValueError, recorded ValueError
            invoke_agent slow: cancelled
            invoke_workflow nested: cancelled
              invoke_agent deep: cancelled
    """)


async def test_branches_that_fail_together_are_recorded_each_and_their_group_is_not(traced: Traced) -> None:
    ready = anyio.Event()

    async def first(ctx: InvocationContext) -> None:
        await ready.wait()
        raise ValueError("a")

    async def second(ctx: InvocationContext) -> None:
        try:
            ready.set()
            await anyio.sleep_forever()
        finally:
            raise KeyError("b")

    group = ParallelAgent("group", [FunctionAgent("a", first), FunctionAgent("b", second)])
    with pytest.RaisesGroup(ValueError, KeyError):
        await run_of(SequentialAgent("root", [group]))
    traced.shows("""
        run app: error, status ERROR, ExceptionGroup
          invoke_workflow root: error, status ERROR, ExceptionGroup
            invoke_workflow group: error, status ERROR, ExceptionGroup
              invoke_agent a: error, status ERROR, ValueError, recorded ValueError
              invoke_agent b: error, status ERROR, KeyError, recorded KeyError
    """)


async def test_collected_failures_leave_their_group_well(traced: Traced) -> None:
    group = ParallelAgent("group", [failing("a", ValueError("a")), speaker("b")], on_error="collect")
    await run_of(SequentialAgent("root", [group, speaker("c")]))
    traced.shows("""
        run app: ok
          invoke_workflow root: ok
            invoke_workflow group: ok
              invoke_agent a: error, status ERROR, ValueError, recorded ValueError
              invoke_agent b: ok
            invoke_agent c: ok, after a b
    """)


async def test_a_timeout_is_an_error_of_who_ran_out_of_time(traced: Traced) -> None:
    inner = SequentialAgent("inner", [sleeper("a")], timeout=0.01)
    with pytest.raises(TimeoutError):
        await run_of(SequentialAgent("root", [inner]))
    traced.shows("""
        run app: error, status ERROR, AgentTimeout
          invoke_workflow root: error, status ERROR, AgentTimeout
            invoke_workflow inner: timeout, status ERROR, AgentTimeout, recorded AgentTimeout
              invoke_agent a: cancelled
    """)


async def test_a_branch_out_of_time_is_one_that_failed(traced: Traced) -> None:
    group = ParallelAgent("group", [sleeper("a"), speaker("b")], branch_timeout=0.01, on_error="collect")
    await run_of(group)
    traced.shows("""
        run app: ok
          invoke_workflow group: ok
            invoke_agent a: timeout, status ERROR, AgentTimeout, recorded AgentTimeout
            invoke_agent b: ok
    """)


async def test_a_run_out_of_time_is_an_error_of_the_run(traced: Traced) -> None:
    with pytest.raises(LimitExceeded):
        await run_of(SequentialAgent("root", [sleeper("a")]), limits=Limits(seconds=0.01))
    traced.shows("""
        run app: error, status ERROR, LimitExceeded, recorded LimitExceeded
          invoke_workflow root: cancelled, because the run's time (0.01 s) was up
            invoke_agent a: cancelled, because the run's time (0.01 s) was up
    """)


async def test_a_cancelled_run_is_no_error_and_says_why(traced: Traced) -> None:
    awake = [anyio.Event(), anyio.Event()]
    group = ParallelAgent("group", [sleeper("b", awake[0]), sleeper("c", awake[1])])
    root = SequentialAgent("root", [speaker("a"), group])
    with anyio.fail_after(5):
        async with Runner(root, app_name="app") as runner, runner.run("go", lookahead=9) as run:
            for event in awake:
                await event.wait()
            run.cancel("the user said so")
            async for _ in run:
                pass
    assert run.status == "cancelled"
    traced.shows("""
        run app: cancelled, because the user said so
          invoke_workflow root: cancelled, because the user said so
            invoke_agent a: ok
            invoke_workflow group: cancelled, because the user said so
              invoke_agent b: cancelled, because the user said so
              invoke_agent c: cancelled, because the user said so
    """)
    for span in traced.spans:
        assert span.status.is_unset, span.name
        assert not span.events, span.name


async def test_losers_of_a_race_are_cancelled(traced: Traced) -> None:
    awake = anyio.Event()

    async def run(ctx: InvocationContext) -> None:
        await awake.wait()
        await ctx.emit(ctx.text("first"))

    race = ParallelAgent("race", [FunctionAgent("quick", run), sleeper("slow", awake)], stop_when="first_success")
    await run_of(race)
    traced.shows("""
        run app: ok
          invoke_workflow race: ok
            invoke_agent quick: ok
            invoke_agent slow: cancelled
    """)


async def test_a_branch_that_never_began_has_no_span(traced: Traced) -> None:
    group = ParallelAgent("race", [speaker("first"), speaker("second")], stop_when="first_success", max_concurrency=1)
    await run_of(group)
    traced.shows("""
        run app: ok
          invoke_workflow race: ok
            invoke_agent first: ok
    """)


async def test_children_that_are_run_and_opened_at_once_are_children_of_who_runs_them(traced: Traced) -> None:
    a, b, c = speaker("a"), speaker("b"), SequentialAgent("c", [speaker("d")])

    async def run(ctx: InvocationContext) -> None:
        async with anyio.create_task_group() as tasks, ctx.open(c) as events:
            tasks.start_soon(ctx.run, a)
            tasks.start_soon(ctx.run, b)
            async for event in events:
                await ctx.emit(event)

    await run_of(SequentialAgent("root", [FunctionAgent("boss", run, sub_agents=[a, b, c])]))
    traced.shows("""
        run app: ok
          invoke_workflow root: ok
            invoke_agent boss: ok
              invoke_agent a: ok
              invoke_agent b: ok
              invoke_workflow c: ok
                invoke_agent d: ok
    """)


async def test_an_opened_child_that_is_left_early_is_cancelled(traced: Traced) -> None:
    child = SequentialAgent("child", [speaker("a"), speaker("b")])

    async def run(ctx: InvocationContext) -> None:
        async with ctx.open(child) as events:
            async for _ in events:
                break
        await ctx.emit(ctx.text("that will do"))

    await run_of(FunctionAgent("boss", run, sub_agents=[child]))
    traced.shows("""
        run app: ok
          invoke_agent boss: ok
            invoke_workflow child: cancelled
              invoke_agent a: cancelled
    """)


async def test_generator_agents_may_hold_spans_of_their_own_across_a_yield(traced: Traced) -> None:
    def generator(name: str) -> FunctionAgent:
        async def run(ctx: InvocationContext):
            for step in "12":
                with traced.tracer.start_as_current_span(f"{name}{step}"):
                    with traced.tracer.start_as_current_span(f"{name}{step} before"):
                        pass
                    yield ctx.text("hm")
                    with traced.tracer.start_as_current_span(f"{name}{step} after"):
                        pass

        return FunctionAgent(name, run)

    await run_of(SequentialAgent("root", [ParallelAgent("group", [generator("a"), generator("b")]), generator("c")]))
    traced.shows("""
        run app: ok
          invoke_workflow root: ok
            invoke_workflow group: ok
              invoke_agent a: ok
                a1
                  a1 before
                  a1 after
                a2
                  a2 before
                  a2 after
              invoke_agent b: ok
                b1
                  b1 before
                  b1 after
                b2
                  b2 before
                  b2 after
            invoke_agent c: ok, after a b
              c1
                c1 before
                c1 after
              c2
                c2 before
                c2 after
    """)


async def test_a_generator_that_is_left_at_a_yield_inside_its_span_ends_it(traced: Traced) -> None:
    async def run(ctx: InvocationContext):
        with traced.tracer.start_as_current_span("own"):
            yield ctx.text("one")
            yield ctx.text("two")

    root = SequentialAgent("root", [FunctionAgent("a", run)])
    with anyio.fail_after(5):
        async with Runner(root, app_name="app") as runner, runner.run("go") as events:
            async for event in events:
                if event.text:
                    break
    traced.shows("""
        run app: cancelled, because its consumer left
          invoke_workflow root: cancelled, because its consumer left
            invoke_agent a: cancelled, because its consumer left
              own
    """)


async def test_what_an_agents_own_code_opens_is_below_its_span(traced: Traced) -> None:
    """In branches, in tasks of its own and in worker threads too."""

    def instrumented(name: str) -> FunctionAgent:
        def in_thread() -> None:
            with traced.tracer.start_as_current_span(f"{name} thread"):
                pass

        async def in_task() -> None:
            with traced.tracer.start_as_current_span(f"{name} task"):
                await checkpoint()

        async def run(ctx: InvocationContext) -> None:
            with traced.tracer.start_as_current_span(f"{name} own"):
                await ctx.emit(ctx.text("hello"))
                await anyio.to_thread.run_sync(in_thread)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(in_task)
                await ctx.emit(ctx.text("bye"))

        return FunctionAgent(name, run)

    group = ParallelAgent("group", [instrumented("a"), instrumented("b")], max_concurrency=1)
    await run_of(SequentialAgent("root", [group, instrumented("c")]))
    traced.shows("""
        run app: ok
          invoke_workflow root: ok
            invoke_workflow group: ok
              invoke_agent a: ok
                a own
                  a thread
                a task
              invoke_agent b: ok
                b own
                  b thread
                b task
              queue b
            invoke_agent c: ok, after a b
              c own
                c thread
              c task
    """)


async def test_agents_that_run_inside_an_agents_own_span_are_below_it(traced: Traced) -> None:
    a, b, c = speaker("a"), speaker("b"), ParallelAgent("c", [speaker("d")])

    async def run(ctx: InvocationContext) -> None:
        with traced.tracer.start_as_current_span("phase one"):
            await ctx.run(a)
            async with ctx.open(c) as events:
                async for event in events:
                    await ctx.emit(event)
        await ctx.run(b)

    await run_of(FunctionAgent("boss", run, sub_agents=[a, b, c]))
    traced.shows("""
        run app: ok
          invoke_agent boss: ok
            phase one
              invoke_agent a: ok
              invoke_workflow c: ok
                invoke_agent d: ok
            invoke_agent b: ok, after d
    """)


async def test_a_span_of_another_trace_adopts_nothing(traced: Traced) -> None:
    """An agent that has a span of some other trace current stays in its own."""
    a = speaker("a")
    elsewhere = trace.NonRecordingSpan(trace.SpanContext(0xABC, 0xDEF, is_remote=True, trace_flags=trace.TraceFlags(1)))

    async def run(ctx: InvocationContext) -> None:
        with trace.use_span(elsewhere):
            await ctx.run(a)

    await run_of(FunctionAgent("boss", run, sub_agents=[a]))
    traced.shows("""
        run app: ok
          invoke_agent boss: ok
            invoke_agent a: ok
    """)


async def test_a_turn_whose_start_could_not_be_stored_failed_too(traced: Traced) -> None:
    class Refuses(Plugin):
        async def on_event(self, ctx: InvocationContext, event: Event) -> None:
            if event.author == "b":
                raise ValueError("no")

    with pytest.raises(PluginError):
        await run_of(SequentialAgent("root", [speaker("a"), speaker("b")]), plugins=[Refuses()])
    traced.shows("""
        run app: error, status ERROR, PluginError
          invoke_workflow root: error, status ERROR, PluginError
            invoke_agent a: ok
            invoke_agent b: skipped, status ERROR, PluginError, recorded PluginError
    """)


async def test_a_span_that_cannot_be_ended_does_not_cost_a_cancelled_turn_its_end(traced: Traced) -> None:
    class Gone(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            if span.name == "invoke_agent late":
                raise RuntimeError("the exporter is gone")

    traced.provider.add_span_processor(Gone())
    awake = anyio.Event()
    late = sleeper("late", awake)

    async def gives_up(ctx: InvocationContext) -> None:
        async def stop(scope: anyio.CancelScope) -> None:
            await awake.wait()
            scope.cancel()

        async with anyio.create_task_group() as tasks:
            scope = anyio.CancelScope()
            tasks.start_soon(stop, scope)
            with pytest.raises(RuntimeError, match="the exporter is gone"), scope:
                await ctx.run(late)
        await ctx.emit(ctx.text("go on"))

    async with Runner(FunctionAgent("root", gives_up, sub_agents=[late])) as runner, runner.run("go") as run:
        ends = [event.path async for event in run if isinstance(event.lifecycle, AgentComplete)]
    assert ends == ["root.late", "root"]
