"""What tracing sees of a model call."""

import json

import anyio
import pytest
from opentelemetry import trace

from agentflow import (
    FallbackModel,
    ModelError,
    ModelRequest,
    ModelSettings,
    Retry,
    ToolCall,
    ToolSpec,
)
from agentflow.testing import FakeAnthropic, FunctionModel, fails, says
from tests.models.asking import Pieces, ask, busy, model, result, scripted, user
from tests.models.traces import Traced


async def test_a_call_has_a_span_that_says_what_it_was(traced: Traced) -> None:
    fake = FakeAnthropic(says("It is noon.", cache_read=50, input_tokens=10, output_tokens=7))
    claude = fake.model(settings=ModelSettings(max_tokens=99))
    await claude.call(ask(site=traced.site(), settings=ModelSettings(max_tokens=50, effort="low")), Pieces())
    span = traced.spans()["chat claude-opus-5-5"]
    said = dict(span.attributes or {})
    assert said.pop("gen_ai.response.time_to_first_chunk") > 0
    assert said.pop("agentflow.usage.cost") > 0
    assert said == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": "claude-opus-5-5",
        "gen_ai.request.stream": True,
        "gen_ai.request.max_tokens": 50,
        "gen_ai.request.reasoning.level": "low",
        "gen_ai.conversation.id": "s-1",
        "gen_ai.agent.name": "critic",
        "agentflow.invocation.id": "e-1",
        "agentflow.agent.path": "team.critic",
        "agentflow.branch": "b",
        "gen_ai.response.id": "msg_1",
        "gen_ai.response.model": "claude-opus-5-5",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 60,
        "gen_ai.usage.output_tokens": 7,
        "gen_ai.usage.cache_read.input_tokens": 50,
    }
    assert span.kind is trace.SpanKind.CLIENT
    assert span.parent is not None
    assert span.parent.span_id == traced.parent.get_span_context().span_id
    assert list(traced.spans()) == ["chat claude-opus-5-5"], "the SDK's own span would count tokens twice"
    assert [point.sum for point in traced.metric("gen_ai.client.token.usage")] == [60, 7]
    (duration,) = traced.metric("gen_ai.client.operation.duration")
    assert duration.attributes["gen_ai.response.model"] == "claude-opus-5-5"


async def test_a_failure_is_one_on_the_span_and_a_cancellation_is_not(traced: Traced) -> None:
    with pytest.raises(ModelError):
        await scripted(busy(), busy(), retry=Retry(attempts=2, delay=0)).call(ask(site=traced.site()))
    failed = traced.spans()["chat scripted"]
    assert failed.status.status_code is trace.StatusCode.ERROR
    assert dict(failed.attributes or {})["agentflow.attempts"] == 2
    (duration,) = traced.metric("gen_ai.client.operation.duration")
    assert duration.attributes["error.type"] == "agentflow.errors.ModelError"
    traced.exporter.clear()

    async def hang(request: ModelRequest) -> str:
        scope.cancel()
        await anyio.sleep_forever()
        return ""

    with anyio.CancelScope() as scope:
        await FunctionModel(hang).call(ask(site=traced.site()))
    cancelled = traced.spans()["chat function"]
    assert cancelled.status.status_code is trace.StatusCode.UNSET
    assert dict(cancelled.attributes or {})["agentflow.outcome"] == "cancelled"


async def test_content_is_captured_when_it_is_asked_for(traced: Traced) -> None:
    traced.tracing.captures = True
    tools = [ToolSpec("clock", "Tells the time.")]
    talk = ("time?", model(ToolCall("c", "clock")), user(result("c", "noon")))
    await scripted("It is noon.").call(ask(*talk, system="Be kind.", tools=tools, site=traced.site()))
    said = dict(traced.spans()["chat scripted"].attributes or {})
    assert json.loads(said["gen_ai.input.messages"]) == [
        {"role": "user", "parts": [{"type": "text", "content": "time?"}]},
        {"role": "assistant", "parts": [{"type": "tool_call", "id": "c", "name": "clock", "arguments": {}}]},
        {"role": "user", "parts": [{"type": "tool_call_response", "id": "c", "response": "noon"}]},
    ]
    assert json.loads(said["gen_ai.output.messages"])[0]["parts"] == [{"type": "text", "content": "It is noon."}]
    assert json.loads(said["gen_ai.system_instructions"]) == [{"type": "text", "content": "Be kind."}]
    assert json.loads(said["gen_ai.tool.definitions"])[0]["name"] == "clock"


async def test_each_model_that_was_asked_has_a_span(traced: Traced) -> None:
    fake = FakeAnthropic(fails(529), "ok")
    both = FallbackModel(fake.model("claude-opus-5-5"), fake.model("claude-sonnet-5-5"))
    await both.call(ask(site=traced.site()))
    assert list(traced.spans()) == ["chat claude-opus-5-5", "chat claude-sonnet-5-5"]


async def test_the_tables_know_prices_and_say_once_when_they_do_not(
    caplog: pytest.LogCaptureFixture, anyio_backend_name: str
) -> None:
    fake = FakeAnthropic(says("ok", input_tokens=1_000_000, output_tokens=0, model="claude-haiku-4-5"), repeat=True)
    priced = await fake.model("claude-haiku-4-5").call(ask())
    assert priced.usage is not None
    assert priced.usage.cost > 0
    for _ in range(2):
        free = await fake.model(f"claude-of-{anyio_backend_name}").call(ask())
        assert free.usage is not None
        assert free.usage.cost == 0
    assert [record.getMessage()[:22] for record in caplog.records] == ["no price is known for "]
