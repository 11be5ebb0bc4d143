"""What is said is on the spans only where the user asks for it."""

import json

import pytest

from agentflow import ParallelAgent, SequentialAgent
from tests.tracing.agents import run_of, speaker
from tests.tracing.spans import Traced

CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"


def messages(traced: Traced, which: str) -> dict[str, object]:
    key = f"gen_ai.{which}.messages"
    return {span.name: json.loads(span.attributes[key]) for span in traced.spans if key in span.attributes}


def said(role: str, text: str) -> list[dict[str, object]]:
    return [{"role": role, "parts": [{"type": "text", "content": text}]}]


@pytest.mark.parametrize("value", [None, "", "NO_CONTENT", "EVENT_ONLY", "false", "nonsense"])
async def test_no_content_by_default(traced: Traced, monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    if value is not None:
        monkeypatch.setenv(CAPTURE, value)
    await run_of(SequentialAgent("root", [speaker(["a", "secret"][1])]))
    assert messages(traced, "input") == messages(traced, "output") == {}
    assert "go" not in [str(value) for span in traced.spans for value in span.attributes.values()]


@pytest.mark.parametrize("value", ["SPAN_ONLY", "span_and_event", "Span_Only", " SPAN_AND_EVENT ", "true", "True"])
async def test_content_where_it_is_asked_for(traced: Traced, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(CAPTURE, value)
    await run_of(SequentialAgent("root", [speaker("a"), speaker("b")]))
    assert messages(traced, "input")["run app"] == said("user", "go")
    assert messages(traced, "output") == {
        "run app": said("assistant", "b"),
        "invoke_workflow root": said("assistant", "b"),
        "invoke_agent a": said("assistant", "a"),
        "invoke_agent b": said("assistant", "b"),
    }


async def test_the_roots_span_has_the_users_words(traced: Traced, monkeypatch: pytest.MonkeyPatch) -> None:
    """The conventions give `gen_ai.input.messages` to agents and workflows; backends look for it there."""
    monkeypatch.setenv(CAPTURE, "SPAN_ONLY")
    await run_of(SequentialAgent("root", [speaker("a")]))
    assert messages(traced, "input")["invoke_workflow root"] == said("user", "go")


async def test_a_parallel_says_what_its_branches_said(traced: Traced, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CAPTURE, "SPAN_ONLY")
    await run_of(ParallelAgent("group", [speaker("a"), speaker("b")]))
    output = messages(traced, "output")
    assert output["run app"] == said("assistant", "a\n\nb")
    assert output["invoke_workflow group"] == said("assistant", "a\n\nb")
