"""A turn's calls: all at once, answered in their order, each with state of its own."""

import operator

import anyio
import pytest

from agentflow import (
    Actions,
    ContextEnded,
    FunctionAgent,
    InMemorySessionService,
    InvocationContext,
    LimitExceeded,
    Limits,
    LoopAgent,
    ParallelAgent,
    Plugin,
    PluginError,
    SequentialAgent,
    ServiceError,
    ToolCall,
    ToolContext,
    ToolResult,
    Usage,
    tool,
)
from agentflow.tools.calls import Called, Hooks
from tests.core.actors import hears, play, sleeps
from tests.faults.checks import log_problems
from tests.tools.callers import answers, caller, results


async def echo(word: str) -> str:
    return word


async def test_calls_of_one_turn_run_at_the_same_time() -> None:
    """Each waits for the other: one after the other would hang here."""
    here = {"a": anyio.Event(), "b": anyio.Event()}

    async def meet(me: str, other: str) -> str:
        here[me].set()
        await here[other].wait()
        return me

    asked = [("meet", {"me": "a", "other": "b"}), ("meet", {"me": "b", "other": "a"})]
    assert answers(await play(caller("c", [meet], asked))) == ["a", "b"]


async def test_results_come_in_the_order_of_the_calls_in_one_event() -> None:
    first = anyio.Event()

    async def late() -> str:
        await first.wait()
        return "late"

    async def early() -> str:
        first.set()
        return "early"

    played = await play(caller("c", [late, early], [("late", {}), ("early", {})]))
    [event] = [event for event in played.events if any(type(part) is ToolResult for part in event.parts)]
    assert [(part.id, part.name, part.result) for part in event.parts] == [
        ("c1-1", "late", "late"),
        ("c1-2", "early", "early"),
    ]
    assert (event.author, event.branch, event.path) == ("c", "", "c")


async def test_a_limit_holds_and_is_first_come_first_served() -> None:
    working: set[int] = set()
    most = 0
    order: list[int] = []

    async def work(n: int) -> int:
        nonlocal most
        order.append(n)
        working.add(n)
        most = max(most, len(working))
        await anyio.sleep(1)
        working.discard(n)
        return n

    played = await play(caller("c", [work], [("work", {"n": n}) for n in range(7)], limit=3))
    assert answers(played) == list(range(7))
    assert (most, order) == (3, list(range(7)))


async def test_a_sequential_tool_runs_alone_between_its_neighbours() -> None:
    log: list[str] = []

    async def free(n: int) -> None:
        log.append(f"+{n}")
        await anyio.sleep(1)
        log.append(f"-{n}")

    @tool(sequential=True)
    async def alone(n: int) -> None:
        log.append(f"+{n}")
        await anyio.sleep(1)
        log.append(f"-{n}")

    asked = [("free", {"n": 1}), ("free", {"n": 2}), ("alone", {"n": 3}), ("alone", {"n": 4}), ("free", {"n": 5})]
    await play(caller("c", [free, alone], asked))
    assert set(log[:2]) == {"+1", "+2"}
    assert set(log[2:4]) == {"-1", "-2"}
    assert log[4:] == ["+3", "-3", "+4", "-4", "+5", "-5"]


async def test_an_exception_is_told_to_the_model_and_the_others_go_on() -> None:
    async def breaks() -> None:
        raise ValueError("no such thing")

    played = await play(caller("c", [breaks, echo], [("breaks", {}), ("echo", {"word": "fine"})]))
    assert [(result.result, result.is_error) for result in results(played)] == [
        ("ValueError: no such thing", True),
        ("fine", False),
    ]
    assert played.run.result.status == "ok"


async def test_an_exception_of_a_tool_that_is_to_raise_ends_the_turn_and_answers_every_call() -> None:
    @tool(on_error="raise")
    async def breaks() -> None:
        raise ValueError("no such thing")

    async def hangs() -> None:
        await anyio.sleep_forever()

    store = InMemorySessionService()
    with pytest.raises(ValueError, match="no such thing") as caught:
        await play(caller("c", [breaks, hangs], [("breaks", {}), ("hangs", {})]), sessions=store)
    assert any("in agent 'c'" in note for note in caught.value.__notes__)
    [info] = await store.list("c", "user")
    session = await store.get(info.key)
    stored = [part for event in session.events for part in event.parts if type(part) is ToolResult]
    assert [(part.id, part.is_error) for part in stored] == [("c1-1", True), ("c1-2", True)]


async def test_several_that_raise_are_raised_together() -> None:
    ready = anyio.Event()

    @tool(on_error="raise")
    async def first() -> None:
        await ready.wait()
        raise ValueError("one")

    @tool(on_error="raise")
    async def second() -> None:
        try:
            ready.set()
            await anyio.sleep_forever()
        finally:
            raise KeyError("two")

    with pytest.raises(ExceptionGroup) as caught:
        await play(caller("c", [first, second], [("first", {}), ("second", {})]))
    assert {type(error) for error in caught.value.exceptions} == {ValueError, KeyError}


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "beside another"])
async def test_a_base_exception_passes(alone: bool) -> None:
    class Leaves(BaseException):
        pass

    async def leaves() -> None:
        raise Leaves

    with pytest.raises(Leaves):
        await play(caller("c", [leaves, echo], [("leaves", {}), *([] if alone else [("echo", {"word": "x"})])]))


@pytest.mark.parametrize("error", [ServiceError("down"), LimitExceeded("broke", limit="cost", spent={})])
async def test_a_failure_of_the_run_is_no_tool_error(error: Exception) -> None:
    async def breaks() -> None:
        raise error

    with pytest.raises(type(error)):
        await play(caller("c", [breaks], [("breaks", {})]))


async def test_a_budget_that_runs_out_in_a_tool_ends_the_run() -> None:
    async def spends(ctx: ToolContext) -> None:
        ctx.spend(usage=Usage(input_tokens=100, model_calls=1))

    with pytest.raises(LimitExceeded):
        await play(caller("c", [spends], [("spends", {})]), limits=Limits(tokens=50))


async def test_an_unknown_tool_is_answered_with_those_that_there_are() -> None:
    played = await play(caller("c", [echo], [("ehco", {"word": "x"})]))
    [result] = results(played)
    assert (result.name, result.is_error) == ("ehco", True)
    assert result.result == "tool 'ehco' not found. Available tools: echo"


async def test_a_name_that_no_branch_could_have_is_no_branch() -> None:
    async def speaks(ctx: ToolContext, tool, args, error) -> None:
        await ctx.emit(ctx.text("it is missing"))

    played = await play(caller("c", [echo], [("a.b#c d", {})], hooks=Hooks(on_error=[speaks])))
    [result] = results(played)
    assert (result.name, result.is_error) == ("a.b#c d", True)
    assert [event.branch for event in played.events if event.text == "it is missing"] == ["c.missing_tool#1"]


async def test_an_error_of_a_callback_takes_the_place_of_the_tools() -> None:
    def raises(*_: object) -> None:
        raise ValueError("worse")

    for hooks in (Hooks(on_error=[raises]), Hooks(after=[raises])):
        [result] = results(await play(caller("c", [echo], [("echo", {})], hooks=hooks)))
        assert (result.is_error, result.result) == (True, "ValueError: worse")


async def test_a_tool_that_hangs_runs_out_of_time_and_the_model_is_told() -> None:
    @tool(timeout=5)
    async def hangs() -> None:
        await anyio.sleep_forever()

    [result] = results(await play(caller("c", [hangs], [("hangs", {})])))
    assert (result.result, result.is_error) == ("tool 'hangs' was still at work after 5 s", True)


async def test_waiting_for_the_reader_is_not_the_tools_time() -> None:
    @tool(timeout=5)
    async def shows(ctx: ToolContext) -> str:
        await ctx.progress("half")
        return "whole"

    from agentflow import Runner

    async with Runner(caller("c", [shows], [("shows", {})])) as runner, runner.run("go") as run:
        seen = []
        async for event in run:
            if event.partial:
                await anyio.sleep(60)
            seen += [part.result for part in event.parts if type(part) is ToolResult]
    assert seen == ["half", "whole"]


# What tools write


async def test_state_of_a_call_is_its_own_until_its_turn_is_answered() -> None:
    wrote, looked = anyio.Event(), anyio.Event()
    seen: list[object] = []

    async def writes(ctx: ToolContext) -> str:
        ctx.state["x"] = 1
        wrote.set()
        await looked.wait()
        return str(ctx.state["x"])

    async def looks(ctx: ToolContext) -> None:
        await wrote.wait()
        seen.append(ctx.state.get("x"))
        looked.set()

    played = await play(caller("c", [writes, looks], [("writes", {}), ("looks", {})]))
    assert seen == [None]
    assert answers(played)[0] == "1"
    [event] = [event for event in played.events if event.actions and event.actions.state_delta]
    assert event.actions.state_delta == {"x": 1}
    assert type(event.parts[0]) is ToolResult


async def test_writes_are_merged_in_call_order_mappings_key_by_key() -> None:
    last = anyio.Event()

    async def first(ctx: ToolContext) -> None:
        await last.wait()  # it ends last, and still comes first
        ctx.state["map"] = {"a": 1, "deep": {"x": 1, "y": 1}}
        ctx.state["n"] = "first"
        ctx.state["gone"] = True

    async def second(ctx: ToolContext) -> None:
        ctx.state["map"] = {"b": 2, "deep": {"y": 2}}
        ctx.state["n"] = "second"
        del ctx.state["old"]
        last.set()

    played = await play(caller("c", [first, second], [("first", {}), ("second", {})]), state={"old": 1})
    assert played.session.state == {
        "map": {"a": 1, "b": 2, "deep": {"x": 1, "y": 2}},
        "n": "second",
        "gone": True,
    }


async def test_writes_of_a_call_that_fails_are_dropped() -> None:
    async def fails(ctx: ToolContext) -> None:
        ctx.state["x"] = 1
        raise ValueError

    played = await play(caller("c", [fails], [("fails", {})]))
    assert "x" not in played.session.state


async def test_contributions_of_calls_are_reduced() -> None:
    async def votes(ctx: ToolContext, n: int) -> None:
        ctx.state["votes"] = [n]

    pair = [caller(name, [votes], [("votes", {"n": n}), ("votes", {"n": n + 1})]) for name, n in (("a", 1), ("b", 3))]
    played = await play(ParallelAgent("p", pair, on_conflict={"votes": operator.add}))
    assert played.session.state["votes"] == [1, 2, 3, 4]


async def test_actions_are_merged() -> None:
    async def one(ctx: ToolContext) -> None:
        ctx.actions.transfer_to_agent = "first"
        ctx.actions.artifact_delta["f"] = 2
        ctx.actions.skip_summarization = True

    async def two(ctx: ToolContext) -> None:
        ctx.actions.transfer_to_agent = "second"
        ctx.actions.artifact_delta["f"] = 1

    seen: list[Called] = []
    await play(caller("c", [one, two], [("one", {}), ("two", {})], seen=seen))
    assert seen[0].actions == Actions(artifact_delta={"f": 2}, transfer_to_agent="second", skip_summarization=True)


async def test_an_escalation_ends_the_callers_loop() -> None:
    async def enough(ctx: ToolContext) -> None:
        ctx.actions.escalate = ctx.iteration == 2

    played = await play(LoopAgent("l", [caller("c", [enough], [("enough", {})])]))
    assert len(results(played)) == 2


async def test_what_a_tool_emits_is_in_the_log_and_not_in_what_agents_hear() -> None:
    async def speaks(ctx: ToolContext) -> str:
        await ctx.emit(ctx.text("aside"))
        return "answer"

    heard: list[str] = []
    played = await play(SequentialAgent("s", [caller("c", [speaks], [("speaks", {})]), hears("h", heard)]))
    [aside] = [event for event in played.events if event.text == "aside"]
    assert (aside.author, aside.path, aside.branch) == ("c", "s.c", "c.speaks#1")
    assert "aside" not in heard


async def test_progress_is_shown_and_not_stored() -> None:
    async def works(ctx: ToolContext) -> str:
        await ctx.progress({"done": 0.5})
        return "all"

    played = await play(caller("c", [works], [("works", {})]))
    [shown] = [event for event in played.events if event.partial]
    [piece] = shown.parts
    assert (piece.id, piece.name, piece.result, shown.response_id) == ("c1-1", "works", {"done": 0.5}, "c1-1")
    assert not any(event.partial for event in played.session.events)


async def test_keys_of_calls_are_their_own_and_the_same_again() -> None:
    keys: list[str] = []

    async def note(ctx: ToolContext) -> None:
        keys.append(ctx.idempotency_key)

    two = ParallelAgent("p", [caller(name, [note], [("note", {}), ("note", {})]) for name in ("a", "b")])
    root = LoopAgent("l", [two], max_iterations=2)
    ids = iter(["run-1", "run-1"])
    await play(root, new_id=lambda: next(ids))
    assert len(set(keys)) == len(keys) == 8
    first = sorted(keys)
    keys.clear()
    await play(root, new_id=lambda: next(ids))
    assert sorted(keys) == first


# Hooks


class Steps(Plugin):
    def __init__(self, log: list[str]) -> None:
        self.log = log

    async def before_tool(self, ctx: InvocationContext, tool, args) -> None:
        self.log.append(f"plugin before {tool.name}")

    async def after_tool(self, ctx: InvocationContext, tool, args, result) -> None:
        self.log.append(f"plugin after {tool.name} {result}")

    async def on_tool_error(self, ctx: InvocationContext, tool, args, error) -> None:
        self.log.append(f"plugin error {tool.name} {error}")


async def test_plugins_come_before_callbacks_and_after_hooks_always_come() -> None:
    log: list[str] = []

    def note(what: str):
        def callback(ctx: ToolContext, tool, args, *rest) -> None:
            log.append(f"callback {what} {tool.name}")

        return callback

    async def fails() -> None:
        raise ValueError("no")

    hooks = Hooks(before=[note("before")], after=[note("after")], on_error=[note("error")])
    await play(
        caller("c", [echo, fails], [("echo", {"word": "x"})], [("fails", {})], hooks=hooks), plugins=[Steps(log)]
    )
    assert log == [
        "plugin before echo",
        "callback before echo",
        "plugin after echo x",
        "callback after echo",
        "plugin before fails",
        "callback before fails",
        "plugin error fails no",
        "callback error fails",
        "plugin after fails ValueError: no",
        "callback after fails",
    ]


async def test_what_a_before_hook_returns_is_the_result_and_still_goes_through_after() -> None:
    async def never() -> None:
        raise AssertionError

    hooks = Hooks(
        before=[lambda ctx, tool, args: None, lambda ctx, tool, args: "mine"],
        after=[lambda ctx, tool, args, result: f"{result}, changed"],
    )
    assert answers(await play(caller("c", [never], [("never", {})], hooks=hooks))) == ["mine, changed"]


async def test_a_before_hook_may_change_the_arguments_and_the_log_keeps_the_models() -> None:
    async def louder(ctx: ToolContext, tool, args) -> None:
        args["word"] = args["word"].upper()

    played = await play(caller("c", [echo], [("echo", {"word": "x"})], hooks=Hooks(before=[louder])))
    assert answers(played) == ["X"]
    [call] = [part for event in played.events for part in event.parts if type(part) is ToolCall]
    assert call.args == {"word": "x"}


async def test_what_an_error_hook_returns_is_the_result() -> None:
    hooks = Hooks(on_error=[lambda ctx, tool, args, error: f"instead of {error}"])
    [result] = results(await play(caller("c", [echo], [("missing", {})], hooks=hooks)))
    assert (result.is_error, result.result.startswith("instead of tool 'missing' not found")) == (False, True)


async def test_before_and_after_hooks_dont_hear_of_a_tool_that_isnt_there() -> None:
    log: list[str] = []
    await play(caller("c", [echo], [("missing", {})]), plugins=[Steps(log)])
    assert log == ["plugin error missing_tool tool 'missing' not found. Available tools: echo"]


async def test_a_callback_that_raises_is_a_tool_error_and_a_plugin_that_raises_fails_the_run() -> None:
    def raises(*_: object) -> None:
        raise ValueError("callback")

    [result] = results(await play(caller("c", [echo], [("echo", {"word": "x"})], hooks=Hooks(before=[raises]))))
    assert result.result == "ValueError: callback"

    class Broken(Plugin):
        async def before_tool(self, ctx, tool, args) -> None:
            raise ValueError("plugin")

    with pytest.raises(PluginError, match="before_tool"):
        await play(caller("c", [echo], [("echo", {"word": "x"})]), plugins=[Broken()])


# Ends


async def test_calls_of_a_cancelled_run_are_answered_in_the_log() -> None:
    from agentflow import Runner

    async def hangs(ctx: ToolContext) -> None:
        await ctx.progress("begun")
        await anyio.sleep_forever()

    store = InMemorySessionService()
    async with Runner(caller("c", [echo, hangs], [("echo", {"word": "x"}), ("hangs", {})]), sessions=store) as runner:
        async with runner.run("go", session_id="s") as run:
            async for event in run:
                if event.partial:
                    run.cancel("enough")
        session = await store.get(run.session)
    [event] = [event for event in session.events if any(type(part) is ToolResult for part in event.parts)]
    assert [(part.id, part.result) for part in event.parts] == [
        ("c1-1", "x"),
        ("c1-2", "cancelled before it had answered"),
    ]
    ends = [event for event in session.events if event.lifecycle and event.lifecycle.name == "agent_complete"]
    assert ends[-1].serial > event.serial


async def test_a_context_that_was_kept_is_of_no_use() -> None:
    from agentflow import ContextEnded

    kept: list[ToolContext] = []

    async def keeps(ctx: ToolContext) -> None:
        kept.append(ctx)

    await play(caller("c", [keeps], [("keeps", {})]))
    with pytest.raises(ContextEnded):
        await kept[0].progress("late")
    with pytest.raises(ContextEnded):
        kept[0].state["x"] = 1


@pytest.mark.parametrize("asked", [1, 2], ids=["alone", "beside another"])
@pytest.mark.parametrize("ending", ["ok", "error"])
async def test_an_agent_that_a_tool_does_not_wait_for_ends_with_the_call(
    asked: int, ending: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The agent whose model asked goes on and hears nothing more of it; the child's end is stored before its words."""
    raised: list[Exception] = []
    begun: list[str] = []
    all_begun = anyio.Event()

    async def begin(ctx: InvocationContext) -> None:
        begun.append(ctx.branch)
        if len(begun) == asked:
            all_begun.set()
        await anyio.sleep(50)
        await ctx.emit(ctx.text("too late"))

    child = FunctionAgent("child", begin)

    async def run(ctx: ToolContext) -> None:
        try:
            await ctx.run(child)
        except Exception as error:
            raised.append(error)

    async with anyio.create_task_group() as tasks:

        async def look(ctx: ToolContext, number: int) -> str:
            tasks.start_soon(run, ctx)
            await all_begun.wait()
            if ending == "error":
                raise ValueError("no")
            return "seen"

        agent = caller("c", [look], [("look", {"number": number}) for number in range(asked)])
        played = await play(SequentialAgent("s", [agent, sleeps("next", 200)]))
    assert [type(error) for error in raised] == [ContextEnded] * asked
    ended = [
        (event.author, event.lifecycle.reason)
        for event in played.session.events
        if event.lifecycle and event.lifecycle.name == "agent_complete" and event.author in ("child", "c")
    ]
    why = "a call of tool 'look' by agent 's.c' had ended without waiting for it"
    assert ended == [("child", why)] * asked + [("c", "")]
    assert "a call of tool 'look' by agent 's.c' has ended without waiting for turns" in caplog.text
    assert log_problems(played.session.events) == []
    assert played.run.unfinished == []
