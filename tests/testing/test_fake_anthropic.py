"""The fake is as strict as the API, tells when it was asked too often, and speaks without streaming too."""

import anthropic
import pytest

from agentflow import Text, Thinking, ToolCall
from agentflow.testing import FakeAnthropic, UnexpectedCall, fails, says

HELLO = [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]


async def test_it_answers_the_sdk_in_one_piece_too() -> None:
    fake = FakeAnthropic(
        says(Thinking("hm", "sig"), Text("Hello"), ToolCall("toolu_1", "clock", {"a": [1, {"b": "é"}]}))
    )
    async with fake.client() as client:
        message = await client.messages.create(model="claude-opus-5-5", max_tokens=9, messages=HELLO)
    thought, words, use = message.content
    assert (thought.thinking, thought.signature, words.text) == ("hm", "sig", "Hello")
    assert (use.name, use.input, message.stop_reason) == ("clock", {"a": [1, {"b": "é"}]}, "tool_use")


async def test_it_streams_to_the_sdks_own_helper() -> None:
    fake = FakeAnthropic("Hello there")
    async with fake.client() as client:
        async with client.messages.stream(model="claude-opus-5-5", max_tokens=9, messages=HELLO) as stream:
            assert [text async for text in stream.text_stream] == ["Hello", " there"]
        async with fake.serve() as url:
            pass
    assert url.startswith("http://127.0.0.1:")


async def test_it_refuses_what_the_api_would_refuse() -> None:
    fake = FakeAnthropic("never")
    async with fake.client() as client:
        with pytest.raises(anthropic.BadRequestError, match="roles must alternate"):
            await client.messages.create(model="claude-opus-5-5", max_tokens=9, messages=[*HELLO, *HELLO])
    assert fake.count == 0


async def test_it_fails_as_the_sdk_knows_it() -> None:
    async with FakeAnthropic(fails(429, retry_after=3), fails(529)).client() as client:
        with pytest.raises(anthropic.RateLimitError) as caught:
            await client.messages.create(model="claude-opus-5-5", max_tokens=9, messages=HELLO)
        assert caught.value.response.headers["retry-after"] == "3"
        with pytest.raises(anthropic.OverloadedError):
            await client.messages.create(model="claude-opus-5-5", max_tokens=9, messages=HELLO)


async def test_it_tells_when_it_was_asked_too_often_or_too_rarely() -> None:
    with pytest.raises(UnexpectedCall, match="asked 0 times, its script has 1"), FakeAnthropic("once"):
        pass
    fake = FakeAnthropic("once")
    async with fake.client() as client:
        await client.messages.create(model="claude-opus-5-5", max_tokens=9, messages=HELLO)
        fake.verify()
        with pytest.raises(anthropic.BadRequestError, match="asked 2 times, its script has 1"):
            await client.messages.create(model="claude-opus-5-5", max_tokens=9, messages=HELLO)
    with pytest.raises(UnexpectedCall):
        fake.verify()
