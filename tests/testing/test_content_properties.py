"""What an agent says survives: made safe once, and the same after a trip through JSON."""

import json
import math
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from agentflow import (
    Actions,
    Blob,
    Data,
    ErrorInfo,
    Event,
    FileRef,
    InvalidEvent,
    InvocationContext,
    ProviderBlock,
    Runner,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Usage,
    agent,
)
from agentflow.content import MAX_DEPTH, PARTS, clean_json, clean_text
from agentflow.events import LIFECYCLE, UnknownLifecycle

always_the_same = settings(max_examples=200, deadline=None, derandomize=True, database=None)

WILD_TEXT = st.text(st.characters(exclude_categories=()), max_size=12) | st.sampled_from(
    ["", "\x00", "\ud800", "a\udfffb\x00"]
)
TEXT = WILD_TEXT.map(clean_text)
NUMBERS = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
WILD_NUMBERS = st.integers() | st.floats()
NAMES = TEXT.filter(bool)


def values_of(texts: st.SearchStrategy[str], numbers: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        st.none() | st.booleans() | numbers | texts,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=8,
    )


JSON = values_of(TEXT, NUMBERS)
OBJECTS = st.dictionaries(TEXT, JSON, max_size=3)
WILD = values_of(WILD_TEXT, WILD_NUMBERS) | st.tuples(WILD_TEXT, WILD_NUMBERS)
EXTRA = st.none() | st.dictionaries(
    st.sampled_from(["mood", "newField", "x-y", "_private"]), JSON, min_size=1, max_size=2
)
MAYBE = st.none() | TEXT
ERRORS = st.builds(ErrorInfo, TEXT, TEXT, st.booleans(), extra=EXTRA)
UNKNOWN = st.fixed_dictionaries({"kind": st.sampled_from(["hologram", "smell"])}, optional={"x": JSON, "text": JSON})
KNOWN_PARTS = st.one_of(
    st.builds(Text, TEXT, extra=EXTRA),
    st.builds(Thinking, TEXT, MAYBE, MAYBE, extra=EXTRA),
    st.builds(ToolCall, TEXT, TEXT, OBJECTS, extra=EXTRA),
    st.builds(ToolResult, TEXT, TEXT, JSON, st.booleans(), extra=EXTRA),
    st.builds(Blob, st.binary(max_size=20), TEXT, MAYBE, extra=EXTRA),
    st.builds(FileRef, TEXT, MAYBE, MAYBE, extra=EXTRA),
    st.builds(Data, JSON, MAYBE, extra=EXTRA),
    st.builds(ProviderBlock, TEXT, OBJECTS, extra=EXTRA),
)
COUNTS = st.integers(0, 2**40)
ACTIONS = st.builds(
    Actions,
    OBJECTS,
    st.lists(TEXT, max_size=2),
    OBJECTS,
    st.dictionaries(NAMES, COUNTS, max_size=2),
    st.booleans() | NAMES,
    MAYBE,
    st.booleans(),
    extra=EXTRA,
)
USAGE = st.builds(Usage, *[COUNTS] * 6, st.floats(0, 1e9), extra=EXTRA)
SAMPLES: dict[Any, Any] = {str: TEXT, int: COUNTS, bool: st.booleans(), float: st.floats(0, 1e9)}


def records() -> st.SearchStrategy[Any]:
    """Every kind of lifecycle record, its fields by their declared types."""
    kinds = {
        "str": TEXT, "int": COUNTS, "bool": st.booleans(), "float": st.floats(0, 1e9),
        "list[str]": st.lists(TEXT, max_size=2), "dict[str, str]": st.dictionaries(TEXT, TEXT, max_size=2),
        "ErrorInfo | None": st.none() | ERRORS,
        "int | None": st.none() | COUNTS, "float | None": st.none() | st.floats(0, 1e9), "dict[str, Any] | None": EXTRA,
    }  # fmt: skip

    def named(kind: Any) -> str:
        return (
            kind.__name__ if type(kind) is type else str(kind).replace("agentflow.events.", "").replace("typing.", "")
        )

    return st.one_of(
        *(
            st.builds(cls, **{field.name: kinds[named(field.type)] for field in fields(cls)})
            for cls in LIFECYCLE.values()
        ),
        st.builds(UnknownLifecycle, st.fixed_dictionaries({"name": st.just("agent_rested")}, optional={"for": JSON})),
    )


EVENTS = st.builds(
    Event,
    id=TEXT,
    seq=st.none() | COUNTS,
    serial=st.none() | COUNTS,
    invocation_id=TEXT,
    timestamp=st.floats(0, 1e12),
    author=TEXT,
    branch=TEXT,
    path=TEXT,
    iteration=st.none() | COUNTS,
    parts=st.lists(KNOWN_PARTS | UNKNOWN, max_size=3).map(tuple),
    partial=st.booleans(),
    response_id=MAYBE,
    actions=st.none() | ACTIONS,
    usage=st.none() | USAGE,
    error=st.none() | ERRORS,
    lifecycle=st.none() | records(),
)


@always_the_same
@given(EVENTS)
def test_an_event_is_the_same_after_a_trip_through_json(event):
    wire = event.to_json()
    assert "\n" not in wire
    again = Event.from_json(wire)
    assert again == event
    assert again.to_json() == wire
    assert Event.from_json(wire.encode()) == event
    assert [type(part) for part in again.parts] == [type(part) for part in event.parts]
    assert type(again.lifecycle) is type(event.lifecycle)


@always_the_same
@given(EVENTS, st.dictionaries(st.sampled_from(["mood", "newField"]), JSON), JSON)
def test_what_a_newer_version_wrote_is_written_back(event, news, value):
    """Fields of the event and of all in it; parts and records of unknown kinds."""
    wire = json.loads(event.to_json())
    wire |= news
    wire.setdefault("parts", []).append({"kind": "smell", "of": value})
    for nested in ("actions", "usage", "error", "lifecycle"):
        if wire.get(nested):
            wire[nested]["fromTheFuture"] = value
    for part in wire["parts"]:
        part["fromTheFuture"] = value
    again = Event.from_json(json.dumps(wire))
    assert json.loads(again.to_json()) == wire
    assert again.model_extra == news


def test_every_kind_of_part_and_record_is_among_those():
    assert len(PARTS) == 8
    assert len(LIFECYCLE) == 9


@always_the_same
@given(WILD)
def test_any_json_value_is_made_safe(value):
    clean, size = clean_json(value, "it")
    text = json.dumps(clean, allow_nan=False, ensure_ascii=False)
    text.encode()  # no lone surrogate
    assert "\x00" not in text
    assert "\\u0000" not in json.dumps(clean)
    assert json.loads(text) == clean
    assert clean_json(clean, "it")[0] == clean
    written = json.dumps(clean, ensure_ascii=False, separators=(",", ":")).encode()
    assert len(written) <= 6 * size  # what the size limit relies on


@always_the_same
@given(JSON)
def test_what_is_safe_already_stays_as_it_is_and_is_copied(value):
    clean, _ = clean_json(value, "it")
    assert clean == value
    assert json.dumps(clean) == json.dumps(value)
    shared = containers(value) & containers(clean)
    assert not shared


def containers(value: Any) -> set[int]:
    found = {id(value)} if isinstance(value, (list, dict)) else set()
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return found.union(*map(containers, inside))


@always_the_same
@given(WILD_TEXT)
def test_any_text_is_made_safe(text):
    clean = clean_text(text)
    clean.encode()
    assert "\x00" not in clean
    assert clean_text(clean) == clean
    assert len(clean) == len(text)
    assert all(
        a == b or (b == "\ufffd" and (a == "\x00" or "\ud800" <= a <= "\udfff"))
        for a, b in zip(text, clean, strict=True)
    )


@always_the_same
@given(st.floats())
def test_only_numbers_stay_numbers(number):
    clean, _ = clean_json(number, "it")
    assert clean == (number if math.isfinite(number) else None)


@pytest.mark.parametrize("value", [object(), b"bytes", {1, 2}, {1: "a"}, {"a": {None: 1}}, [object()], 1j])
def test_what_json_cannot_hold_is_refused(value):
    with pytest.raises(InvalidEvent, match="it "):
        clean_json(value, "it")


def test_values_nest_so_deep_and_no_deeper():
    deep: Any = 1
    for _ in range(MAX_DEPTH):
        deep = [deep]
    assert clean_json(deep, "it")[0] == deep
    with pytest.raises(InvalidEvent, match="deeper"):
        clean_json({"a": deep}, "it")
    cycle: list[Any] = []
    cycle.append(cycle)
    with pytest.raises(InvalidEvent, match="deeper"):
        clean_json(cycle, "it")


# Through the boundary: whatever an agent emits is stored so that every store and client can write it

BAD = "a\ud800b\x00c"
SAYS = {
    "text": Event(parts=(Text(BAD),)),
    "text, extra": Event(parts=(Text("x", extra={"mood": BAD}),)),
    "thinking": Event(parts=(Thinking(BAD, BAD, BAD),)),
    "thinking, extra": Event(parts=(Thinking("x", extra={"mood": BAD}),)),
    "tool call": Event(parts=(ToolCall(BAD, BAD, {BAD: BAD}),)),
    "tool result": Event(parts=(ToolResult(BAD, BAD, [BAD, math.nan]),)),
    "blob": Event(parts=(Blob(b"\xff\x00", BAD, BAD),)),
    "file": Event(parts=(FileRef(BAD, BAD, BAD),)),
    "data": Event(parts=(Data({BAD: [BAD, math.inf]}, BAD),)),
    "provider block": Event(parts=(ProviderBlock(BAD, {"x": BAD}),)),
    "unknown part": Event.model_validate({"parts": [{"kind": "hologram", "x": BAD}]}),
    "state": Event(actions=Actions({BAD: BAD}, [BAD])),
    "contributions": Event(actions=Actions(contributions={BAD: [BAD, -math.inf]})),
    "artifacts": Event(actions=Actions(artifact_delta={BAD: 1})),
    "transfer": Event(actions=Actions(transfer_to_agent=BAD)),
    "actions, extra": Event(actions=Actions(extra={"x": BAD})),
    "usage": Event(parts=(Text("x"),), usage=Usage(1, 1, cost=math.nan, extra={"x": BAD})),
    "error": Event(parts=(Text("x"),), error=ErrorInfo(BAD, BAD, extra={"x": BAD})),
    "id": Event(id=BAD, parts=(Text("x"),)),
    "author": Event(author=BAD, parts=(Text("x"),)),
    "response id": Event(response_id=BAD, parts=(Text("x"),)),
    "unknown field": Event.model_validate({"mood": [BAD, math.nan], "parts": ["x"]}),
}


@pytest.mark.parametrize("event", SAYS.values(), ids=SAYS)
async def test_what_an_agent_says_is_stored_safely_or_refused(event):
    @agent
    async def speaker(ctx: InvocationContext) -> None:
        await ctx.emit(event.model_copy())

    async with Runner(speaker) as runner:
        try:
            async with runner.run(session_id="s") as run:
                await run.wait()
        except InvalidEvent:
            return
        session = await runner.sessions.get(run.session)
    assert session is not None
    stored = session.events[1]
    wire = stored.to_json()
    assert "\\u0000" not in wire
    json.loads(wire, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert Event.from_json(wire) == stored


BIG = "x" * 5_000
LARGE = {
    "text": Event(parts=(Text(BIG),)),
    "many parts": Event(parts=(Text("x" * 50),) * 100),
    "signature": Event(parts=(Thinking("", BIG),)),
    "redacted": Event(parts=(Thinking("", None, BIG),)),
    "tool call": Event(parts=(ToolCall("c", BIG),)),
    "tool call's id": Event(parts=(ToolCall(BIG, "x"),)),
    "tool result": Event(parts=(ToolResult("c", BIG),)),
    "blob": Event(parts=(Blob(bytes(4_000)),)),
    "blob's name": Event(parts=(Blob(b"", name=BIG),)),
    "schema": Event(parts=(Data(1, BIG),)),
    "provider": Event(parts=(ProviderBlock(BIG, {}),)),
    "extra": Event(parts=(Text("x", extra={"x": BIG}),)),
    "state": Event(actions=Actions({"k": BIG})),
    "state key": Event(actions=Actions({BIG: 1})),
    "removed": Event(actions=Actions(state_removed=[BIG])),
    "contributions": Event(actions=Actions(contributions={"k": BIG})),
    "artifacts": Event(actions=Actions(artifact_delta={BIG: 1})),
    "actions, extra": Event(actions=Actions(extra={"x": BIG})),
    "error": Event(parts=(Text("x"),), error=ErrorInfo("E", BIG)),
    "author": Event(author=BIG, parts=(Text("x"),)),
    "unknown field": Event.model_validate({"mood": BIG, "parts": ["x"]}),
}


@pytest.mark.parametrize("event", LARGE.values(), ids=LARGE)
async def test_an_event_that_is_too_large_is_refused_whatever_makes_it_large(event):
    @agent
    async def speaker(ctx: InvocationContext) -> None:
        await ctx.emit(event.model_copy())

    async with Runner(speaker, max_event_bytes=4_096) as runner, runner.run() as run:
        with pytest.raises(InvalidEvent, match="the limit is 4,096"):
            await run.wait()
