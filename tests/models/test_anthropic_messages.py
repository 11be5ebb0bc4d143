"""Whatever the history is, what Claude's API gets is valid. The rules are those of `anthropic_problems`."""

import json
from typing import Any

import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as st

from agentflow import Blob, Data, FileRef, Message, ModelSettings, ProviderBlock, Text, Thinking, ToolCall, ToolResult
from agentflow.models._anthropic_messages import BEGIN, GO_ON, LOST, build_turns
from agentflow.models._anthropic_request import build_params
from agentflow.models.base import ModelRequest, ToolSpec
from agentflow.testing import anthropic_problems
from tests.models.asking import model, result, user


def sent(*messages: Message) -> list[dict[str, Any]]:
    return [{"role": turn.role, "content": turn.blocks()} for turn in build_turns(messages)]


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def body(messages: list[Message], tools: list[ToolSpec], settings: ModelSettings) -> dict[str, Any]:
    turns = build_turns(messages)
    request = ModelRequest(messages=messages, tools=list(tools), settings=settings)
    params, _, _ = build_params("claude-haiku-4-5", ModelSettings(), (), request, turns, None, by_itself=True)
    whole = json.dumps(params)[:-1] + ', "messages": [' + ",".join(turn.json().decode() for turn in turns) + "]}"
    params = json.loads(whole)
    assert params["messages"] == json.loads(
        json.dumps([{"role": turn.role, "content": turn.blocks()} for turn in turns])
    ), "both ways of writing it say the same"
    return params


def test_neighbours_of_one_role_become_one() -> None:
    assert sent(user("a"), user("b"), model("c"), model("d"), user("e")) == [
        {"role": "user", "content": [text("a"), text("b")]},
        {"role": "assistant", "content": [text("c"), text("d")]},
        {"role": "user", "content": [text("e")]},
    ]


def test_the_user_begins_and_has_the_last_word() -> None:
    assert sent(model("a")) == [
        {"role": "user", "content": [text(BEGIN)]},
        {"role": "assistant", "content": [text("a")]},
        {"role": "user", "content": [text(GO_ON)]},
    ]
    assert sent() == [{"role": "user", "content": [text(GO_ON)]}]
    assert sent(user(" \n"), model("")) == [{"role": "user", "content": [text(GO_ON)]}]


def test_results_stand_right_behind_their_calls_before_anything_else() -> None:
    talk = sent(
        user("go"), model(ToolCall("a", "t"), ToolCall("b", "t")), user("never mind", result("b", 2)),
        user(result("a", {"x": 1})),
    )  # fmt: skip
    assert talk[2]["content"] == [
        {"type": "tool_result", "tool_use_id": "a", "content": '{"x": 1}'},
        {"type": "tool_result", "tool_use_id": "b", "content": "2"},
        text("never mind"),
    ]


def test_a_late_result_replaces_the_first_one() -> None:
    talk = sent(
        user("go"), model(ToolCall("a", "t")), user(result("a", "pending")), model("wait"), user(result("a", "ok"))
    )
    assert talk[2]["content"] == [{"type": "tool_result", "tool_use_id": "a", "content": "ok"}]
    assert [turn["role"] for turn in talk] == ["user", "assistant", "user", "assistant", "user"]
    assert talk[-1]["content"] == [text(GO_ON)]


def test_a_call_without_a_result_is_told_so_and_a_result_without_a_call_is_dropped() -> None:
    talk = sent(user("go"), model("on it", ToolCall("a", "t")), user("what now?", result("lost")))
    lost = {"type": "tool_result", "tool_use_id": "a", "content": LOST, "is_error": True}
    assert talk[2]["content"] == [lost, text("what now?")]


def test_one_id_for_several_calls_is_made_several() -> None:
    talk = sent(
        user("go"), model(ToolCall("call_0", "t")), user(result("call_0", "one")), model(ToolCall("call_0", "t")),
        user(result("call_0", "two")),
    )  # fmt: skip
    uses = [block["id"] for turn in talk for block in turn["content"] if block["type"] == "tool_use"]
    results = [
        (block["tool_use_id"], block["content"])
        for turn in talk
        for block in turn["content"]
        if block["type"] == "tool_result"
    ]
    assert uses == ["call_0", "call_0_2"]
    assert results == [("call_0", "one"), ("call_0_2", "two")]


def test_thoughts_of_others_and_those_cut_off_are_left_out() -> None:
    talk = sent(
        user("go"),
        model(
            Thinking("mine", "sig"), Thinking("cut off"), Thinking("theirs", "x", extra={"provider": "openai"}), "ok"
        ),
        user("and?"),
    )
    assert talk[1]["content"] == [{"type": "thinking", "thinking": "mine", "signature": "sig"}, text("ok")]


def test_a_search_that_was_cut_off_is_left_out_unless_it_is_the_last_thing() -> None:
    search = ProviderBlock("anthropic", {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}})
    assert sent(user("go"), model("hm", search))[-1]["content"] == [text("hm"), search.block]
    assert sent(user("go"), model("hm", search), user("well?"))[1]["content"] == [text("hm")]
    orphan = ProviderBlock("anthropic", {"type": "web_search_tool_result", "tool_use_id": "gone", "content": []})
    assert sent(user("go"), model("hm", orphan), user("well?"))[1]["content"] == [text("hm")]


def test_what_a_tool_shows() -> None:
    cat = [{"kind": "blob", "data": "iVBORw==", "mimeType": "image/png"}, {"kind": "text", "text": "a cat"}]
    talk = sent(
        user("go"), model(ToolCall("a", "t"), ToolCall("b", "t"), ToolCall("c", "t")),
        user(result("a", {"parts": cat}), result("b", None), result("c", ["ü"])),
    )  # fmt: skip
    shown, nothing, some = talk[2]["content"]
    assert [block["type"] for block in shown["content"]] == ["image", "text"]
    assert (nothing["content"], some["content"]) == ("null", '["ü"]')


def test_a_picture_that_another_model_made_is_told_in_words() -> None:
    talk = sent(user("draw"), model(Blob(b"x", "image/png", "cat.png")), user("thanks"))
    assert talk[1]["content"] == [text("[cat.png: image/png, 1 bytes, which can't be shown]")]


def test_a_message_is_converted_once() -> None:
    talk = [user("a"), model(ToolCall("x", "t")), user(result("x"))]
    first = build_turns(talk)
    forms = [message.form for message in talk]
    again = build_turns([*talk, model("b"), user("c")])
    assert [message.form for message in talk] == forms
    assert first[0].items[0] is again[0].items[0]
    assert talk[0] == user("a"), "what is kept is no part of what is said"


IDS = st.sampled_from(["a", "b", "c", "call_0", "it's", "", "a_2"])
WORDS = st.sampled_from(["", " ", "yes", "no\n", "ü\ud800".encode("utf-8", "replace").decode()])
SERVED = st.sampled_from(["s1", "s2"])
PARTS = st.one_of(
    WORDS.map(Text),
    st.builds(Thinking, WORDS, st.sampled_from([None, "sig"]), st.sampled_from([None, None, "red"])),
    st.builds(ToolCall, IDS, st.sampled_from(["one", "two"]), st.just({"x": 1})),
    st.builds(ToolResult, IDS, st.just("one"), st.sampled_from(["ok", None, {"a": [1]}, ""]), st.booleans()),
    st.builds(Blob, st.just(b"x"), st.sampled_from(["image/png", "image/tiff", "application/pdf", "text/plain"])),
    st.builds(FileRef, st.sampled_from(["https://x.test/a.png", "gs://x", "file-id:f"])),
    st.builds(Data, st.just({"a": 1})),
    SERVED.map(
        lambda id: ProviderBlock("anthropic", {"type": "server_tool_use", "id": id, "name": "web_search", "input": {}})
    ),
    SERVED.map(
        lambda id: ProviderBlock("anthropic", {"type": "web_search_tool_result", "tool_use_id": id, "content": []})
    ),
    st.just(ProviderBlock("google", {"type": "thought"})),
)
MESSAGES = st.lists(
    st.builds(Message, st.sampled_from(["user", "assistant"]), st.lists(PARTS, max_size=5).map(tuple)), max_size=8
)


def sensible(messages: list[Message]) -> list[Message]:
    """Blocks of the provider's own only in the model's messages, each call and each result of its tools once."""
    seen: set[tuple[str, str]] = set()
    kept = []
    for message in messages:
        parts = []
        for part in message.parts:
            if isinstance(part, ProviderBlock) and part.provider == "anthropic":
                key = (part.block["type"], part.block.get("id") or part.block["tool_use_id"])
                if message.role == "user" or key in seen:
                    continue
                if key[0] == "web_search_tool_result" and ("server_tool_use", key[1]) not in seen:
                    continue
                seen.add(key)
            parts.append(part)
        kept.append(Message(message.role, tuple(parts)))
    return kept


@hypothesis_settings(max_examples=150, deadline=None)
@given(MESSAGES.map(sensible), st.booleans(), st.sampled_from([None, 2000, True, False]))
def test_any_history_makes_a_valid_request(messages: list[Message], tools: bool, thinking: Any) -> None:
    declared = [ToolSpec("one"), ToolSpec("two")] if tools else []
    assert anthropic_problems(body(messages, declared, ModelSettings(thinking=thinking))) == []


def said(role: str, *content: dict[str, Any]) -> dict[str, Any]:
    return {"role": role, "content": list(content)}


USE = {"type": "tool_use", "id": "x", "name": "one", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "x"}
SEARCH = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
A, B = text("a"), text("b")
BAD: dict[str, list[dict[str, Any]]] = {
    "must use the user role": [said("assistant", A), said("user", B)],
    "roles must alternate": [said("user", A), said("user", B)],
    "does not support prefill": [said("user", A), said("assistant", B)],
    "non-whitespace": [said("user", text(" "))],
    "isn't empty": [said("user")],
    "no `tool_result`": [said("user", A), said("assistant", USE), said("user", B)],
    "unexpected `tool_use_id`": [said("user", RESULT)],
    "must come before": [said("user", A), said("assistant", USE), said("user", B, RESULT)],
    "a single result": [said("user", A), said("assistant", USE), said("user", RESULT, RESULT)],
    "must be unique": [said("user", A), said("assistant", USE, USE), said("user", RESULT)],
    "signature": [said("user", A), said("assistant", {"type": "thinking", "thinking": "x"}), said("user", B)],
    "not permitted in assistant": [said("user", A), said("assistant", RESULT), said("user", B)],
    "not permitted in user": [said("user", USE)],
    "has no result": [said("user", A), said("assistant", SEARCH), said("user", B)],
}


@pytest.mark.parametrize("complaint", BAD)
def test_the_rules_notice_what_is_wrong(complaint: str) -> None:
    tools = [{"name": "one", "input_schema": {"type": "object"}}]
    problems = anthropic_problems({"model": "m", "max_tokens": 1, "messages": BAD[complaint], "tools": tools})
    assert any(complaint in problem for problem in problems), problems
