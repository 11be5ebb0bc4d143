"""An agent and its tools: what its model is told of them, when its turn ends, what happens when people are asked."""

import anyio
import pytest

from agentflow import (
    InMemorySessionService,
    LimitExceeded,
    LlmAgent,
    LoopAgent,
    ParallelAgent,
    Plugin,
    Runner,
    SequentialAgent,
    ToolCall,
    ToolResult,
)
from agentflow.core import ToolContext
from agentflow.testing import ScriptedModel
from agentflow.tools.function import FunctionTool, tool
from agentflow.tools.toolset import Toolset
from tests.agents.thinking import asked, look
from tests.core.actors import Played, play, read, says


async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def results(model: ScriptedModel, call: int = -1) -> list[ToolResult]:
    """The tool results that a model read last in one of its calls."""
    return [part for part in model.requests[call].messages[-1].parts if type(part) is ToolResult]


# Calls and results


async def test_calls_of_one_answer_run_at_once_and_are_answered_together_in_their_order() -> None:
    arrived = {"a": anyio.Event(), "b": anyio.Event()}

    async def meet(me: str, other: str) -> str:
        """Wait for the other."""
        arrived[me].set()
        await arrived[other].wait()
        return me

    calls = ToolCall("1", "meet", {"me": "a", "other": "b"}), ToolCall("2", "meet", {"me": "b", "other": "a"})
    model = ScriptedModel(calls, "met")
    played = await play(LlmAgent("a", model=model, tools=[meet]))
    assert results(model) == [ToolResult("1", "meet", "a"), ToolResult("2", "meet", "b")]
    (answered,) = [event for event in played.session.events if any(type(part) is ToolResult for part in event.parts)]
    assert (answered.author, answered.path) == ("a", "a")


async def test_one_at_a_time_where_that_is_asked_for() -> None:
    running = most = 0

    async def work() -> None:
        """Work."""
        nonlocal running, most
        running += 1
        most = max(most, running)
        await anyio.sleep(1)
        running -= 1

    model = ScriptedModel([ToolCall(str(n), "work") for n in range(5)], "done")
    await play(LlmAgent("a", model=model, tools=[work], tool_concurrency=2))
    assert most == 2


@pytest.mark.parametrize("ids", [("", ""), ("x", "x")])
async def test_calls_without_an_id_of_their_own_get_one(ids: tuple[str, str]) -> None:
    model = ScriptedModel([ToolCall(id, "add", {"a": n, "b": 1}) for n, id in enumerate(ids)], "done")
    await play(LlmAgent("a", model=model, tools=[add]))
    called = [part.id for part in model.requests[1].messages[-2].parts]
    assert len(set(called)) == 2
    assert all(called)
    assert [(result.id, result.result) for result in results(model)] == list(zip(called, [1, 2], strict=True))


async def test_what_a_tool_writes_is_there_for_the_next_instruction() -> None:
    async def note(ctx: ToolContext) -> None:
        """Note."""
        ctx.state["note"] = "noted"

    model = ScriptedModel(ToolCall("1", "note"), "done")
    played = await play(LlmAgent("a", model=model, tools=[note], instruction="{note?}."))
    assert [request.system.split("\n")[0] for request in model.requests] == [".", "noted."]
    assert played.session.state == {"note": "noted"}


async def test_words_beside_a_call_are_not_the_answer() -> None:
    model = ScriptedModel(("let me see", ToolCall("1", "look")), "done")
    played = await play(LlmAgent("a", model=model, tools=[look]))
    assert played.texts == ["let me see", "done"]
    assert played.run.result.text == "done"


async def test_a_result_that_needs_no_words_ends_the_turn() -> None:
    async def final(ctx: ToolContext) -> str:
        """The answer."""
        ctx.actions.skip_summarization = True
        return "as it is"

    model = ScriptedModel(ToolCall("1", "final"))
    await play(LlmAgent("a", model=model, tools=[final]))
    assert len(model.requests) == 1


async def test_a_tool_can_end_the_loop_that_runs_its_agent() -> None:
    async def enough(ctx: ToolContext) -> None:
        """Enough."""
        ctx.actions.escalate = True
        ctx.actions.skip_summarization = True

    writer = LlmAgent("writer", model=ScriptedModel("draft 1", "draft 2"))
    critic = LlmAgent("critic", model=ScriptedModel("shorter", ToolCall("1", "enough")), tools=[enough])
    played = await play(SequentialAgent("s", [LoopAgent("loop", [writer, critic]), says("after", "end")]))
    assert played.texts == ["draft 1", "shorter", "draft 2", "end"]


# Tools that are found


class Growing(Toolset):
    """Has one tool more each time that it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    async def get_tools(self, ctx) -> list[FunctionTool]:
        self.count += 1
        return [FunctionTool(look, name=f"look{n}") for n in range(self.count)]

    async def prepare(self, ctx, request) -> None:
        request.system += f" Prepared for {ctx.path}."


async def test_toolsets_are_asked_once_a_turn_and_may_change_each_request() -> None:
    model = ScriptedModel(ToolCall("1", "look0"), "x", "y")
    a = LlmAgent("a", model=model, tools=[Growing()])
    store = InMemorySessionService()
    await play(a, sessions=store)
    await play(a, sessions=store)
    names = [[spec.name for spec in request.tools] for request in model.requests]
    assert names == [["look0"], ["look0"], ["look0", "look1"]]
    assert all(request.system.endswith(" Prepared for a.") for request in model.requests)


async def test_tools_change_a_request_first_then_their_sets() -> None:
    """adk-go 2.11: each tool's `ProcessRequest`, then each toolset's."""

    class Adds(FunctionTool):
        async def prepare(self, ctx, request) -> None:
            request.system += f" {self.name}."

    model = ScriptedModel("x")
    await play(LlmAgent("a", model=model, tools=[Growing(), Adds(look, name="one"), Adds(look, name="two")]))
    assert model.requests[0].system.endswith(" one. two. Prepared for a.")


# Bad input


async def test_a_tool_that_is_not_there_is_told_to_the_model() -> None:
    model = ScriptedModel(ToolCall("1", "loook"), "sorry")
    assert (await play(LlmAgent("a", model=model, tools=[look]))).run.result.text == "sorry"
    (result,) = results(model)
    assert result.is_error
    assert "'loook' not found. Available tools: look" in result.result


async def test_wrong_arguments_are_told_to_the_model() -> None:
    model = ScriptedModel(ToolCall("1", "add", {"a": "many"}), "sorry")
    assert (await play(LlmAgent("a", model=model, tools=[add]))).run.result.text == "sorry"
    (result,) = results(model)
    assert result.is_error
    assert "a: " in result.result
    assert "b: " in result.result


async def test_a_tool_that_hangs_is_given_up_and_the_model_is_told() -> None:
    async def hang() -> None:
        """Hang."""
        await anyio.sleep_forever()

    model = ScriptedModel(ToolCall("1", "hang"), "sorry")
    assert (await play(LlmAgent("a", model=model, tools=[FunctionTool(hang, timeout=3)]))).run.result.text == "sorry"
    assert "still at work after 3 s" in results(model)[0].result


async def test_a_tool_that_hangs_is_cancelled_with_its_run_and_the_next_turn_is_valid() -> None:
    async def hang() -> None:
        """Hang."""
        run.cancel("enough")
        await anyio.sleep_forever()

    model = ScriptedModel([ToolCall("1", "hang"), ToolCall("2", "look")], "fine")
    async with Runner(LlmAgent("a", model=model, tools=[hang, look])) as runner:
        run = runner.run("go", session_id="s")
        await read(run)
        assert run.result.status == "cancelled"
        await read(runner.run("again", session_id="s"))
    assert [result.id for result in model.requests[1].messages[2].parts] == ["1", "2"]
    assert asked(model)[-1] == ("user", "again")


async def test_a_tool_that_fails_is_told_to_the_model() -> None:
    async def fail() -> None:
        """Fail."""
        raise ValueError("out of order")

    model = ScriptedModel(ToolCall("1", "fail"), "sorry")
    assert (await play(LlmAgent("a", model=model, tools=[fail]))).run.result.text == "sorry"
    assert results(model)[0].is_error
    assert "out of order" in results(model)[0].result


async def test_a_result_of_ten_megabytes_reaches_the_model_shortened() -> None:
    async def huge() -> str:
        """Huge."""
        return "x" * 10_000_000

    model = ScriptedModel(ToolCall("1", "huge"), "that was a lot")
    played = await play(LlmAgent("a", model=model, tools=[huge]))
    assert played.run.result.text == "that was a lot"
    assert len(str(results(model)[0].result)) < 1_000_000


async def test_callbacks_around_tools_are_the_plugins_first_then_the_agents() -> None:
    log: list[str] = []

    class Watcher(Plugin):
        async def before_tool(self, ctx, tool, args):
            log.append(f"plugin before {tool.name}")

        async def after_tool(self, ctx, tool, args, result):
            log.append(f"plugin after {result}")

    a = LlmAgent(
        "a", model=ScriptedModel(ToolCall("1", "add", {"a": 1, "b": 2}), "done"), tools=[add],
        before_tool=[lambda ctx, tool, args: log.append("before"), lambda ctx, tool, args: args.update(b=3)],
        after_tool=lambda ctx, tool, args, result: {"sum": result},
        on_tool_error=lambda ctx, tool, args, error: log.append("error"),
    )  # fmt: skip
    played = await play(a, plugins=[Watcher()])
    assert log == ["plugin before add", "before", "plugin after 4"]
    assert [part.result for event in played.session.events for part in event.parts if type(part) is ToolResult] == [
        {"sum": 4}
    ]


async def test_on_tool_error_can_answer() -> None:
    model = ScriptedModel(ToolCall("1", "add", {}), "done")
    await play(LlmAgent("a", model=model, tools=[add], on_tool_error=lambda ctx, tool, args, error: "never mind"))
    assert results(model) == [ToolResult("1", "add", "never mind")]


# People are asked


@tool(require_confirmation=True)
async def pay(amount: int) -> str:
    """Pay."""
    return f"paid {amount}"


async def answer(root, store: InMemorySessionService, answers: dict[str, object]) -> Played:
    """Let the paused run of session `s` go on."""
    async with Runner(root, sessions=store, app_name="app") as runner:
        async with runner.run(session_id="s", answers=answers) as run:
            events = [event async for event in run]
        session = await store.get(run.session)
    assert session is not None
    return Played(events, run, session)


@pytest.mark.parametrize("agrees", [True, False])
async def test_a_call_that_needs_approval_pauses_the_sequence_and_goes_on_when_answered(agrees: bool) -> None:
    model = ScriptedModel([ToolCall("1", "pay", {"amount": 5}), ToolCall("2", "look")], "done")
    root = SequentialAgent(
        "s", [says("before", "b"), LlmAgent("a", model=model, tools=[pay, look]), says("after", "c")]
    )
    store = InMemorySessionService()
    paused = await play(root, sessions=store, app_name="app")
    assert paused.run.result.status == "paused"
    (question,) = paused.run.result.pending
    assert (question.kind, question.call) == ("confirmation", ToolCall("1", "pay", {"amount": 5}))
    assert paused.texts == ["b"]
    ended = await answer(root, store, {question.id: agrees})
    assert ended.run.result.status == "ok"
    assert ended.texts == ["done", "c"]
    first, second = results(model)
    assert (first.result, first.is_error) == (("paid 5", False) if agrees else ("Tool execution not confirmed", True))
    assert second == ToolResult("2", "look", "seen")
    assert len(model.requests) == 2


async def test_an_agent_alone_pauses_and_its_output_key_is_not_written() -> None:
    model = ScriptedModel(ToolCall("1", "pay", {"amount": 5}), "done")
    root = LlmAgent("a", model=model, tools=[pay], output_key="answer")
    store = InMemorySessionService()
    paused = await play(root, sessions=store, app_name="app")
    assert paused.session.state == {}
    ended = await answer(root, store, {paused.run.result.pending[0].id: True})
    assert ended.session.state == {"answer": "done"}


@pytest.mark.parametrize(("setting", "asked_twice"), [("max_steps", True), ("max_tool_calls", False)])
async def test_limits_of_a_turn_count_what_came_before_a_pause(setting: str, asked_twice: bool) -> None:
    model = ScriptedModel(*[ToolCall(str(n), "pay", {"amount": n}) for n in range(3)])
    root = LlmAgent("a", model=model, tools=[pay], max_steps=None).clone(**{setting: 2})
    store = InMemorySessionService()
    paused = await play(root, sessions=store, app_name="app")
    paused = await answer(root, store, {paused.run.result.pending[0].id: True})
    with pytest.raises(LimitExceeded, match=setting):
        await answer(root, store, {paused.run.result.pending[0].id: True})
    assert len(model.requests) == (2 if asked_twice else 3)


async def test_several_questions_are_answered_one_by_one_and_out_of_order() -> None:
    model = ScriptedModel([ToolCall(str(n), "pay", {"amount": n}) for n in range(3)], "done")
    root = LlmAgent("a", model=model, tools=[pay])
    store = InMemorySessionService()
    played = await play(root, sessions=store, app_name="app")
    ids = [question.id for question in played.run.result.pending]
    for place, left in ((2, 2), (0, 1)):
        played = await answer(root, store, {ids[place]: True})
        assert played.run.result.status == "paused"
        assert len(played.run.result.pending) == left
        assert len(model.requests) == 1
    assert (await answer(root, store, {ids[1]: False})).run.result.text == "done"
    assert [result.result for result in results(model)] == ["paid 0", "Tool execution not confirmed", "paid 2"]


async def test_siblings_of_who_waits_go_on_and_what_follows_the_group_waits() -> None:
    model = ScriptedModel(ToolCall("1", "pay", {"amount": 5}), "paid")
    views = ParallelAgent("p", [LlmAgent("a", model=model, tools=[pay]), says("b", "meanwhile")])
    root = SequentialAgent("s", [views, says("after", "end")])
    store = InMemorySessionService()
    paused = await play(root, sessions=store, app_name="app")
    assert paused.texts == ["meanwhile"]
    ended = await answer(root, store, {paused.run.result.pending[0].id: True})
    assert ended.texts == ["paid", "end"]


def hands(to: str) -> ToolCall:
    return ToolCall(f"to-{to}", "transfer_to_agent", {"agent_name": to})


async def test_who_was_handed_over_to_waits_and_goes_on_in_its_place() -> None:
    child = LlmAgent("child", model=ScriptedModel(ToolCall("1", "pay", {"amount": 5}), "paid"), tools=[pay])
    root = LlmAgent("root", model=ScriptedModel(hands("child")), sub_agents=[child])
    store = InMemorySessionService()
    paused = await play(root, sessions=store, app_name="app")
    assert paused.run.result.pending[0].path == "root.child"
    ended = await answer(root, store, {paused.run.result.pending[0].id: True})
    assert ended.texts == ["paid"]
    assert [event.path for event in ended.events if event.text] == ["root.child"] * 2, "a piece, and the answer"
    assert len(root.model.requests) == 1


async def test_who_has_the_floor_waits_and_goes_on_in_its_place() -> None:
    child = LlmAgent("child", model=ScriptedModel("hello", ToolCall("1", "pay", {"amount": 5}), "paid"), tools=[pay])
    root = LlmAgent("root", model=ScriptedModel(hands("child")), sub_agents=[child])
    store = InMemorySessionService()
    await play(root, sessions=store, app_name="app")
    paused = await play(root, "pay!", sessions=store, app_name="app")
    assert paused.run.result.status == "paused"
    ended = await answer(root, store, {paused.run.result.pending[0].id: True})
    assert ended.texts == ["paid"]
    assert {event.path for event in ended.events} == {"root.child"}


async def test_a_call_that_waits_beside_a_handover_is_answered_first() -> None:
    child = LlmAgent("child", model=ScriptedModel("mine now"))
    root = LlmAgent("root", model=ScriptedModel([ToolCall("1", "pay", {"amount": 5}), hands("child")]), tools=[pay],
                    sub_agents=[child])  # fmt: skip
    store = InMemorySessionService()
    paused = await play(root, sessions=store, app_name="app")
    assert paused.texts == []
    ended = await answer(root, store, {paused.run.result.pending[0].id: True})
    assert ended.texts == ["mine now"]
    assert "paid 5" in str(asked(child.model))
