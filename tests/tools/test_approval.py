"""Tool calls that a person has to agree to, tools that ask, and answers that come later."""

from typing import Any

import anyio
import pytest

from agentflow import (
    AgentTool,
    AnswerRefused,
    FunctionAgent,
    InvocationContext,
    ParallelAgent,
    Runner,
    SequentialAgent,
    ToolCall,
    ToolContext,
    ToolResult,
    Toolset,
    tool,
)
from tests.core.actors import says
from tests.tools.callers import caller
from tests.tools.test_pause import Talk, asks


def results(talk: Talk) -> list[ToolResult]:
    return [part for event in talk.events if event.author != "user" for part in event.parts if type(part) is ToolResult]


def asked_for(talk: Talk) -> dict[str, str]:
    """Ids of the questions by the id of the call that they are about."""
    return {question.call.id: question.id for question in talk.runs[-1].result.pending if question.call is not None}


async def answer(talk: Talk, answers: dict[str, Any]) -> None:
    """Answer questions about calls, by the calls' ids."""
    ids = asked_for(talk)
    by_id = {ids[call]: value for call, value in answers.items()}
    runner = Runner(talk.root, sessions=talk.store, **talk.settings)
    async with runner, runner.run(session_id="s", answers=by_id) as run:
        talk.events = [event async for event in run]
    talk.runs.append(run)


class Till:
    """Pays, and keeps account of it."""

    def __init__(self, **settings: Any) -> None:
        self.paid: list[int] = []
        self.keys: list[str] = []
        self.tool = tool(require_confirmation=True, name="pay", **settings)(self.pay)

    async def pay(self, ctx: ToolContext, amount: int) -> str:
        self.paid.append(amount)
        self.keys.append(ctx.idempotency_key)
        return f"paid {amount}"


async def test_a_call_waits_until_it_is_approved() -> None:
    till = Till()
    talk = Talk(SequentialAgent("s", [caller("c", [till.tool], [("pay", {"amount": 5})]), says("after", "after")]))
    run = await talk.say("go")
    assert (till.paid, run.result.status) == ([], "paused")
    [result] = results(talk)
    assert (result.is_error, result.result) == (True, "tool 'pay' requires confirmation, please approve or reject")
    [question] = run.result.pending
    assert (question.kind, question.call) == ("confirmation", ToolCall("c1-1", "pay", {"amount": 5}))
    await answer(talk, {"c1-1": True})
    assert till.paid == [5]
    assert [(result.id, result.result, result.is_error) for result in results(talk)] == [("c1-1", "paid 5", False)]
    assert talk.texts == ["done", "after"]


async def test_what_is_stored_is_adks_protocol() -> None:
    till = Till()
    talk = Talk(caller("c", [till.tool], [("pay", {"amount": 5})]))
    run = await talk.say("go")
    log = await talk.log()
    [asked] = [event for event in log if event.long_running_tool_ids]
    [call] = asked.parts
    assert call.name == "adk_request_confirmation"
    assert call.id.startswith("adk-")
    assert call.args == {
        "originalFunctionCall": {"id": "c1-1", "name": "pay", "args": {"amount": 5}},
        "toolConfirmation": {"hint": "Please approve or reject the call of tool 'pay'.", "confirmed": False},
    }
    [answered] = [event for event in log if any(type(part) is ToolResult for part in event.parts)]
    assert answered.actions is not None
    assert answered.actions.skip_summarization
    response = ToolResult(run.result.pending[0].id, "adk_request_confirmation", {"response": '{"confirmed": true}'})
    await talk.say(response)
    assert till.paid == [5]


async def test_a_call_that_is_refused_isnt_made_and_the_model_is_told() -> None:
    till = Till()
    talk = Talk(caller("c", [till.tool], [("pay", {"amount": 5})]))
    await talk.say("go")
    await answer(talk, {"c1-1": False})
    [result] = results(talk)
    assert (till.paid, result.is_error, result.result) == ([], True, "Tool execution not confirmed")
    assert talk.texts == ["done"]


async def test_other_calls_of_the_turn_are_made_and_not_made_again() -> None:
    till = Till()
    looked: list[int] = []

    async def look(n: int) -> int:
        looked.append(n)
        return n

    talk = Talk(caller("c", [till.tool, look], [("look", {"n": 1}), ("pay", {"amount": 5}), ("look", {"n": 2})]))
    await talk.say("go")
    assert [(result.id, result.is_error) for result in results(talk)] == [
        ("c1-1", False),
        ("c1-2", True),
        ("c1-3", False),
    ]
    await answer(talk, {"c1-2": True})
    assert looked == [1, 2]
    assert [result.id for result in results(talk)] == ["c1-2"]


async def test_several_are_answered_at_once_or_out_of_order_and_the_turn_goes_on_with_the_last() -> None:
    till = Till()
    talk = Talk(caller("c", [till.tool], [("pay", {"amount": n}) for n in (1, 2, 3)]))
    await talk.say("go")
    await answer(talk, {"c1-3": True})
    assert (till.paid, talk.texts, sorted(asked_for(talk))) == ([3], [], ["c1-1", "c1-2"])
    await answer(talk, {"c1-2": False, "c1-1": True})
    assert (till.paid, talk.texts) == ([3, 1], ["done"])


async def test_calls_of_parallel_branches_wait_each_for_its_own_answer() -> None:
    till = Till()
    branches = [caller(name, [till.tool], [("pay", {"amount": n})]) for n, name in enumerate("ab", 1)]
    talk = Talk(ParallelAgent("p", branches))
    run = await talk.say("go")
    by_branch = {question.branch: question.id for question in run.result.pending}
    async with Runner(talk.root, sessions=talk.store) as runner:
        async with runner.run(session_id="s", answers={by_branch["p.b"]: True}) as run:
            await run.wait()
        assert (till.paid, run.result.status) == ([2], "paused")
        async with runner.run(session_id="s", answers={by_branch["p.a"]: True}) as run:
            await run.wait()
    assert (till.paid, run.result.status) == ([2, 1], "ok")


async def test_the_key_of_a_call_is_the_same_before_and_after_the_approval() -> None:
    keys: list[str] = []

    async def pay(ctx: ToolContext) -> str:
        keys.append(ctx.idempotency_key)
        ctx.request_confirmation("Really?")
        return "paid"

    talk = Talk(caller("c", [pay], [("pay", {})]))
    await talk.say("go")
    await answer(talk, {"c1-1": True})
    assert len(keys) == 2
    assert len(set(keys)) == 1


async def test_whether_it_must_be_confirmed_may_depend_on_the_arguments() -> None:
    async def expensive(ctx: ToolContext, args: dict[str, Any]) -> bool:
        return args["amount"] > 10

    paid: list[int] = []

    @tool(require_confirmation=expensive)
    async def pay(amount: int) -> None:
        paid.append(amount)

    talk = Talk(caller("c", [pay], [("pay", {"amount": 5}), ("pay", {"amount": 50})]))
    await talk.say("go")
    assert (paid, list(asked_for(talk))) == ([5], ["c1-2"])


async def test_a_tool_may_ask_with_a_payload_and_read_what_was_said() -> None:
    said: list[Any] = []

    async def book(ctx: ToolContext, days: int) -> str:
        confirmation = ctx.request_confirmation("How many days?", payload={"days": days})
        said.append(confirmation)
        return "booked" if confirmation.confirmed else "not booked"

    talk = Talk(caller("c", [book], [("book", {"days": 3})]))
    run = await talk.say("go")
    [question] = run.result.pending
    assert (question.message, question.payload) == ("How many days?", {"days": 3})
    await answer(talk, {"c1-1": {"confirmed": True, "payload": {"days": 2}}})
    assert [(one.confirmed, one.payload) for one in said] == [(True, {"days": 2})]


@pytest.mark.parametrize(
    "wrong",
    [
        "yes",
        1,
        {"confirmed": "yes"},
        {"response": "not json"},
        {"response": '{"confirmed": 1}'},
        {"confirmed": True, "originalFunctionCall": {"id": "c1-1", "name": "pay", "args": {"amount": 5000}}},
    ],
)
async def test_what_is_no_answer_is_refused(wrong: Any) -> None:
    till = Till()
    talk = Talk(caller("c", [till.tool], [("pay", {"amount": 5})]))
    await talk.say("go")
    before = len(await talk.log())
    with pytest.raises(AnswerRefused):
        await answer(talk, {"c1-1": wrong})
    assert (till.paid, len(await talk.log())) == ([], before)


async def test_a_question_that_was_changed_in_the_log_is_refused() -> None:
    till = Till()
    talk = Talk(caller("c", [till.tool], [("pay", {"amount": 5})]))
    await talk.say("go")
    [info] = await talk.store.list("c")
    session = await talk.store.get(info.key)
    assert session is not None
    [asked] = [event for event in session.events if event.long_running_tool_ids]
    asked.parts[0].args["originalFunctionCall"]["args"]["amount"] = 5000
    with pytest.raises(AnswerRefused, match="no model made"):
        await answer(talk, {"c1-1": True})


async def test_all_tools_of_a_set_may_have_to_be_confirmed() -> None:
    class Set(Toolset):
        async def get_tools(self, ctx: InvocationContext) -> list[Any]:
            async def one() -> str:
                return "one"

            return [one]

    talk = Talk(caller("c", [Set(require_confirmation=True, prefix="my_")], [("my_one", {})]))
    await talk.say("go")
    await answer(talk, {"c1-1": True})
    assert [result.result for result in results(talk)] == ["one"]


# Tools that ask


async def test_a_tool_may_ask_for_input_and_begins_again_when_it_has_come() -> None:
    begun: list[str] = []

    async def book(ctx: ToolContext, where: str) -> str:
        begun.append(where)
        days = await ctx.request_input(f"Days in {where}?", schema=int)
        who = await ctx.request_input("Who?")
        return f"{days} days in {where} for {who}"

    talk = Talk(caller("c", [book], [("book", {"where": "Rome"})]))
    await talk.say("go")
    assert talk.pending == ["Days in Rome?"]
    await talk.say(Days=3)
    assert talk.pending == ["Who?"]
    await talk.say(**{"Who?": "two"})
    assert [result.result for result in results(talk)] == ["3 days in Rome for two"]
    assert begun == ["Rome"] * 3


async def test_a_tool_may_ask_from_within_its_own_task_group() -> None:
    async def book(ctx: ToolContext) -> list[Any]:
        answers: list[Any] = []
        async with anyio.create_task_group() as tasks:

            async def ask() -> None:
                answers.append(await ctx.request_input("Days?"))

            tasks.start_soon(ask)
        return answers

    talk = Talk(caller("c", [book], [("book", {})]))
    await talk.say("go")
    assert talk.pending == ["Days?"]
    await talk.say(**{"Days?": 3})
    assert [result.result for result in results(talk)] == [[3]]


async def test_two_calls_of_one_tool_ask_each_for_itself() -> None:
    async def book(ctx: ToolContext, where: str) -> str:
        return f"{where}: {await ctx.request_input(where)}"

    talk = Talk(caller("c", [book], [("book", {"where": "Rome"}), ("book", {"where": "Bonn"})]))
    await talk.say("go")
    assert sorted(talk.pending) == ["Bonn", "Rome"]
    await talk.say(Bonn=2)
    assert [result.result for result in results(talk) if not result.is_error] == ["Bonn: 2"]
    await talk.say(Rome=1)
    assert [result.result for result in results(talk)] == ["Rome: 1"]
    assert talk.texts == ["done"]


async def test_an_agent_that_is_a_tool_may_ask_and_its_caller_waits() -> None:
    talk = Talk(caller("c", [AgentTool(asks("helper", "Help"))], [("helper", {"request": "please"})]))
    run = await talk.say("go")
    assert [(q.path, q.branch) for q in run.result.pending] == [("c.helper", "c.helper#1")]
    await talk.say(Help="fine")
    assert [result.result for result in results(talk)] == ["helper: fine"]
    assert talk.texts == ["helper: fine", "done"]
    starts = [(record.agent_name, record.resumed) for record in talk.records("agent_start")]
    assert starts == [("c", True), ("helper", True)]


async def test_a_tool_call_deep_inside_may_have_to_be_confirmed() -> None:
    till = Till()
    inner = caller("inner", [till.tool], [("pay", {"amount": 5})])
    middle = caller("middle", [AgentTool(SequentialAgent("s", [inner, says("end", "end")]))], [("s", {"request": "x"})])
    talk = Talk(caller("outer", [AgentTool(middle)], [("middle", {"request": "x"})]))
    run = await talk.say("go")
    assert [q.path for q in run.result.pending] == ["outer.middle.s.inner"]
    await answer(talk, {"c1-1": True})
    assert till.paid == [5]
    assert talk.runs[-1].result.status == "ok"
    assert talk.texts == ["done", "end", "done", "done"]


# Answers that come later


async def test_a_long_running_tool_that_has_no_answer_yet_pauses_the_run_until_it_comes() -> None:
    orders: list[str] = []

    @tool(long_running=True)
    async def order(ctx: ToolContext) -> None:
        orders.append(ctx.call.id)

    talk = Talk(SequentialAgent("s", [caller("c", [order], [("order", {})]), says("after", "after")]))
    run = await talk.say("go")
    [question] = run.result.pending
    assert (question.kind, question.id, question.path) == ("result", "c1-1", "s.c")
    await talk.say(ToolResult("c1-1", "order", {"delivered": True}))
    assert [(result.id, result.result, result.is_error) for result in results(talk)] == [
        ("c1-1", {"delivered": True}, False)
    ]
    assert (talk.texts, orders) == (["done", "after"], ["c1-1"])


async def test_a_long_running_tool_may_say_where_it_stands_and_the_run_goes_on() -> None:
    @tool(long_running=True)
    async def order() -> dict[str, str]:
        return {"status": "pending"}

    talk = Talk(caller("c", [order], [("order", {})]))
    run = await talk.say("go")
    assert (run.result.status, [result.result for result in results(talk)]) == ("ok", [{"status": "pending"}])
    with pytest.raises(AnswerRefused, match="is a question of 'order'"):
        await talk.say(ToolResult("c1-1", "other", "x"))
    later = await talk.say(ToolResult("c1-1", "order", {"status": "delivered"}))
    assert later.id != run.id
    told = [part for event in await talk.log() if event.author == "user" for part in event.parts]
    assert told[-1] == ToolResult("c1-1", "order", {"status": "delivered"})


async def test_a_plain_call_takes_no_answer_from_outside() -> None:
    async def look() -> str:
        return "seen"

    talk = Talk(caller("c", [look], [("look", {})]))
    await talk.say("go")
    with pytest.raises(AnswerRefused, match="nobody asked 'c1-1'"):
        await talk.say(ToolResult("c1-1", "look", "forged"))


async def test_a_custom_agent_may_ask_before_it_calls_another() -> None:
    async def director(ctx: InvocationContext) -> None:
        if await ctx.request_input("Publish?", schema=bool):
            await ctx.run(says("publisher", "published"))

    talk = Talk(FunctionAgent("director", director))
    await talk.say("go")
    assert talk.texts == []
    await talk.say(**{"Publish?": True})
    assert talk.texts == ["published"]
