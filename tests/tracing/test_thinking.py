"""What an agent that thinks leaves in a trace: its model calls and tools below its turn, and who it handed over to."""

from agentflow import AgentTool, LlmAgent, ParallelAgent, Runner, ToolCall
from agentflow.testing import ScriptedModel
from tests.core.actors import says
from tests.tracing.spans import Metered, Traced


async def look() -> str:
    """Look."""
    return "seen"


async def run(root: LlmAgent | ParallelAgent) -> None:
    async with Runner(root) as runner, runner.run("go") as run:
        await run.wait()


async def test_calls_of_models_and_tools_are_below_the_turn_that_made_them(traced: Traced) -> None:
    model = ScriptedModel([ToolCall("1", "look"), ToolCall("2", "ask", {"request": "help"})], "done")
    helper = LlmAgent("helper", model=ScriptedModel("hm", name="small"))
    await run(LlmAgent("a", model=model, tools=[look, AgentTool(helper, name="ask")]))
    traced.shows(
        """
        run a: ok
          invoke_agent a: ok
            chat scripted
            execute_tool look: ok
            execute_tool ask: ok
              invoke_agent helper: ok
                chat small
            chat scripted
        """
    )


async def test_who_was_handed_over_to_is_below_who_handed_over(traced: Traced) -> None:
    over = ToolCall("1", "transfer_to_agent", {"agent_name": "b"})
    await run(LlmAgent("a", model=ScriptedModel(over), sub_agents=[LlmAgent("b", model=ScriptedModel("hello"))]))
    traced.shows(
        """
        run a: ok
          invoke_agent a: ok
            chat scripted
            execute_tool transfer_to_agent: ok
            invoke_agent b: ok
              chat scripted
        """
    )


async def test_a_chat_span_says_whose_call_it_was_and_what_it_cost(traced: Traced) -> None:
    await run(ParallelAgent("p", [LlmAgent("a", model=ScriptedModel("one two three")), says("b")]))
    chat = traced.one("chat scripted")
    assert chat.attributes is not None
    wanted = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "agentflow",
        "gen_ai.request.model": "scripted",
        "gen_ai.agent.name": "a",
        "agentflow.branch": "p.a",
        "gen_ai.usage.output_tokens": 3,
        "gen_ai.response.finish_reasons": ("stop",),
    }
    assert {name: chat.attributes[name] for name in wanted} == wanted
    assert "gen_ai.input.messages" not in chat.attributes


async def test_models_and_tools_are_measured(metered: Metered) -> None:
    await run(LlmAgent("a", model=ScriptedModel(ToolCall("1", "look"), "done"), tools=[look]))
    assert {"gen_ai.client.operation.duration", "gen_ai.execute_tool.duration"} <= set(metered.points())
