"""A tree of agents on the real SDK, against a fake of Claude's API that holds to its rules."""

from typing import Any

import anyio
import pytest
from hypothesis import given, settings, strategies as st
from pydantic import BaseModel

from agentflow import (
    Event,
    LlmAgent,
    LoopAgent,
    ModelError,
    ModelSettings,
    ParallelAgent,
    Runner,
    SequentialAgent,
    Thinking,
    ToolCall,
)
from agentflow.agents._contents import Contents
from agentflow.models._anthropic_messages import build_turns
from agentflow.testing import FakeAnthropic
from agentflow.testing.anthropic_rules import anthropic_problems
from agentflow.testing.fake_anthropic import fails, says as replies
from tests.agents.test_llm_contents import EVENTS
from tests.agents.test_llm_tools import pay
from tests.agents.thinking import look
from tests.core.actors import play, read


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param  # the SDK looks at clocks


class Verdict(BaseModel):
    good: bool


async def test_thoughts_tools_and_words_are_streamed_and_go_back_verbatim() -> None:
    fake = FakeAnthropic(
        (Thinking("Let me look.", "signed"), "One moment.", ToolCall("toolu_1", "look")), "I have seen it."
    )
    agent = LlmAgent("a", model=fake.model(settings=ModelSettings(thinking=True)), tools=[look])
    played = await play(agent)
    assert played.run.result.text == "I have seen it."
    pieces = [event for event in played.events if event.partial]
    assert "".join(event.text for event in pieces if event.response_id == pieces[0].response_id) == "One moment."
    assert "".join(event.text for event in pieces if event.response_id == pieces[-1].response_id) == "I have seen it."
    assistant = fake.requests[1].body["messages"][1]
    assert [block["type"] for block in assistant["content"]] == ["thinking", "text", "tool_use"]
    assert assistant["content"][0]["signature"] == "signed"
    assert fake.requests[1].body["messages"][2]["content"][0]["tool_use_id"] == "toolu_1"
    assert fake.open_streams == 0


async def test_a_nested_tree_talks_until_all_have_spoken() -> None:
    """Views in parallel, a writer and a critic in a loop, handing over, an answer of a type; each request is valid."""
    views = ParallelAgent("views", [LlmAgent(f"view{n}", model=FakeAnthropic(f"view {n}").model()) for n in range(3)])
    writer = LlmAgent("writer", model=FakeAnthropic("draft 1", "draft 2").model())
    critic = LlmAgent("critic", model=FakeAnthropic("shorter", "fine").model())
    hands = ToolCall("toolu_1", "transfer_to_agent", {"agent_name": "judge"})
    judge = LlmAgent(
        "judge", model=FakeAnthropic('{"good": true}').model(), output_schema=Verdict, output_key="verdict"
    )
    chair = LlmAgent("chair", model=FakeAnthropic(hands).model(), sub_agents=[judge])
    root = SequentialAgent("s", [views, LoopAgent("loop", [writer, critic], max_iterations=2), chair])
    played = await play(root)
    assert played.run.result.output == {"good": True}
    assert played.session.state == {"verdict": {"good": True}}
    assert played.run.result.usage.model_calls == 9
    assert sorted(text for text in played.texts if text.startswith("view")) == ["view 0", "view 1", "view 2"]


async def test_a_session_goes_on_after_an_approval() -> None:
    fake = FakeAnthropic(ToolCall("toolu_1", "pay", {"amount": 5}), "Paid.", "You are welcome.")
    agent = LlmAgent("a", model=fake.model(), tools=[pay])
    async with Runner(agent) as runner:
        run = await read(runner.run("Pay 5.", session_id="s"))
        (question,) = run.result.pending
        run = await read(runner.run(session_id="s", answers={question.id: True}))
        assert run.result.text == "Paid."
        await read(runner.run("Thanks!", session_id="s"))
    assert [message["role"] for message in fake.requests[2].body["messages"]] == ["user", "assistant"] * 2 + ["user"]


@pytest.mark.parametrize("failure", ["drop", "eof", "garbage", "error"])
async def test_an_answer_that_breaks_off_fails_the_turn_and_leaves_a_valid_session(failure: Any) -> None:
    whole = replies("Let me see.", ToolCall("toolu_1", "look"))
    for after in range(3, len(whole.events)):
        fake = FakeAnthropic(whole.breaking(failure, after), "Here I am.")
        async with Runner(LlmAgent("a", model=fake.model(), tools=[look])) as runner:
            try:
                await read(runner.run("go", session_id="s"))
            except ModelError as error:
                assert error.agent == "a"  # noqa: PT017 - whether it fails depends on where it breaks
                await read(runner.run("again", session_id="s"))
        assert fake.open_streams == 0


async def test_what_may_pass_is_tried_again_before_a_word_is_said() -> None:
    fake = FakeAnthropic(fails(529), fails(429, retry_after=0.01), "hello")
    played = await play(LlmAgent("a", model=fake.model()))
    assert played.run.result.text == "hello"


async def test_cancelling_closes_the_connection() -> None:
    async def gate(number: int) -> None:
        if number > 4:
            await anyio.sleep_forever()

    fake = FakeAnthropic(replies("one two three four five six", pace=gate))
    async with Runner(LlmAgent("a", model=fake.model())) as runner, runner.run("go") as run:
        async for event in run:
            if event.text:
                break
        assert fake.open_streams == 1
        run.cancel()
        await run.wait()
        assert fake.open_streams == 0


@pytest.mark.parametrize("key", ["", None])
async def test_without_a_key_the_error_names_the_variable(key: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    if key is not None:
        monkeypatch.setenv("ANTHROPIC_API_KEY", key)
    with pytest.raises(Exception, match="ANTHROPIC_API_KEY"):
        await play(LlmAgent("a", model="claude-opus-5-5"))


@settings(max_examples=300)
@given(st.lists(EVENTS, max_size=14))
def test_whatever_happened_claude_can_be_asked(events: list[Event]) -> None:
    view = Contents("me", "root.me")
    view.add(events)
    for messages in (view.all(), view.latest(), view.turns(1), view.within(20)):
        body = {
            "model": "claude-opus-5-5",
            "max_tokens": 10,
            "messages": [{"role": turn.role, "content": turn.blocks()} for turn in build_turns(messages)],
            "tools": [{"name": "look", "input_schema": {"type": "object"}}],
        }
        assert anthropic_problems(body) == []


def test_the_words_of_the_last_message_are_the_users() -> None:
    view = Contents("me", "me")
    view.add([Event(author="me", parts=("hello",))])
    turns = build_turns(view.all())
    assert [turn.role for turn in turns] == ["user", "assistant", "user"]
