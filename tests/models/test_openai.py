"""OpenAI's Chat Completions through the real SDK, whose requests end at a script."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import anyio
import httpx2
import openai
import pytest

from agentflow import (
    Blob,
    ConfigError,
    ModelError,
    ModelResponse,
    ModelSettings,
    OpenAIModel,
    OutputSchema,
    Retry,
    Text,
    Thinking,
    ToolCall,
    ToolSpec,
    Usage,
    resolve_model,
)
from tests.models.asking import Pieces, ask, model, result, user


@pytest.fixture(autouse=True)
def allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """These requests name OpenAI's own address, and end at a script."""
    monkeypatch.setenv("AGENTFLOW_ALLOW_MODEL_REQUESTS", "1")


CLOCK = ToolSpec("clock", "Tells the time.", {"type": "object", "properties": {"zone": {"type": "string"}}})
USAGE = {
    "prompt_tokens": 30, "completion_tokens": 9, "prompt_tokens_details": {"cached_tokens": 20},
    "completion_tokens_details": {"reasoning_tokens": 4},
}  # fmt: skip


def chunk(reason: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "model": "gpt-6", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


def arguments(text: str, **more: Any) -> dict[str, Any]:
    function = {"arguments": text, **({"name": more.pop("name")} if "name" in more else {})}
    return chunk(tool_calls=[{"index": 0, "function": function, **more}])


class Stream(httpx2.AsyncByteStream):
    def __init__(self, script: "Script", lines: list[bytes]) -> None:
        self.script = script
        self.lines = lines
        script.open += 1
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for line in self.lines:
            await anyio.lowlevel.checkpoint()
            if line == b"drop" or self.closed:
                raise httpx2.ReadError("gone")
            yield line

    async def aclose(self) -> None:
        if not self.closed:
            self.closed = True
            self.script.open -= 1


class Script(httpx2.AsyncBaseTransport):
    """Answers with chunks, or with a status and a body."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.bodies: list[dict[str, Any]] = []
        self.open = 0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.bodies.append(json.loads(await request.aread()))
        answer = self.answers.pop(0)
        if isinstance(answer, tuple):
            status, error, headers = answer
            return httpx2.Response(status, json={"error": error}, headers=headers)
        lines = [line if isinstance(line, bytes) else b"data: %s\n\n" % json.dumps(line).encode() for line in answer]
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=Stream(self, lines))

    def model(self, base_url: str = "https://api.openai.com/v1", **fields: Any) -> OpenAIModel:
        def make() -> openai.AsyncOpenAI:
            return openai.AsyncOpenAI(
                api_key="sk-none", base_url=base_url, http_client=httpx2.AsyncClient(transport=self)
            )

        return OpenAIModel("gpt-6", client=make, **{"retry": Retry(delay=0), **fields})


DONE = b"data: [DONE]\n\n"
HELLO = [
    chunk(role="assistant", content=""), chunk(reasoning_content="hm "), chunk(reasoning="so"), chunk(content="Hello "),
    chunk(content="there"), chunk("stop"), {"id": "chatcmpl-1", "choices": [], "usage": USAGE}, DONE,
]  # fmt: skip


async def test_an_answer_is_streamed_and_then_whole() -> None:
    script, pieces = Script(HELLO), Pieces()
    answer = await script.model().call(ask("hi"), pieces)
    assert answer.parts == (Thinking("hm so", extra={"provider": "openai"}), Text("Hello there"))
    assert (answer.finish_reason, answer.model, answer.response_id) == ("stop", "gpt-6", "chatcmpl-1")
    assert answer.usage is not None
    assert Usage(30, 9, 20, 0, 4, 1, answer.usage.cost) == answer.usage
    assert pieces.text == "Hello there"
    assert script.open == 0


async def test_tools_are_called_also_where_json_is_split() -> None:
    script, pieces = (
        Script([
            arguments("", id="call_1", name="clock"), arguments('{"zo'), arguments('ne": "UTC"}'), chunk("tool_calls"),
            DONE,
        ]),
        Pieces(),
    )  # fmt: skip
    answer = await script.model().call(ask("time?", tools=[CLOCK], tool_choice="any"), pieces)
    assert answer.tool_calls == [ToolCall("call_1", "clock", {"zone": "UTC"})]
    assert answer.finish_reason == "tool_calls"
    assert "".join(part.extra["delta"] for part in pieces.of(ToolCall)) == '{"zone": "UTC"}'
    body = script.bodies[0]
    assert body["tool_choice"] == "required"
    assert body["tools"][0]["function"] == {
        "name": "clock", "description": "Tells the time.", "parameters": CLOCK.parameters,
    }  # fmt: skip


async def test_json_that_can_not_be_read_goes_to_the_tools_own_check() -> None:
    script = Script([arguments("{oops", id="call_1", name="clock"), chunk("tool_calls"), DONE])
    answer = await script.model().call(ask("time?", tools=[CLOCK]))
    assert answer.tool_calls == [ToolCall("call_1", "clock", {"INVALID_JSON": "{oops"})]
    cut = Script([arguments('{"zo', id="call_1", name="clock"), chunk("length"), DONE])
    assert (await cut.model().call(ask("time?", tools=[CLOCK]))).parts == ()


async def test_a_talk_in_their_words() -> None:
    script = Script(HELLO)
    await script.model().call(
        ask(
            user("look", Blob(b"\x89PNG", "image/png"), Blob(b"%PDF", "application/pdf", "a.pdf")),
            model(Thinking("hm", "sig"), "I see", ToolCall("c1", "clock", {"zone": "ü"}), ToolCall("c2", "clock")),
            user("and?", result("c2", {"parts": [{"kind": "blob", "data": "iVBORw==", "mimeType": "image/png"}]})),
            system="Be kind.",
        )
    )
    assert script.bodies[0]["messages"] == [
        {"role": "system", "content": "Be kind."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "look"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}},
                {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERg=="}},
            ],
        },
        {
            "role": "assistant",
            "content": "I see",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "clock", "arguments": '{"zone": "ü"}'}},
                {"id": "c2", "type": "function", "function": {"name": "clock", "arguments": "{}"}},
            ],
        },
        {
            "role": "tool",
            "tool_call_id": "c1",
            "content": "Error: The call was interrupted before it had a result.",
        },
        {"role": "tool", "tool_call_id": "c2", "content": "(see below)"},
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}},
                {"type": "text", "text": "and?"},
            ],
        },
    ]


async def test_settings_in_their_words_and_in_those_of_who_speaks_like_them() -> None:
    settings = ModelSettings(
        max_tokens=9, temperature=0.5, top_p=0.9, stop=("END",), seed=7, effort="low", parallel_tool_calls=False,
        extra={"user": "u"},
    )  # fmt: skip
    schema = {"type": "object", "properties": {}}
    script = Script(HELLO, HELLO)
    request = ask(settings=settings, tools=[CLOCK], tool_choice="clock", output_schema=OutputSchema(schema, "votes"))
    await script.model().call(request)
    await script.model("http://localhost:11434/v1").call(request)
    theirs, other = script.bodies
    assert (theirs.pop("max_completion_tokens"), other.pop("max_tokens")) == (9, 9)
    assert theirs == other
    assert (theirs["temperature"], theirs["top_p"], theirs["stop"], theirs["seed"]) == (0.5, 0.9, ["END"], 7)
    assert (theirs["reasoning_effort"], theirs["parallel_tool_calls"], theirs["user"]) == ("low", False, "u")
    assert theirs["tool_choice"] == {"type": "function", "function": {"name": "clock"}}
    assert theirs["response_format"] == {
        "type": "json_schema",
        "json_schema": {
            "name": "votes", "strict": True,
            "schema": {"type": "object", "properties": {}, "required": [], "additionalProperties": False},
        },
    }  # fmt: skip
    assert (theirs["stream"], theirs["stream_options"]) == (True, {"include_usage": True})


async def test_strict_schemas_are_closed() -> None:
    inner = {"type": "object", "properties": {"b": {"$ref": "#/$defs/B", "default": None}, "default": {"type": "null"}}}
    schema = {"type": "object", "properties": {"a": inner, "n": {"type": "integer", "default": 1}}, "required": ["a"]}
    script = Script(HELLO)
    await script.model().call(
        ask(
            tools=[ToolSpec("t", parameters=schema)], settings=ModelSettings(strict_tools=True),
            output_schema=OutputSchema(schema),
        )
    )  # fmt: skip
    expected = {
        "type": "object",
        "properties": {
            "a": {
                "type": "object",
                "properties": {"b": {"$ref": "#/$defs/B"}, "default": {"type": "null"}},
                "required": ["b", "default"],
                "additionalProperties": False,
            },
            "n": {"type": "integer"},
        },
        "required": ["a", "n"],
        "additionalProperties": False,
    }
    body = script.bodies[0]
    assert body["tools"][0]["function"]["parameters"] == expected
    assert body["tools"][0]["function"]["strict"] is True
    assert body["response_format"]["json_schema"]["schema"] == expected


async def test_a_refusal() -> None:
    script = Script(
        [chunk(refusal="I won't."), chunk("stop"), DONE], [chunk(content="x"), chunk("content_filter"), DONE]
    )
    answer = await script.model().call(ask())
    assert answer.finish_reason == "refusal"
    assert answer.refusal is not None
    assert answer.refusal.explanation == "I won't."
    assert (await script.model().call(ask())).finish_reason == "refusal"


@pytest.mark.parametrize(
    ("status", "error", "kind", "retryable"),
    [
        (400, {"message": "bad", "code": None}, "bad_request", False),
        (400, {"message": "too long", "code": "context_length_exceeded"}, "context_window", False),
        (401, {"message": "key", "code": "invalid_api_key"}, "auth", False),
        (404, {"message": "who", "code": "model_not_found"}, "not_found", False),
        (429, {"message": "slow", "code": "rate_limit_exceeded"}, "rate_limit", True),
        (429, {"message": "pay", "code": "insufficient_quota"}, "billing", False),
        (500, {"message": "oops"}, "server", True),
    ],
)
async def test_failures_have_a_kind(status: int, error: dict[str, Any], kind: str, retryable: bool) -> None:
    script = Script((status, error, {"retry-after": "3", "x-request-id": "req_1"}))
    with pytest.raises(ModelError, match=error["message"]) as caught:
        await script.model(retry=None).call(ask())
    failed = caught.value
    assert (failed.kind, failed.retryable, failed.status) == (kind, retryable, status)
    assert (failed.retry_after, failed.request_id, failed.provider) == (3, "req_1", "openai")


@pytest.mark.parametrize(
    ("lines", "kind"),
    [
        ([b"drop"], "stream"),
        ([], "stream"),
        ([b"data: {oops\n\n"], "stream"),
        ([{"choices": [{"delta": {"tool_calls": [7]}}]}], "stream"),
        ([{"error": {"message": "oops", "code": "server_error"}}], "server"),
    ],
)
async def test_what_breaks_in_the_middle_is_tried_again_unless_it_was_shown(lines: list[Any], kind: str) -> None:
    broken = [chunk(content="Hel"), *lines]
    script = Script(broken, HELLO, broken)
    assert (await script.model().call(ask())).text == "Hello there"
    with pytest.raises(ModelError) as caught:
        await script.model().call(ask(), Pieces())
    assert (caught.value.kind, caught.value.shown) == (kind, True)
    assert script.open == 0


async def test_who_stops_reading_closes_the_connection() -> None:
    async def stop(piece: ModelResponse) -> None:
        raise KeyError("stop")

    script = Script(HELLO)
    with pytest.raises(KeyError):
        await script.model().call(ask(), stop)
    assert script.open == 0


async def test_no_key_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(ConfigError, match="set the environment variable OPENAI_API_KEY"):
        await OpenAIModel("gpt-6").call(ask())


def test_the_name_of_a_model_imports_nothing() -> None:
    assert resolve_model("openai:gpt-6").name == "gpt-6"
    code = "import sys, agentflow; agentflow.resolve_model('openai:gpt-6'); print('openai' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_without_the_extra_it_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentflow.models.openai.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"agentflow-py\[openai\]"):
        OpenAIModel("gpt-6")
