"""Whatever a provider sends, it is an answer or a `ModelError`, and an answer is something that a session can store."""

import json
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from agentflow import Event, ModelError, ModelResponse, ProviderBlock, Text, Thinking, ToolCall
from agentflow.content import as_parts
from agentflow.models import _anthropic_stream, _openai_wire
from agentflow.models._sdk import EventReader
from agentflow.models.base import ToolSpec
from agentflow.testing import says
from tests.models.asking import ask
from tests.models.test_anthropic_messages import MESSAGES, sensible

KEYS = st.sampled_from(["type", "index", "delta", "text"])
PLAIN = st.none() | st.booleans() | st.integers(-2, 10**12) | st.text(max_size=5)
JUNK = st.recursive(
    PLAIN | st.sampled_from(["text", "tool_use", "ping"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner),
    max_leaves=5,
)
CLAUDE = list(
    says(
        Thinking("a b", "sig"), "hello big", ToolCall("t", "clock", {"zone": "UTC"}),
        ProviderBlock("anthropic", {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"q": 1}}),
    ).events
)  # fmt: skip
FIRST = {"index": 0, "id": "t", "function": {"name": "clock", "arguments": '{"a"'}}
USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 1}}
CHUNKS: list[Any] = [
    {"id": "c", "model": "m", "choices": [{"delta": {"content": "Hello"}}]},
    {"choices": [{"delta": {"reasoning": "hm"}}]},
    {"choices": [{"delta": {"tool_calls": [FIRST]}}]},
    {"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": ": 1}"}}]}}]},
    {"choices": [{"delta": {}, "finish_reason": "tool_calls"}]},
    {"choices": [], "usage": USAGE},
]


def paths(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [here]
    if isinstance(value, dict):
        found += [path for key, inner in value.items() for path in paths(inner, (*here, key))]
    elif isinstance(value, list):
        found += [path for index, inner in enumerate(value) for path in paths(inner, (*here, index))]
    return found


@st.composite
def spoiled(draw: st.DrawFn, events: list[Any]) -> list[Any]:
    """A good stream with one to three things wrong: something replaced, removed, doubled, out of order."""
    events = deepcopy(events)
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["replace", "replace", "remove", "double", "swap", "insert"]))
        place = draw(st.integers(0, len(events) - 1)) if events else 0
        if kind == "insert" or not events:
            events.insert(place, draw(JUNK))
        elif kind == "remove":
            del events[place]
        elif kind == "double":
            events.insert(place, deepcopy(events[place]))
        elif kind == "swap":
            other = draw(st.integers(0, len(events) - 1))
            events[place], events[other] = events[other], events[place]
        else:
            *path, last = ("whole", *draw(st.sampled_from(paths(events[place]))))
            holder: Any = {"whole": events[place]}
            for key in path:
                holder = holder[key]
            holder[last] = draw(JUNK)
            if not path:
                events[place] = holder[last]
    return events


def read(answer: Any, events: list[Any]) -> ModelResponse | None:
    try:
        for event in events:
            answer.feed(event)
        response: ModelResponse = answer.response()
    except ModelError:
        return None
    return response


def check_storable(response: ModelResponse | None) -> None:
    if response is not None:
        event = Event(parts=as_parts(list(response.parts)), usage=response.usage, response_id=response.response_id)
        assert Event.from_json(event.to_json()).parts == event.parts


@settings(max_examples=150, deadline=None)
@given(spoiled(CLAUDE))
def test_whatever_claude_sends(events: list[Any]) -> None:
    check_storable(read(_anthropic_stream.Answer(), events))


@settings(max_examples=150, deadline=None)
@given(spoiled(CHUNKS))
def test_whatever_others_send(events: list[Any]) -> None:
    check_storable(read(_openai_wire.Answer("m"), events))


@given(st.lists(st.binary(max_size=20)), st.integers(1, 7))
def test_events_are_the_same_however_the_bytes_are_cut(lines: list[bytes], size: int) -> None:
    stream = b"".join(b"event: x\r\ndata: %s\n\n" % line.replace(b"\n", b"").replace(b"\r", b"") for line in lines)
    whole, pieces = EventReader(), EventReader()
    cut = [event for start in range(0, len(stream), size) for event in pieces.feed(stream[start : start + size])]
    assert cut == whole.feed(stream)
    assert len(cut) == len(lines)


@settings(max_examples=100, deadline=None)
@given(MESSAGES.map(sensible))
def test_any_history_is_one_that_openai_takes(messages: list[Any]) -> None:
    request = ask(*messages, tools=[ToolSpec("one"), ToolSpec("two")])
    body = _openai_wire.build_body("m", request, request.settings, theirs=True)
    json.dumps(body)
    waiting: list[str] = []
    for message in body["messages"]:
        if message["role"] == "tool":
            assert message["tool_call_id"] == waiting.pop(0), "results follow their calls, in order"
            continue
        assert not waiting, "each call has its result before anybody speaks"
        assert message["content"] or message.get("tool_calls"), "nobody says nothing"
        waiting = [call["id"] for call in message.get("tool_calls", ())]
    assert not waiting


def test_a_good_stream_is_read() -> None:
    response = read(_anthropic_stream.Answer(), CLAUDE)
    assert response is not None
    assert response.parts[1] == Text("hello big")
    other = read(_openai_wire.Answer("m"), CHUNKS)
    assert other is not None
    assert other.tool_calls == [ToolCall("t", "clock", {"a": 1})]
    with pytest.raises(ModelError):
        _openai_wire.Answer("m").response()
