"""An agent as a tool: in the same run, under its own path, seeing what it is told."""

import anyio
import pytest
from pydantic import BaseModel

from agentflow import (
    Actions,
    AgentTool,
    ConfigError,
    Data,
    FunctionAgent,
    InMemorySessionService,
    InvocationContext,
    LimitExceeded,
    Limits,
    LoopAgent,
    ParallelAgent,
    Plugin,
    Runner,
    SequentialAgent,
    Thinking,
    ToolContext,
    Usage,
)
from tests.core.actors import fails, hears, play, says
from tests.tools.callers import answers, caller, results

ASK = ("helper", {"request": "please"})


def helper(turn=None, **options) -> FunctionAgent:
    async def replies(ctx: InvocationContext) -> None:
        await ctx.emit(ctx.text(f"you said {ctx.user_text}"))

    return FunctionAgent("helper", turn or replies, **options)


async def test_it_is_told_the_request_and_its_last_words_are_the_result() -> None:
    tool = AgentTool(helper(description="Helps."))
    assert (tool.name, tool.description, tool.parameters["required"]) == ("helper", "Helps.", ["request"])
    played = await play(caller("c", [tool], [ASK]))
    assert answers(played) == ["you said please"]
    [said] = [event for event in played.events if event.text.startswith("you said")]
    assert (said.author, said.path, said.branch) == ("helper", "c.helper", "c.helper#1")


async def test_structured_values_and_groups_are_results_too() -> None:
    async def gives(ctx: InvocationContext) -> None:
        await ctx.emit(ctx.event(Data({"n": 1})))

    team = ParallelAgent("team", [says("a", "A"), says("b", "B")])
    played = await play(caller("c", [AgentTool(helper(gives)), AgentTool(team)], [ASK, ("team", {"request": "x"})]))
    assert answers(played) == [{"n": 1}, ["A", "B"]]


async def test_its_thoughts_are_no_answer_and_one_that_says_nothing_answers_nothing() -> None:
    """adk-go joins thoughts to the answer, and makes an empty object of none."""

    async def thinks(ctx: InvocationContext) -> None:
        await ctx.emit(ctx.event(Thinking("hm, secretly"), "open"))

    async def is_silent(ctx: InvocationContext) -> None:
        ctx.state["done"] = True

    tools = [AgentTool(helper(thinks)), AgentTool(FunctionAgent("silent", is_silent))]
    played = await play(caller("c", tools, [ASK, ("silent", {"request": "x"})]))
    assert answers(played) == ["open", None]
    assert played.session.state["done"] is True, "what it writes is the run's"


async def test_it_sees_only_what_it_is_told_and_nobody_sees_it_but_by_its_answer() -> None:
    heard: list[str] = []
    after: list[str] = []
    tool = AgentTool(hears("helper", heard))
    root = SequentialAgent("s", [says("first", "secret"), caller("c", [tool], [ASK], [ASK]), hears("last", after)])
    await play(root)
    assert heard == ["please", "please"]
    assert after == ["go", "secret", "done"]


async def test_it_may_see_the_talk_where_that_is_wanted() -> None:
    heard: list[str] = []
    tool = AgentTool(hears("helper", heard), isolated=False)
    await play(SequentialAgent("s", [says("first", "known"), caller("c", [tool], [ASK])]))
    assert heard == ["go", "known", "please"]


async def test_by_the_prefix_rule_it_is_apart_too() -> None:
    heard: list[str] = []
    after: list[str] = []
    tool = AgentTool(SequentialAgent("helper", [says("one", "inside"), hears("two", heard)]))
    root = SequentialAgent("s", [says("first", "secret"), caller("c", [tool], [ASK]), hears("last", after)])
    await play(root, visibility="prefix")
    assert heard == ["please", "inside"]
    assert after == ["go", "secret", "done"]


async def test_a_second_call_in_a_loop_begins_afresh() -> None:
    heard: list[str] = []
    tool = AgentTool(SequentialAgent("helper", [hears("ear", heard), says("mouth", "said")]))
    await play(LoopAgent("l", [caller("c", [tool], [ASK])], max_iterations=3))
    assert heard == ["please"] * 3


async def test_agents_inside_see_each_other() -> None:
    heard: list[str] = []
    team = ParallelAgent("team", [says("a", "A"), says("b", "B")])
    tool = AgentTool(SequentialAgent("helper", [team, hears("reducer", heard)]))
    await play(caller("c", [tool], [ASK]))
    assert sorted(heard) == ["A", "B", "please"]


async def test_two_at_once_are_on_lines_of_their_own() -> None:
    here = [anyio.Event(), anyio.Event()]

    async def meets(ctx: InvocationContext) -> None:
        me = int(ctx.user_text)
        here[me].set()
        await here[1 - me].wait()
        await ctx.emit(ctx.text(str(me)))

    tool = AgentTool(helper(meets))
    played = await play(caller("c", [tool], [("helper", {"request": "0"}), ("helper", {"request": "1"})]))
    assert answers(played) == ["0", "1"]
    assert {event.branch for event in played.events if event.path == "c.helper"} == {"c.helper#1", "c.helper#2"}


async def test_plugins_limits_state_and_usage_are_the_runs() -> None:
    seen: list[str] = []

    class Watch(Plugin):
        async def before_agent(self, ctx: InvocationContext) -> None:
            seen.append(ctx.path)

    async def works(ctx: InvocationContext) -> None:
        ctx.state["by"] = ctx.state["given"]
        await ctx.emit(ctx.event("done", usage=Usage(input_tokens=7, model_calls=1)))

    played = await play(caller("c", [AgentTool(helper(works))], [ASK]), state={"given": 3}, plugins=[Watch()])
    assert seen == ["c", "c.helper"]
    assert played.session.state == {"given": 3, "by": 3}
    assert played.run.result.usage.input_tokens == 7
    with pytest.raises(LimitExceeded):
        await play(caller("c", [AgentTool(helper(works))], [ASK]), state={"given": 3}, limits=Limits(tokens=5))


async def test_its_failure_is_a_tool_error() -> None:
    played = await play(caller("c", [AgentTool(fails("helper", "tries"))], [ASK]))
    [result] = results(played)
    assert (result.is_error, result.result) == (True, "ValueError: helper failed")
    with pytest.raises(ValueError, match="helper failed"):
        await play(caller("c", [AgentTool(fails("helper"), on_error="raise")], [ASK]))


async def test_cancelling_the_run_cancels_it_and_its_end_is_stored() -> None:
    async def hangs(ctx: InvocationContext) -> None:
        await ctx.emit(ctx.text("begun"))
        await anyio.sleep_forever()

    store = InMemorySessionService()
    async with Runner(caller("c", [AgentTool(helper(hangs))], [ASK]), sessions=store) as runner:
        async with runner.run("go") as run:
            async for event in run:
                if event.text == "begun":
                    run.cancel("enough")
        session = await store.get(run.session)
    ends = [
        (e.path, e.lifecycle.outcome) for e in session.events if e.lifecycle and e.lifecycle.name == "agent_complete"
    ]
    assert sorted(ends) == [("c", "cancelled"), ("c.helper", "cancelled")]


async def test_a_timeout_of_the_tool_ends_its_turn() -> None:
    async def hangs(ctx: InvocationContext) -> None:
        await anyio.sleep_forever()

    [result] = results(await play(caller("c", [AgentTool(helper(hangs), timeout=5)], [ASK])))
    assert result.result == "tool 'helper' was still at work after 5 s"


async def test_an_escalation_inside_ends_no_loop_of_the_callers() -> None:
    async def escalates(ctx: InvocationContext) -> None:
        await ctx.emit(ctx.event("enough", actions=Actions(escalate=True)))

    root = LoopAgent("l", [caller("c", [AgentTool(helper(escalates))], [ASK])], max_iterations=3)
    assert len(answers(await play(root))) == 3


async def test_arguments_by_a_schema() -> None:
    class Order(BaseModel):
        what: str
        many: int = 1

    tool = AgentTool(helper(), input_schema=Order)
    assert tool.parameters["properties"]["many"]["default"] == 1
    played = await play(caller("c", [tool], [("helper", {"what": "tea"})], [("helper", {"many": "x"})], [ASK]))
    first, second, third = results(played)
    assert first.result == 'you said {"what":"tea","many":1}'
    assert "don't fit the schema of 'helper'" in second.result
    assert third.is_error


@pytest.mark.parametrize("args", [{}, {"request": 3}, {"request": "x", "more": 1}])
async def test_arguments_that_dont_fit_are_told(args: dict) -> None:
    [result] = results(await play(caller("c", [AgentTool(helper())], [("helper", args)])))
    assert (result.is_error, result.result) == (True, "'helper' takes one argument, `request`, a text")


async def test_its_answer_may_be_the_callers() -> None:
    seen: list = []
    await play(caller("c", [AgentTool(helper(), skip_summarization=True)], [ASK], seen=seen))
    assert seen[0].actions == Actions(skip_summarization=True)


async def test_an_agent_that_calls_itself_is_stopped_at_once() -> None:
    turns: list[str] = []

    async def turn(ctx: InvocationContext) -> None:
        turns.append(ctx.path)
        await caller("x", [AgentTool(root)], [("root", {"request": "again"})]).function(ctx)

    root = FunctionAgent("root", turn)
    [result] = results(await play(root))
    assert result.is_error
    assert "agent 'root' can't be a tool of 'root': it is at work there already" in result.result
    assert turns == ["root"]


def test_what_is_no_agent_is_refused() -> None:
    with pytest.raises(ConfigError, match="AgentTool needs an agent"):
        AgentTool("helper")  # type: ignore[arg-type]


async def test_a_function_may_run_agents_too() -> None:
    heard: list[str] = []

    async def consult(ctx: ToolContext, question: str) -> str:
        outcome = await ctx.run(hears("expert", heard), message=question)
        assert outcome.ok
        return (await ctx.run(says("second", "second thought"))).text

    played = await play(caller("c", [consult], [("consult", {"question": "why?"})]))
    assert answers(played) == ["second thought"]
    assert heard == ["go", "why?"]
