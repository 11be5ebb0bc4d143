"""Claude on the real SDK, whose requests end at a fake of the API."""

import json
import subprocess
import sys
from importlib.util import find_spec
from typing import Any

import anthropic
import anyio
import pytest

from agentflow import (
    AnthropicModel,
    Blob,
    ConfigError,
    FileRef,
    ModelError,
    ModelSettings,
    OutputSchema,
    ProviderBlock,
    Retry,
    ServerTool,
    Text,
    Thinking,
    ToolCall,
    ToolSpec,
    Usage,
    resolve_model,
)
from agentflow.testing import FakeAnthropic, fails, says
from tests.models.asking import Pieces, ask, model, result, user

CLOCK = ToolSpec("clock", "Tells the time.", {"type": "object", "properties": {"zone": {"type": "string"}}})


NAME = "claude-opus-5-5"


async def body_of(settings: ModelSettings | None = None, name: str = NAME, **fields: Any) -> dict[str, Any]:
    """What is sent for a request."""
    fake = FakeAnthropic("ok")
    await fake.model(name).call(ask("hi", settings=settings or ModelSettings(), **fields))
    return fake.requests[0].body


async def test_an_answer_is_streamed_and_then_whole() -> None:
    call = ToolCall("toolu_1", "clock", {"zone": "UTC", "n": [1, 2]})
    fake = FakeAnthropic(says(Thinking("let me see", "sig-1"), "It is noon.", call))
    pieces = Pieces()
    answer = await fake.model().call(ask("time?", tools=[CLOCK]), pieces)
    assert answer.parts == (Thinking("let me see", "sig-1"), Text("It is noon."), call)
    assert (answer.finish_reason, answer.model, answer.response_id) == ("tool_calls", "claude-opus-5-5", "msg_1")
    assert pieces.text == "It is noon."
    assert "".join(part.text for part in pieces.of(Thinking)) == "let me see"
    deltas = [part.extra["delta"] for part in pieces.of(ToolCall)]
    assert json.loads("".join(deltas)) == {"zone": "UTC", "n": [1, 2]}
    assert {piece.response_id for piece in pieces.all} == {"msg_1"}
    assert fake.open_streams == 0
    assert fake.requests[0].headers["content-type"] == "application/json"
    assert fake.requests[0].headers["authorization"] == "Bearer sk-ant-fake"


async def test_several_tools_at_once() -> None:
    calls = [ToolCall(f"toolu_{n}", "clock", {"zone": 'é"\\' * n}) for n in range(3)]
    answer = await FakeAnthropic(says(*calls)).model().call(ask("go", tools=[CLOCK]))
    assert answer.tool_calls == calls


async def test_what_it_said_goes_back_as_it_came() -> None:
    citations = [
        {"type": "char_location", "cited_text": "x", "document_index": 0, "start_char_index": 0, "end_char_index": 1}
    ]
    search = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "noon"}}
    found = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [{"type": "web_search_result"}]}
    said = (
        Thinking("hm", "sig"), Thinking(redacted="opaque"), Text("cited", extra={"citations": citations}),
        ProviderBlock("anthropic", search), ProviderBlock("anthropic", found),
        ProviderBlock("anthropic", {"type": "compaction", "content": "short", "signature": "s"}),
        ToolCall("toolu_1", "clock", {}, extra={"caller": {"type": "direct"}}),
    )  # fmt: skip
    fake = FakeAnthropic(says(*said), "ok")
    answer = await fake.model().call(ask("go", tools=[CLOCK]))
    assert tuple(answer.parts) == said
    await fake.model().call(ask("go", model(*answer.parts), user(result("toolu_1")), tools=[CLOCK]))
    assert fake.requests[1].body["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": "sig"},
        {"type": "redacted_thinking", "data": "opaque"},
        {"type": "text", "text": "cited", "citations": citations},
        search,
        found,
        {"type": "compaction", "content": "short", "signature": "s"},
        {"type": "tool_use", "id": "toolu_1", "name": "clock", "input": {}, "caller": {"type": "direct"}},
    ]


async def test_settings_in_the_providers_words() -> None:
    body = await body_of(
        ModelSettings(
            max_tokens=500, temperature=0.5, top_p=0.9, stop=("END",), effort="low", parallel_tool_calls=False,
            extra={"service_tier": "auto"},
        ),
        system="Be kind.",
        tools=[CLOCK, ToolSpec("strict", strict=True), ServerTool({"type": "web_search_20260318", "name": "search"})],
        tool_choice="clock",
    )  # fmt: skip
    assert body["max_tokens"] == 500
    assert (body["temperature"], body["top_p"], body["stop_sequences"]) == (0.5, 0.9, ["END"])
    assert body["output_config"] == {"effort": "low"}
    assert body["service_tier"] == "auto"
    assert body["stream"] is True
    assert body["tool_choice"] == {"type": "tool", "name": "clock", "disable_parallel_tool_use": True}
    clock, strict, search = body["tools"]
    assert clock == {"name": "clock", "description": "Tells the time.", "input_schema": CLOCK.parameters}
    assert strict["strict"] is True
    assert strict["input_schema"]["additionalProperties"] is False
    (all_strict,) = (await body_of(ModelSettings(strict_tools=True), tools=[CLOCK]))["tools"]
    assert all_strict["strict"] is True
    assert search == {"type": "web_search_20260318", "name": "search"}


async def test_tools_that_the_api_knows_by_their_type() -> None:
    memory = ToolSpec("memory", "Remembers.", extra={"type": "memory_20250818"})
    later = ToolSpec("later", "Rarely used.", extra={"defer_loading": True})
    tools = (await body_of(tools=[memory, later]))["tools"]
    assert tools[0] == {"name": "memory", "type": "memory_20250818"}
    assert tools[1]["defer_loading"] is True


async def test_documents_may_be_cited() -> None:
    fake = FakeAnthropic("ok")
    paper = Blob(b"a", "text/plain", "paper", extra={"citations": {"enabled": True}})
    await fake.model().call(ask(user(paper)))
    assert fake.requests[0].body["messages"][0]["content"][0]["citations"] == {"enabled": True}


async def test_the_prompt_is_cached_unless_that_is_turned_off() -> None:
    mark = {"type": "ephemeral"}
    body = await body_of(system="Be kind.")
    assert (body["system"][0]["cache_control"], body["cache_control"]) == (mark, mark)
    hour = await body_of(ModelSettings(cache="1h"), system="Be kind.")
    assert hour["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    plain = await body_of(ModelSettings(cache=False), system="Be kind.")
    assert "cache_control" not in json.dumps(plain)


@pytest.mark.parametrize(
    ("name", "wanted", "thinking"),
    [
        ("claude-opus-5-5", True, {"type": "adaptive"}),
        ("claude-haiku-4-5", True, {"type": "enabled", "budget_tokens": 16_000}),
        ("us.anthropic.claude-sonnet-4-5-v1:0", True, {"type": "enabled", "budget_tokens": 16_000}),
        ("claude-opus-4-6", True, {"type": "adaptive"}),
        ("claude-opus-5-5", 2000, {"type": "enabled", "budget_tokens": 2000}),
        ("claude-opus-5-5", False, {"type": "disabled"}),
        ("claude-opus-5-5", None, None),
    ],
)
async def test_thinking(name: str, wanted: Any, thinking: Any) -> None:
    body = await body_of(ModelSettings(thinking=wanted, temperature=0.3), name)
    assert body.get("thinking") == thinking
    assert ("temperature" in body) == (wanted in (False, None))


async def test_thinking_and_forced_tools_do_not_go_together() -> None:
    body = await body_of(ModelSettings(thinking=True), tools=[CLOCK], tool_choice="any")
    assert "thinking" not in body
    shown = await body_of(ModelSettings(thinking=True, show_thinking=True))
    assert shown["thinking"] == {"type": "adaptive", "display": "summarized"}


async def test_a_loop_that_began_without_a_thought_goes_on_without() -> None:
    fake = FakeAnthropic("ok")
    talk = ("go", model(ToolCall("toolu_1", "clock")), user(result("toolu_1")))
    await fake.model("claude-haiku-4-5").call(ask(*talk, tools=[CLOCK], settings=ModelSettings(thinking=2000)))
    assert "thinking" not in fake.requests[0].body


async def test_an_answer_by_a_schema() -> None:
    schema = {"type": "object", "properties": {"votes": {"type": "integer", "minimum": 1}}, "required": ["votes"]}
    format_ = (await body_of(output_schema=OutputSchema(schema)))["output_config"]["format"]
    assert format_["type"] == "json_schema"
    assert format_["schema"]["additionalProperties"] is False
    assert format_["schema"]["required"] == ["votes"]


async def test_beta_features_are_asked_for_by_header() -> None:
    fake = FakeAnthropic("ok")
    edits = {"edits": [{"type": "clear_tool_uses_20250919"}, {"type": "compact_20260112"}]}
    settings = ModelSettings(extra={"context_management": edits, "betas": ["fast-mode-2026-02-01"]})
    await fake.model(betas=["skills-2025-10-02"]).call(ask(settings=settings))
    request = fake.requests[0]
    assert request.path == "/v1/messages?beta=true"
    assert request.headers["anthropic-beta"].split(",") == [
        "skills-2025-10-02", "fast-mode-2026-02-01", "context-management-2025-06-27", "compact-2026-01-12",
    ]  # fmt: skip
    assert request.body["context_management"] == edits
    assert "betas" not in request.body


async def test_pictures_documents_and_files() -> None:
    fake = FakeAnthropic("ok")
    await fake.model().call(
        ask(
            user(
                Blob(b"\x89PNG", "image/png"), Blob(b"%PDF", "application/pdf", "paper.pdf"), Blob(b"a,b", "text/csv"),
                Blob(b"\x00", "application/zip", "all.zip"), FileRef("https://x.test/cat.jpg"),
                FileRef("https://x.test/doc", "application/pdf", "doc"), FileRef("file-id:file_1"), FileRef("gs://b/x"),
            )
        )
    )  # fmt: skip
    assert fake.requests[0].body["messages"][0]["content"] == [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw=="}},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERg=="},
            "title": "paper.pdf",
        },
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "a,b"}},
        {"type": "text", "text": "[all.zip: application/zip, 1 bytes, which can't be shown]"},
        {"type": "image", "source": {"type": "url", "url": "https://x.test/cat.jpg"}},
        {"type": "document", "source": {"type": "url", "url": "https://x.test/doc"}, "title": "doc"},
        {"type": "document", "source": {"type": "file", "file_id": "file_1"}},
        {"type": "text", "text": "[a file: gs://b/x]"},
    ]


async def test_a_paused_turn_goes_on() -> None:
    search = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "noon"}}
    found = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}
    fake = FakeAnthropic(
        says("Looking.", ProviderBlock("anthropic", search), stop_reason="pause_turn", output_tokens=5),
        says(ProviderBlock("anthropic", found), "Found.", output_tokens=7),
    )
    pieces = Pieces()
    answer = await fake.model().call(ask("go"), pieces)
    assert answer.text == "Looking.Found."
    assert [type(part).__name__ for part in answer.parts] == ["Text", "ProviderBlock", "ProviderBlock", "Text"]
    assert (answer.finish_reason, answer.response_id) == ("stop", "msg_1")
    assert {piece.response_id for piece in pieces.all} == {"msg_1"}
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.model_calls) == (200, 12, 2)
    assert [message["role"] for message in fake.requests[1].body["messages"]] == ["user", "assistant"]


async def test_a_paused_turn_that_can_not_go_on_now_is_what_there_is() -> None:
    search = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
    paused = says("Looking.", ProviderBlock("anthropic", search), stop_reason="pause_turn")
    fake = FakeAnthropic(paused, fails(529), says("Done."))
    answer = await fake.model(retry=None).call(ask("go"))
    assert (answer.text, answer.finish_reason) == ("Looking.", "pause")
    assert answer.usage is not None
    assert answer.usage.model_calls == 1
    again = await fake.model().call(ask("go", model(*answer.parts)))
    assert again.text == "Done."
    assert fake.requests[2].body["messages"][-1]["content"][-1]["id"] == "srvtoolu_1"


async def test_a_talk_that_was_compacted_goes_on_from_its_summary() -> None:
    summary = {"type": "compaction", "content": "They said hi.", "signature": "s"}
    fake = FakeAnthropic(says(ProviderBlock("anthropic", summary), stop_reason="compaction"), "Where were we?", "Here.")
    settings = ModelSettings(extra={"context_management": {"edits": [{"type": "compact_20260112"}]}})
    claude = fake.model(settings=settings)
    answer = await claude.call(ask("hi"))
    assert answer.parts == (ProviderBlock("anthropic", summary), Text("Where were we?"))
    await claude.call(ask("hi", model(*answer.parts), "Tell me."))
    assert fake.requests[2].body["messages"][1]["content"][0] == summary
    assert fake.requests[2].headers["anthropic-beta"] == "compact-2026-01-12"


async def test_what_was_shown_of_the_rest_of_a_turn_is_not_taken_back() -> None:
    search = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
    paused = says("Looking.", ProviderBlock("anthropic", search), stop_reason="pause_turn")
    fake = FakeAnthropic(paused, says("Found it.").breaking("drop", 4))
    with pytest.raises(ModelError) as caught:
        await fake.model().call(ask("go"), Pieces())
    assert (caught.value.kind, caught.value.shown, caught.value.usage.model_calls) == ("stream", True, 2)


async def test_how_it_ends() -> None:
    details = {"type": "refusal", "category": "bio", "explanation": "No."}
    fake = FakeAnthropic(
        says("I", stop_reason="refusal", stop_details=details),
        says("a", stop_reason="model_context_window_exceeded"),
        says("b", stop_reason="max_tokens"),
        says("c", stop_reason="stop_sequence"),
        says("d", stop_reason="something_new"),
    )
    claude = fake.model()
    refused = await claude.call(ask())
    assert refused.finish_reason == "refusal"
    assert refused.refusal is not None
    assert (refused.refusal.category, refused.refusal.explanation) == ("bio", "No.")
    reasons = [(await claude.call(ask())).finish_reason for _ in range(4)]
    assert reasons == ["context_window", "max_tokens", "stop_sequence", "other"]


async def test_a_tool_call_that_was_cut_off_in_its_arguments_is_not_made() -> None:
    whole = says(ToolCall("toolu_1", "clock", {"zone": "Europe/Berlin"}), stop_reason="max_tokens")
    cut = tuple(event for place, event in enumerate(whole.events) if place not in (5, 6, 7))
    answer = await FakeAnthropic(type(whole)(events=cut, headers=whole.headers)).model().call(ask(tools=[CLOCK]))
    assert (answer.parts, answer.finish_reason) == ((), "max_tokens")


async def test_usage_counts_all_input_and_what_it_costs() -> None:
    fake = FakeAnthropic(says("ok", input_tokens=10, output_tokens=20, cache_read=1000, cache_write=100))
    usage = (await fake.model().call(ask())).usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.cache_read_tokens) == (1110, 20, 1000)
    assert usage.cache_write_tokens == 100
    assert usage.cost == pytest.approx((10 * 4 + 1000 * 0.4 + 100 * 5 + 20 * 20) / 1e6, rel=0.5)


async def test_where_code_ran_is_remembered() -> None:
    there = {"id": "container_1", "expires_at": "2999-01-01T00:00:00Z"}
    gone = {"id": "container_2", "expires_at": "2001-01-01T00:00:00Z"}
    fake = FakeAnthropic(says("a", container=there), says("b", container=gone), "c")
    claude = fake.model()
    first = await claude.call(ask("go"))
    second = await claude.call(ask("go", model(*first.parts), "more"))
    await claude.call(ask("go", model(*second.parts), "more"))
    assert [request.body.get("container") for request in fake.requests] == [None, "container_1", None]


async def test_tokens_are_counted_by_the_provider() -> None:
    fake = FakeAnthropic()
    assert await fake.model().count_tokens(ask("hi", system="Be kind.", tools=[CLOCK])) > 10


@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [
        (400, "bad_request", False), (401, "auth", False), (402, "billing", False), (403, "permission", False),
        (404, "not_found", False), (408, "timeout", True), (413, "too_large", False), (429, "rate_limit", True),
        (500, "server", True), (504, "timeout", True), (529, "overloaded", True),
    ],
)  # fmt: skip
async def test_failures_have_a_kind(status: int, kind: str, retryable: bool) -> None:
    fake = FakeAnthropic(fails(status, message="so it is"))
    with pytest.raises(ModelError, match="so it is") as caught:
        await fake.model(retry=None).call(ask())
    error = caught.value
    assert (error.kind, error.retryable, error.status) == (kind, retryable, status)
    assert (error.provider, error.model, error.request_id) == ("anthropic", "claude-opus-5-5", "req_fake")


async def test_a_prompt_that_is_too_long_is_told_apart() -> None:
    fake = FakeAnthropic(fails(400, message="prompt is too long: 210000 tokens > 200000 maximum"))
    with pytest.raises(ModelError) as caught:
        await fake.model().call(ask())
    assert (caught.value.kind, caught.value.retryable) == ("context_window", False)


async def test_an_unknown_model_says_what_may_have_been_meant() -> None:
    fake = FakeAnthropic(fails(404, message="model: claude-oqus-5-5"))
    with pytest.raises(ModelError, match="did you mean 'claude-opus-5-5'"):
        await fake.model("claude-oqus-5-5").call(ask())


async def test_the_provider_may_say_whether_to_try_again() -> None:
    fake = FakeAnthropic(
        fails(500, headers={"x-should-retry": "false"}), fails(400, headers={"x-should-retry": "true"})
    )
    with pytest.raises(ModelError) as caught:
        await fake.model(retry=Retry(delay=0)).call(ask())
    assert caught.value.retryable is False
    with pytest.raises(ModelError) as caught:
        await fake.model(retry=None).call(ask())
    assert caught.value.retryable is True


@pytest.mark.parametrize("first", [fails(429, retry_after=0), fails(529), fails(500), fails(408)])
async def test_a_failure_that_may_pass_is_tried_again(first: Any) -> None:
    fake = FakeAnthropic(first, "ok")
    answer = await fake.model().call(ask())
    assert answer.text == "ok"
    assert answer.usage is not None
    assert answer.usage.extra == {"attempts": 2}


async def test_no_key_names_the_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ANTHROPIC_CONFIG_DIR", str(tmp_path))
    with pytest.raises(ConfigError, match="set the environment variable ANTHROPIC_API_KEY"):
        await AnthropicModel("claude-opus-5-5").call(ask())


async def test_real_requests_can_be_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTFLOW_ALLOW_MODEL_REQUESTS", "0")
    async with AnthropicModel("claude-opus-5-5", api_key="sk-ant-none") as claude:
        with pytest.raises(ConfigError, match="real model requests are forbidden here"):
            await claude.call(ask())
    assert (await FakeAnthropic("ok").model().call(ask())).text == "ok"


async def test_a_client_that_was_passed_in_is_not_closed() -> None:
    client = FakeAnthropic("one", "two").client()
    async with AnthropicModel("claude-opus-5-5", client=client) as claude:
        assert (await claude.call(ask())).text == "one"
    assert not client.is_closed()
    assert (await AnthropicModel("claude-opus-5-5", client=client).call(ask())).text == "two"
    await client.close()


async def test_its_own_client_is_closed_by_the_last_and_made_again() -> None:
    made = []

    def make() -> anthropic.AsyncAnthropic:
        made.append(fake.client())
        return made[-1]

    fake = FakeAnthropic("ok", repeat=True)
    claude = AnthropicModel("claude-opus-5-5", client=make)
    async with claude:
        async with claude:
            await claude.call(ask())
        await claude.call(ask())
        assert [client.is_closed() for client in made] == [False]
    assert [client.is_closed() for client in made] == [True]
    async with claude:
        await claude.call(ask())
    assert [client.is_closed() for client in made] == [True, True]


CLIENTS = {
    "aws.bedrock": lambda http: anthropic.AsyncAnthropicBedrock(
        api_key="k", aws_region="us-east-1", base_url="http://aws.invalid", http_client=http
    ),
    "gcp.vertex_ai": lambda http: anthropic.AsyncAnthropicVertex(
        project_id="p", region="us-east5", access_token="t", base_url="http://gcp.invalid", http_client=http
    ),
    "azure.ai.openai": lambda http: anthropic.AsyncAnthropicFoundry(
        api_key="k", base_url="http://azure.invalid", http_client=http
    ),
}


@pytest.mark.parametrize("house", CLIENTS)
async def test_other_houses_serve_claude_too(house: str) -> None:
    """Their own clients build the request in their own way; the fake sees what they send."""
    fake = FakeAnthropic(says("It is noon."), check=False)
    async with CLIENTS[house](fake.http_client()) as client:
        claude = AnthropicModel(NAME, client=client)
        assert claude.provider == house
        pieces = Pieces()
        if house == "aws.bedrock" and find_spec("botocore") is None:
            with pytest.raises(ConfigError, match="needs the package 'botocore'"):
                await claude.call(ask("time?", system="Be kind."), pieces)
        else:
            answer = await claude.call(ask("time?", system="Be kind."), pieces)
            assert (answer.text, pieces.text) == ("It is noon.", "It is noon.")
    marked = fake.requests[0].body["messages"][-1]["content"][-1]
    assert ("cache_control" in marked) == (house != "azure.ai.openai")  # who can't mark the end by itself gets a mark


async def test_two_event_loops_have_a_client_each() -> None:
    fake = FakeAnthropic("ok", repeat=True)
    claude = fake.model()

    async def once() -> None:
        async with claude:
            assert (await claude.call(ask())).text == "ok"

    def elsewhere() -> None:
        anyio.run(once)

    async with claude:
        await claude.call(ask())
        await anyio.to_thread.run_sync(elsewhere)
        assert (await claude.call(ask())).text == "ok"


def test_a_name_makes_a_model_and_imports_nothing() -> None:
    code = (
        "import sys, agentflow; m = agentflow.resolve_model('claude-opus-5-5'); "
        "print(type(m).__name__, m.name, [n for n in ('anthropic', 'httpx2', 'genai_prices') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "AnthropicModel claude-opus-5-5 []"
    assert resolve_model("anthropic:claude-x").name == "claude-x"


def test_what_can_not_work_is_refused_when_it_is_made() -> None:
    with pytest.raises(ConfigError):
        AnthropicModel("")
    with pytest.raises(ConfigError):
        AnthropicModel(client=object(), api_key="k")
    with pytest.raises(ConfigError, match="betas"):
        AnthropicModel(betas="skills-2025-10-02")


def test_usage_is_a_sum() -> None:
    assert Usage(1, 2, model_calls=1) + Usage(3, 4, model_calls=1) == Usage(4, 6, model_calls=2)
