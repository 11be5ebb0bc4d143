"""An answer of a given type, where it is kept, and what happens when it doesn't fit."""

from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from agentflow import (
    Capabilities,
    ConfigError,
    Data,
    FunctionAgent,
    InMemorySessionService,
    InvalidAnswer,
    LlmAgent,
    ModelResponse,
    Runner,
    SequentialAgent,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Usage,
)
from agentflow.core import ToolContext
from agentflow.testing import ScriptedModel
from tests.agents.thinking import asked, look
from tests.core.actors import play, read

NO_FORMAT = Capabilities(output_schema=False)
NOT_BESIDE_TOOLS = Capabilities(output_schema_with_tools=False)


class Verdict(BaseModel):
    """What was decided."""

    good: bool
    score: int = Field(ge=0, le=10)


@dataclass
class Point:
    x: int


class Pair(TypedDict):
    left: int


# Where the model can be held to a schema


@pytest.mark.parametrize(
    ("kind", "answer", "value", "name"),
    [
        (Verdict, '{"good": true, "score": 3}', {"good": True, "score": 3}, "Verdict"),
        (Verdict, '```json\n{"good": true, "score": 3}\n```', {"good": True, "score": 3}, "Verdict"),
        (Point, '{"x": 1}', {"x": 1}, "Point"),
        (Pair, '{"left": 1}', {"left": 1}, "Pair"),
        (list[int], '{"result": [1, 2]}', [1, 2], "list"),
        (int, '{"result": 3}', 3, "int"),
        (Verdict | None, '{"result": null}', None, "answer"),
        (dict[str, int], '{"a": 1}', {"a": 1}, "dict"),
    ],
)
async def test_the_answer_is_a_value_beside_its_words(kind: Any, answer: str, value: object, name: str) -> None:
    model = ScriptedModel((Thinking("hm"), answer))
    played = await play(LlmAgent("a", model=model, output_schema=kind))
    assert played.run.result.output == value
    assert played.session.events[-2].parts == (Thinking("hm"), Text(answer), Data(value, schema_name=name))
    wanted = model.requests[0].output_schema
    assert wanted.schema["type"] == "object"
    assert wanted.name == name


async def test_a_wrapped_schema_keeps_its_definitions() -> None:
    model = ScriptedModel('{"result": [{"good": true, "score": 1}]}')
    played = await play(LlmAgent("a", model=model, output_schema=list[Verdict]))
    assert played.run.result.output == [{"good": True, "score": 1}]
    assert "Verdict" in model.requests[0].output_schema.schema["$defs"]


async def test_an_answer_that_does_not_fit_is_repaired_once() -> None:
    bad = ModelResponse(parts=[Text('{"good": true, "score": 11}')], usage=Usage(5, 5, model_calls=1))
    model = ScriptedModel(bad, '{"good": true, "score": 10}', "x")
    first = LlmAgent("a", model=model, output_schema=Verdict)
    played = await play(SequentialAgent("s", [first, LlmAgent("b", model=model)]))
    assert played.texts == ['{"good": true, "score": 11}', '{"good": true, "score": 10}', "x"]
    assert [event.error.type for event in played.session.events if event.error] == ["Misfit"]
    assert played.run.result.usage.model_calls == 3
    assert asked(model, 1) == [
        ("user", "go"),
        ("assistant", '{"good": true, "score": 11}'),
        ("user", ("That answer doesn't fit: score: Input should be less than or equal to 10. "
                 "Give all of it again, as JSON that fits the schema.")),
    ]  # fmt: skip
    assert 'score": 11' not in str(asked(model, 2)), "nobody reads the misfit again"


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        ("Yes.", "it is not JSON"),
        ('{"score": 3}', "good: Field required"),
        ('{"good": "maybe", "score": 3}', "good: Input should be a valid boolean"),
        ("[1]", "Input should be an object"),
        ("", "it is not JSON"),
    ],
)
async def test_a_schema_that_cannot_be_met_is_an_error_that_says_why(answer: str, complaint: str) -> None:
    model = ScriptedModel(answer, answer, answer)
    with pytest.raises(InvalidAnswer, match=complaint) as caught:
        await play(SequentialAgent("s", [LlmAgent("a", model=model, output_schema=Verdict)]))
    assert caught.value.agent == "s.a"
    assert "in 2 attempts" in str(caught.value)
    assert len(model.requests) == 2
    for retries in (0, 2):
        other = ScriptedModel(answer, repeat=True)
        with pytest.raises(InvalidAnswer):
            await play(LlmAgent("a", model=other, output_schema=Verdict, output_retries=retries))
        assert len(other.requests) == retries + 1


async def test_an_unwrapped_answer_to_a_wrapped_schema_does_not_fit() -> None:
    model = ScriptedModel("[1]", '{"result": [1]}')
    assert (await play(LlmAgent("a", model=model, output_schema=list[int]))).run.result.output == [1]


async def test_a_type_that_has_no_schema_is_named() -> None:
    with pytest.raises(ConfigError, match="output_schema: pydantic can't make a JSON schema of"):
        await play(LlmAgent("a", model=ScriptedModel("x"), output_schema=FunctionAgent))


async def test_tools_come_first_and_the_last_answer_is_judged() -> None:
    model = ScriptedModel(("let me see", ToolCall("1", "look")), '{"good": false, "score": 0}')
    played = await play(LlmAgent("a", model=model, output_schema=Verdict, tools=[look]))
    assert played.run.result.output == {"good": False, "score": 0}
    assert all(request.output_schema is not None for request in model.requests)


# Where it can't


@pytest.mark.parametrize(("able", "tools"), [(NO_FORMAT, []), (NO_FORMAT, [look]), (NOT_BESIDE_TOOLS, [look])])
async def test_a_model_without_formats_answers_by_a_tool(able: Capabilities, tools: list) -> None:
    answer = ToolCall("1", "set_model_response", {"good": True, "score": 3})
    model = ScriptedModel(answer, capabilities=able)
    played = await play(LlmAgent("a", model=model, output_schema=Verdict, output_key="verdict", tools=tools))
    request = model.requests[0]
    assert request.output_schema is None
    assert request.tool_choice == ("any" if tools else "set_model_response")
    assert request.tools[-1].parameters["properties"].keys() == {"good", "score"}
    assert "Give your final answer by calling `set_model_response`" in request.system
    assert played.run.result.output == {"good": True, "score": 3}
    assert played.session.state["verdict"] == {"good": True, "score": 3}
    assert played.texts == ['{"good": true, "score": 3}']


async def test_a_model_that_has_formats_but_not_beside_tools_uses_them_where_it_has_no_tools() -> None:
    model = ScriptedModel('{"x": 1}', capabilities=NOT_BESIDE_TOOLS)
    assert (await play(LlmAgent("a", model=model, output_schema=Point))).run.result.output == {"x": 1}
    assert model.requests[0].tools == []


async def test_what_does_not_fit_is_told_as_the_tools_error() -> None:
    calls = [ToolCall(str(n), "set_model_response", {"x": x}) for n, x in enumerate(["no", "never", 1])]
    model = ScriptedModel(*calls, capabilities=NO_FORMAT)
    agent = LlmAgent("a", model=model, output_schema=Point, output_retries=2)
    assert (await play(agent)).run.result.output == {"x": 1}
    (result,) = model.requests[1].messages[-1].parts
    assert result.is_error
    assert "x: Input should be a valid integer" in result.result
    short = ScriptedModel(*calls, capabilities=NO_FORMAT)
    with pytest.raises(InvalidAnswer, match="x: Input should be a valid integer"):
        await play(LlmAgent("a", model=short, output_schema=Point))
    assert len(short.requests) == 2


async def test_an_answer_in_words_where_a_tool_was_asked_for_is_taken_if_it_fits() -> None:
    model = ScriptedModel('{"x": 1}', capabilities=NO_FORMAT)
    assert (await play(LlmAgent("a", model=model, output_schema=Point))).run.result.output == {"x": 1}


async def test_the_next_turn_reads_the_answer_that_was_given_by_tool() -> None:
    model = ScriptedModel(ToolCall("1", "set_model_response", {"x": 1}), "done", capabilities=NO_FORMAT)
    a = LlmAgent("a", model=model, output_schema=Point)
    store = InMemorySessionService()
    await play(a, sessions=store)
    await play(a.clone(output_schema=None), "and?", sessions=store)
    assert asked(model)[-2:] == [("assistant", '{"x": 1}'), ("user", "and?")]


# Where it is kept


async def test_the_final_answer_is_kept_in_state_with_its_event() -> None:
    """adk-go also writes what comes before the final answer, an empty text at each tool call."""
    seen: list[object] = []

    async def peek(ctx: ToolContext) -> str:
        """Peek."""
        seen.append(ctx.state.get("answer", "nothing"))
        return "x"

    model = ScriptedModel(("thinking aloud", ToolCall("1", "peek")), (Thinking("hm"), "the ", "end"))
    played = await play(LlmAgent("a", model=model, tools=[peek], output_key="answer"))
    assert seen == ["nothing"]
    assert played.session.state == {"answer": "the end"}
    assert [event.text for event in played.session.events if event.actions and event.actions.state_delta] == ["the end"]


async def test_a_misfit_is_not_kept() -> None:
    model = ScriptedModel("no", "no")
    async with Runner(LlmAgent("a", model=model, output_schema=Point, output_key="p")) as runner:
        run = runner.run("go", session_id="s")
        with pytest.raises(InvalidAnswer):
            await read(run)
        assert (await runner.sessions.get(run.session)).state == {}


async def test_prefixes_of_state_hold_for_the_output_key() -> None:
    played = await play(LlmAgent("a", model=ScriptedModel("x"), output_key="temp:answer"))
    assert played.session.state == {}
    played = await play(LlmAgent("a", model=ScriptedModel("x"), output_key="user:answer"))
    assert played.session.state == {"user:answer": "x"}


async def test_what_another_agent_says_after_a_handover_is_not_kept() -> None:
    child = LlmAgent("child", model=ScriptedModel("hers"))
    hands = ToolCall("1", "transfer_to_agent", {"agent_name": "child"})
    played = await play(LlmAgent("root", model=ScriptedModel(hands), sub_agents=[child], output_key="answer"))
    assert played.session.state == {}


async def test_a_tools_result_that_is_the_answer_is_kept() -> None:
    async def final(ctx: ToolContext) -> dict[str, int]:
        """The answer."""
        ctx.actions.skip_summarization = True
        return {"n": 1}

    model = ScriptedModel(ToolCall("1", "final"))
    played = await play(LlmAgent("a", model=model, tools=[final], output_key="answer"))
    assert played.session.state == {"answer": {"n": 1}}
    assert played.session.events[-2].parts == (ToolResult("1", "final", {"n": 1}),)
