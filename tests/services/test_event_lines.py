"""An event's line of JSON: the short way, which most events take, writes what pydantic does."""

import math
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from agentflow import Event
from agentflow.content import Part, Text, ToolCall
from agentflow.events import Actions, AgentStart, Usage, _spoken

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=8)  # lone surrogates and NUL included
SPOKEN = {
    "id": ANY_TEXT,
    "invocation_id": ANY_TEXT,
    "timestamp": st.floats() | st.integers(0, 9),
    "author": ANY_TEXT,
    "branch": ANY_TEXT,
    "path": ANY_TEXT,
    "parts": st.lists(ANY_TEXT.map(Text), max_size=2).map(tuple),
}
REST: dict[str, st.SearchStrategy[Any]] = {
    "seq": st.integers(1, 3),
    "serial": st.integers(1, 3),
    "iteration": st.integers(1, 3),
    "partial": st.booleans(),
    "response_id": ANY_TEXT,
    "actions": st.just(Actions({"k": 1})),
    "usage": st.just(Usage(1, 2)),
    "finish_reason": ANY_TEXT,
    "lifecycle": st.just(AgentStart("a")),
    "long_running_tool_ids": st.just(("t",)),
}


class Mine(Event):
    """A user's own kind of event."""

    score: float = 0.0


def written(write: Any, **settings: Any) -> str | type[Exception]:
    try:
        line: str = write(**settings)
    except ValueError as error:
        return type(error)
    return line


@settings(max_examples=400)
@given(
    fields=st.fixed_dictionaries(SPOKEN, optional=REST),
    extra=st.sampled_from([{}, {}, {}, {"newer": "x"}]),
    kind=st.sampled_from([Event, Event, Event, Mine]),
)
def test_the_short_way_writes_what_pydantic_does(fields: dict[str, Any], extra: dict[str, Any], kind: Any) -> None:
    event = kind(**extra)
    event.__dict__.update(fields)  # also what no boundary of ours lets through
    assert written(event.to_json) == written(event.model_dump_json, by_alias=True, exclude_defaults=True)


@pytest.mark.parametrize("branch", ["", "p.a"])
@pytest.mark.parametrize("timestamp", [1e-7, 0.1, 5e-324, 1_700_000_000.25, 1e16, 1.7976931348623157e308, math.inf])
def test_what_is_only_said_takes_the_short_way(branch: str, timestamp: float) -> None:
    event = Event(id="e", invocation_id="r", author="a", branch=branch, path="a", parts=(Text('"\u20ac\n\x7f'),))
    event.__dict__["timestamp"] = timestamp
    assert _spoken(event) is not None
    assert event.to_json() == event.model_dump_json(by_alias=True, exclude_defaults=True)


@pytest.mark.parametrize(
    "part", [Text("a", extra={"newer": 1}), ToolCall("1", "f")], ids=["text of a newer version", "call"]
)
def test_what_says_more_takes_the_long_way(part: Part) -> None:
    event = Event(id="e", invocation_id="r", timestamp=1.0, author="a", path="a", parts=(part,))
    assert _spoken(event) is None
    assert Event.from_json(event.to_json()) == event
