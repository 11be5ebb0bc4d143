"""Models for tests do what they are told, and tell when they are asked for something else."""

from collections.abc import AsyncIterator

import pytest

from agentflow import (
    ConfigError,
    Message,
    ModelError,
    ModelRequest,
    ModelResponse,
    ModelSettings,
    Text,
    ToolCall,
    Usage,
)
from agentflow.testing import FunctionModel, ScriptedModel, UnexpectedCall


def ask(text: str) -> ModelRequest:
    return ModelRequest(messages=[Message("user", (Text(text),))])


async def test_a_script_is_followed_and_text_comes_in_pieces() -> None:
    pieces: list[ModelResponse] = []

    async def keep(piece: ModelResponse) -> None:
        pieces.append(piece)

    with ScriptedModel(ToolCall("1", "clock"), "It is noon.") as model:
        first = await model.call(ask("time?"), keep)
        assert (first.tool_calls, first.finish_reason, pieces) == ([ToolCall("1", "clock")], "tool_calls", [])
        second = await model.call(ask("time?"), keep)
    assert second.text == "It is noon."
    assert second.finish_reason == "stop"
    assert second.usage is not None
    assert second.usage.model_calls == 1
    assert [piece.text for piece in pieces] == ["It ", "is ", "noon."]
    assert {piece.response_id for piece in pieces} == {second.response_id}
    assert [request.messages[0].text for request in model.requests] == ["time?", "time?"]


async def test_one_call_too_many_fails_even_if_somebody_swallows_it() -> None:
    model = ScriptedModel("once")
    await model.call(ask("go"))
    with pytest.raises(UnexpectedCall):
        await model.call(ask("again"))
    with pytest.raises(UnexpectedCall, match=r"asked 2 times, its script has 1; the last message was .*again"), model:
        pass


async def test_an_answer_that_nobody_asked_for_fails() -> None:
    with pytest.raises(UnexpectedCall, match="asked 0 times, its script has 1"), ScriptedModel("once"):
        pass


async def test_a_script_raises_repeats_and_looks_at_the_request() -> None:
    error = ModelError("busy", kind="overloaded")
    model = ScriptedModel(error, lambda request: request.messages[0].text.upper(), repeat=True)
    for _ in range(2):
        with pytest.raises(ModelError) as caught:
            await model.call(ask("go"))
        assert caught.value is error
        assert (await model.call(ask("go"))).text == "GO"
    model.check()


async def test_a_function_may_return_await_or_yield() -> None:
    async def later(request: ModelRequest) -> ModelResponse:
        return ModelResponse(parts=(Text("later"),), usage=Usage(5, 1, model_calls=1), finish_reason="max_tokens")

    async def pieces(request: ModelRequest) -> AsyncIterator[str]:
        yield "one "
        yield "two"

    async def keep(piece: ModelResponse) -> None:
        seen.append(piece.text)

    seen: list[str] = []
    assert (await FunctionModel(lambda request: "now").call(ask("x"))).text == "now"
    answer = await FunctionModel(later).call(ask("x"))
    assert (answer.text, answer.finish_reason, answer.usage) == ("later", "max_tokens", Usage(5, 1, model_calls=1))
    assert (await FunctionModel(pieces).call(ask("x"), keep)).text == "one two"
    assert seen == ["one ", "two"]


def test_what_can_not_work_is_refused_when_it_is_made() -> None:
    with pytest.raises(ConfigError):
        ScriptedModel(repeat=True)
    with pytest.raises(ConfigError):
        FunctionModel("hi")  # type: ignore[arg-type]


def test_settings_go_over_others_where_they_say_something() -> None:
    base = ModelSettings(max_tokens=100, stop=("END",), extra={"a": 1, "b": 1})
    assert ModelSettings().over(base) is base
    mine = ModelSettings(max_tokens=5, thinking=False, extra={"b": 2})
    assert mine.over(base) == ModelSettings(max_tokens=5, stop=("END",), thinking=False, extra={"a": 1, "b": 2})


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_tokens": 0}, {"max_tokens": True}, {"temperature": "hot"}, {"effort": "extreme"}, {"thinking": -1},
        {"cache": "2h"}, {"timeout": 0},
    ],
)  # fmt: skip
def test_settings_that_can_not_work_are_refused_when_they_are_made(wrong: dict[str, object]) -> None:
    (name,) = wrong
    with pytest.raises(ConfigError, match=name):
        ModelSettings(**wrong)  # type: ignore[arg-type]


def test_settings_are_read_as_people_write_them() -> None:
    settings = ModelSettings(stop="END", timeout="2m")  # type: ignore[arg-type]
    assert (settings.stop, settings.timeout) == (("END",), 120.0)
