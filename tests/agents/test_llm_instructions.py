"""What an agent is told: templates exactly as adk-go's (2.12), functions, and how it becomes one text."""

import pytest

from agentflow import (
    InMemoryArtifactService,
    InstructionError,
    InvalidEvent,
    InvocationContext,
    LlmAgent,
    Runner,
    SequentialAgent,
    ToolCall,
    agent,
    fill_instruction,
)
from agentflow.testing import ScriptedModel
from tests.core.actors import play, read

STATE = {
    "topic": "roses", "count": 3, "none": None, "yes": True, "list": [1, "ü"], "über": "unicode",
    "app:tone": "kind", "user:name": "Ann", "temp:now": "noon",
}  # fmt: skip


async def told(instruction: object, **settings: object) -> str:
    """What the model of an agent with this instruction is told, before the sentence about who it is."""
    model = ScriptedModel("x")
    await play(LlmAgent("a", model=model, instruction=instruction, **settings), state=STATE)
    return model.requests[0].system.removesuffix('You are an agent. Your internal name is "a".').removesuffix("\n\n")


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("", ""),
        ("Write about {topic}.", "Write about roses."),
        ("{topic}{topic}", "rosesroses"),
        ("{ topic }", "roses"),
        ("{{topic}}", "roses"),  # doubled braces don't escape
        ("{{{ topic }}}", "roses"),
        ("{count} {yes} {list}", '3 true [1, "ü"]'),
        ("<{none}>", "<>"),
        ("<{missing?}>", "<>"),
        ("<{topic?}>", "<roses>"),
        ("{app:tone} {user:name} {temp:now}", "kind Ann noon"),
        ("{app:missing?}{user:missing?}{temp:missing?}", ""),
        ("{über}", "unicode"),
        ('{"topic": 1}', '{"topic": 1}'),  # JSON survives
        ("{}", "{}"),
        ("{ }", "{ }"),
        ("{two words}", "{two words}"),
        ("{1st}", "{1st}"),
        ("{other:topic}", "{other:topic}"),
        ("{app:user:topic}", "{app:user:topic}"),
        ("{app:}", "{app:}"),
        ("{topic-1}", "{topic-1}"),
        ("{topic", "{topic"),
        ("topic}", "topic}"),
        ("{a{topic}b}", "{arosesb}"),
        ("{artifact.}", "{artifact.}"),
    ],
)
async def test_a_template_is_filled_as_adk_go_does(template: str, text: str) -> None:
    assert await told(template) == text


async def test_a_missing_key_fails_the_turn_and_says_what_may_be_meant() -> None:
    with pytest.raises(InstructionError, match=r"names \{topik\}.*did you mean \{topic\}\? \(write") as caught:
        await told("Write about {topik}.")
    assert (caught.value.key, caught.value.agent) == ("topik", "a")


async def test_artifacts_are_filled_in_as_text() -> None:
    artifacts = InMemoryArtifactService()
    model = ScriptedModel("x", "y")
    a = LlmAgent("a", model=model, instruction="{artifact.notes.txt}|{artifact.other.txt?}|{artifact.user:all.txt}")

    @agent
    async def saves(ctx: InvocationContext) -> None:
        await ctx.save_artifact("notes.txt", "old")
        await ctx.save_artifact("notes.txt", "new")
        await ctx.save_artifact("user:all.txt", "mine")

    await play(SequentialAgent("s", [saves, a]), artifacts=artifacts)
    assert model.requests[0].system.startswith("new||mine\n\n")
    with pytest.raises(InstructionError, match=r"the artifact 'notes.txt', which isn't there") as caught:
        await play(a.clone(instruction="{artifact.notes.txt}"))
    assert caught.value.key == "artifact.notes.txt"


async def test_what_an_earlier_agent_wrote_can_be_named() -> None:
    model = ScriptedModel("x")
    first = LlmAgent("first", model=ScriptedModel("a plan"), output_key="plan")
    await play(SequentialAgent("s", [first, LlmAgent("second", model=model, instruction="Do {plan}.")]))
    assert model.requests[0].system.startswith("Do a plan.")


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_function_makes_the_instruction_and_its_text_is_taken_as_it_is(asynchronous: bool) -> None:
    def make(ctx: InvocationContext) -> str:
        return f"{ctx.state['topic']} {{topic}}"

    async def make_slowly(ctx: InvocationContext) -> str:
        return make(ctx) + await fill_instruction(" {topic}", ctx)

    assert await told(make_slowly if asynchronous else make) == "roses {topic}" + " roses" * asynchronous


async def test_a_function_that_returns_something_else_is_named() -> None:
    with pytest.raises(InvalidEvent, match="the instruction of agent 'a' must return text, not int"):
        await told(lambda ctx: 3)


async def test_an_instruction_is_made_anew_for_each_call() -> None:
    def count(ctx: InvocationContext) -> str:
        ctx.state["calls"] = ctx.state.get("calls", 0) + 1
        return f"call {ctx.state['calls']}"

    async def look() -> None:
        """Look."""

    model = ScriptedModel(ToolCall("1", "look"), "x")
    await play(LlmAgent("a", model=model, instruction=count, tools=[look]))
    assert [request.system.split("\n")[0] for request in model.requests] == ["call 1", "call 2"]


async def test_the_texts_come_in_order_a_blank_line_between() -> None:
    """Global, own, identity, transfer."""
    model = ScriptedModel("x")
    root = LlmAgent(
        "root", model=model, description="It answers.",
        global_instruction="Be kind, {user:name}.", instruction="Answer.",
        sub_agents=[LlmAgent("helper", description="helps\nwith things"), LlmAgent("aide")],
    )  # fmt: skip
    await play(root, state=STATE)
    assert model.requests[0].system == (
        "Be kind, Ann.\n\n"
        "Answer.\n\n"
        'You are an agent. Your internal name is "root". The description about you is "It answers.".\n\n'
        "You can hand the conversation over to one of these agents:\n"
        "- helper: helps with things\n"
        "- aide\n\n"
        "If, by its description, one of them can answer better than you, call `transfer_to_agent` with its name and "
        "say nothing else. Otherwise answer yourself. The names are: aide, helper."
    )


async def test_global_instructions_hold_for_all_agents_below() -> None:
    """adk-go knows the root's only."""
    leaf = LlmAgent("leaf", model=ScriptedModel("x"), instruction="Leaf.")
    middle = LlmAgent("middle", global_instruction=lambda ctx: "Middle.", sub_agents=[SequentialAgent("s", [leaf])])
    root = LlmAgent("root", global_instruction="Root.", sub_agents=[middle],
                    model=ScriptedModel(ToolCall("1", "transfer_to_agent", {"agent_name": "middle"}),
                                        ToolCall("2", "transfer_to_agent", {"agent_name": "s"})))  # fmt: skip
    await play(root)
    assert leaf.model.requests[0].system.startswith("Root.\n\nMiddle.\n\nLeaf.\n\nYou are")


async def test_a_run_that_fails_on_its_instruction_has_bought_nothing() -> None:
    model = ScriptedModel()
    async with Runner(LlmAgent("a", model=model, instruction="{x}")) as runner:
        with pytest.raises(InstructionError):
            await read(runner.run("go"))
    assert model.requests == []
