"""Models of pydantic-ai's, through its own function models."""

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import ModelMessage, ModelRequest as TheirRequest, ModelResponse as TheirResponse
from pydantic_ai.models.function import AgentInfo, DeltaThinkingPart, DeltaToolCall, FunctionModel

from agentflow import (
    Blob,
    ConfigError,
    ModelError,
    ModelResponse,
    ModelSettings,
    ProviderBlock,
    PydanticAIModel,
    Text,
    Thinking,
    ToolCall,
    ToolSpec,
    resolve_model,
)
from tests.models.asking import Pieces, ask, model, result, user


class Asked:
    """What pydantic-ai's model got."""

    def __init__(self) -> None:
        self.messages: list[list[ModelMessage]] = []
        self.info: list[AgentInfo] = []

    def model(self, *pieces: Any) -> PydanticAIModel:
        async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
            self.messages.append(messages)
            self.info.append(info)
            for piece in pieces:
                await anyio.lowlevel.checkpoint()
                if isinstance(piece, Exception):
                    raise piece
                yield piece

        return PydanticAIModel(FunctionModel(stream_function=stream), retry=None)


CALL = (
    {0: DeltaThinkingPart(content="hmm", signature="sg")}, "Hello ", "there",
    {2: DeltaToolCall("clock", '{"zo', tool_call_id="c1")}, {2: DeltaToolCall(None, 'ne": "UTC"}', tool_call_id="c1")},
)  # fmt: skip


async def test_an_answer_is_streamed_and_then_whole() -> None:
    pieces = Pieces()
    answer = await Asked().model(*CALL).call(ask("hi", tools=[ToolSpec("clock")]), pieces)
    thought, words, call, kept = answer.parts
    assert (thought, words) == (Thinking("hmm", extra={"provider": "pydantic-ai"}), Text("Hello there"))
    assert call == ToolCall("c1", "clock", {"zone": "UTC"})
    assert isinstance(kept, ProviderBlock)
    assert answer.finish_reason == "tool_calls"
    assert answer.usage is not None
    assert answer.usage.model_calls == 1
    assert answer.usage.output_tokens > 0
    assert pieces.text == "Hello there"
    assert "".join(part.extra["delta"] for part in pieces.of(ToolCall)) == '{"zone": "UTC"}'


async def test_what_the_provider_said_goes_back_as_it_was() -> None:
    asked = Asked()
    answer = await asked.model(*CALL).call(ask("hi", tools=[ToolSpec("clock")]))
    await asked.model("ok").call(ask("hi", model(*answer.parts), user(result("c1", "noon"), "so?")))
    _, said, told = asked.messages[1]
    assert isinstance(said, TheirResponse)
    assert [part.part_kind for part in said.parts] == ["thinking", "text", "tool-call"]
    assert said.parts[0].signature == "sg"  # type: ignore[union-attr]
    assert isinstance(told, TheirRequest)
    assert [part.part_kind for part in told.parts] == ["tool-return", "user-prompt"]
    assert told.parts[0].tool_name == "clock"  # type: ignore[union-attr]


async def test_a_talk_that_others_had_is_told_in_their_words() -> None:
    asked = Asked()
    settings = ModelSettings(max_tokens=9, temperature=0.5, stop=("END",), extra={"top_k": 3})
    await asked.model("ok").call(
        ask(
            user("look", Blob(b"\x89PNG", "image/png")), model(Thinking("x", "sig"), "I see", ToolCall("c", "clock")),
            user(result("c", "late", is_error=True)), system="Be kind.", settings=settings, tool_choice="any",
            tools=[ToolSpec("clock", "Tells the time.", strict=True)],
        )
    )  # fmt: skip
    first, said, told = asked.messages[0]
    assert [part.part_kind for part in first.parts] == ["user-prompt", "user-prompt"]
    assert [part.part_kind for part in said.parts] == ["text", "tool-call"]
    assert told.instructions == "Be kind."  # type: ignore[union-attr]
    assert told.parts[0].outcome == "failed"  # type: ignore[union-attr]
    info = asked.info[0]
    assert [(tool.name, tool.description, tool.strict) for tool in info.function_tools] == [
        ("clock", "Tells the time.", True)
    ]
    assert info.model_settings == {
        "max_tokens": 9, "temperature": 0.5, "stop_sequences": ["END"], "tool_choice": "required", "top_k": 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [
        (429, "rate_limit", True),
        (401, "auth", False),
        (404, "not_found", False),
        (500, "server", True),
        (400, "bad_request", False),
    ],
)
async def test_failures_have_a_kind(status: int, kind: str, retryable: bool) -> None:
    failing = Asked().model(ModelHTTPError(status_code=status, model_name="m", body={"error": "so it is"}))
    with pytest.raises(ModelError) as caught:
        await failing.call(ask())
    assert (caught.value.kind, caught.value.retryable, caught.value.status) == (kind, retryable, status)


@pytest.mark.parametrize("how", ["cancel", "raise"])
async def test_who_stops_reading_stops_it(how: str) -> None:
    async def stop(piece: ModelResponse) -> None:
        if how == "raise":
            raise KeyError("stop")
        scope.cancel()
        await anyio.lowlevel.checkpoint()

    with anyio.fail_after(5), anyio.CancelScope() as scope:
        if how == "raise":
            with pytest.raises(KeyError):
                await Asked().model("one ", "two ", "three").call(ask(), stop)
        else:
            await Asked().model("one ", "two ", "three").call(ask(), stop)
    assert scope.cancelled_caught == (how == "cancel")


async def test_what_the_reader_raises_is_no_failure_of_the_model() -> None:
    error = ModelHTTPError(status_code=500, model_name="m", body=None)

    async def fail(piece: ModelResponse) -> None:
        raise error

    with pytest.raises(ModelHTTPError) as caught:
        await Asked().model("one").call(ask(), fail)
    assert caught.value is error


def test_names() -> None:
    assert resolve_model("pydantic-ai:google:gemini-3-pro").name == "gemini-3-pro"
    assert resolve_model("pydantic-ai:google:gemini-3-pro").provider == "google"
    with pytest.raises(ConfigError, match="provider:model"):
        resolve_model("pydantic-ai:gemini")


async def test_a_provider_whose_package_is_missing_says_so() -> None:
    with pytest.raises(ConfigError, match="google-genai"):
        await PydanticAIModel("google:gemini-3-pro").call(ask())


def test_without_the_extra_it_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentflow.models.pydantic_ai.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"agentflow-py\[models\]"):
        PydanticAIModel("google:gemini-3-pro")
