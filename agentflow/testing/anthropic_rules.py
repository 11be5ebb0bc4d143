"""What Claude's API refuses, as far as a request can be judged from outside: the rules of its messages."""

import re
from collections.abc import Iterator
from typing import Any

_ID = re.compile(r"[a-zA-Z0-9_-]+")
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_IMAGES = ("image/jpeg", "image/png", "image/gif", "image/webp")
_SPOKEN = frozenset(
    ("text", "thinking", "redacted_thinking", "tool_use", "server_tool_use", "mcp_tool_use", "compaction")
)
_TOLD = frozenset(("text", "image", "document", "search_result", "tool_result", "container_upload"))


def anthropic_problems(body: dict[str, Any]) -> list[str]:
    """What is wrong with the body of a `POST /v1/messages`; empty when the API would take it.

    It checks what histories get wrong: whose turn it is, that calls and results stand together, ids, empty texts,
    thoughts, marks for the cache, tools and settings that don't go together.
    """
    return list(_problems(body))


def _problems(body: dict[str, Any]) -> Iterator[str]:
    if not isinstance(body.get("model"), str) or not body["model"]:
        yield "model: Field required"
    if not isinstance(body.get("max_tokens"), int) or body["max_tokens"] < 1:
        yield "max_tokens: must be a whole number of at least 1"
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        yield "messages: at least one message is required"
        return
    yield from _settings(body)
    yield from _tools(body)
    yield from _order(messages)
    ids: set[str] = set()
    for place, message in enumerate(messages):
        content = message.get("content")
        if not isinstance(content, list) or not content:
            yield f"messages.{place}: content must be a list that isn't empty"
            continue
        for index, block in enumerate(content):
            yield from _block(block, message["role"], f"messages.{place}.content.{index}")
        yield from _pairs(messages, place, ids)
    yield from _served(messages)
    yield from _thoughts(body, messages)
    marks = str(body).count("'cache_control'")
    if marks > 4:
        yield f"A maximum of 4 blocks with cache_control may be provided. Found {marks}"


def _order(messages: list[dict[str, Any]]) -> Iterator[str]:
    if messages[0]["role"] != "user":
        yield "messages: first message must use the user role"
    for place, message in enumerate(messages):
        if message.get("role") not in ("user", "assistant"):
            yield f"messages.{place}.role: must be user or assistant"
        if place and message["role"] == messages[place - 1]["role"]:
            yield f"messages.{place}: roles must alternate"
    last = messages[-1]
    if last["role"] == "assistant":
        pending = {block["id"] for block in last["content"] if block["type"].endswith("_tool_use")}
        if not pending - {block.get("tool_use_id") for block in last["content"]}:
            yield "messages: this model does not support prefill: the conversation must end with a user message"


def _settings(body: dict[str, Any]) -> Iterator[str]:
    thinking = body.get("thinking") or {"type": "disabled"}
    if thinking["type"] == "enabled" and not 1024 <= thinking.get("budget_tokens", 0) < body["max_tokens"]:
        yield "thinking.budget_tokens: must be at least 1024 and below max_tokens"
    if thinking["type"] in ("enabled", "adaptive"):
        if body.get("temperature", 1) != 1:
            yield "temperature: may only be 1 when thinking is enabled"
        if (body.get("tool_choice") or {}).get("type") in ("any", "tool"):
            yield "Thinking may not be enabled when tool_choice forces tool use"


def _tools(body: dict[str, Any]) -> Iterator[str]:
    names: list[str] = [tool.get("name", "") for tool in body.get("tools", ())]
    for name in names:
        if not _NAME.fullmatch(name):
            yield f"tools: name {name!r} should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'"
    if len(set(names)) != len(names):
        yield "tools: Tool names must be unique"
    for tool in body.get("tools", ()):
        if tool.get("type") in (None, "custom") and tool.get("input_schema", {}).get("type") != "object":
            yield f"tools.{tool.get('name')}.input_schema.type: must be 'object'"
    choice = body.get("tool_choice") or {}
    if choice.get("type") == "tool" and choice.get("name") not in names:
        yield f"tool_choice: tool {choice.get('name')!r} not found in provided tools"
    if choice and not names:
        yield "tool_choice may only be specified while providing tools"
    if not names and any(block.get("type") == "tool_use" for block in _blocks(body["messages"])):
        yield "Requests which include `tool_use` or `tool_result` blocks must define tools"


def _blocks(messages: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for message in messages:
        yield from message.get("content") or ()


def _block(block: dict[str, Any], role: str, where: str) -> Iterator[str]:
    kind = str(block.get("type"))
    spoken = kind in _SPOKEN or (kind.endswith("_tool_result") and kind != "tool_result")
    if role == "assistant" and not spoken:
        yield f"{where}: `{kind}` blocks are not permitted in assistant messages"
    if role == "user" and kind not in _TOLD:
        yield f"{where}: `{kind}` blocks are not permitted in user messages"
    if kind == "text" and not str(block.get("text", "")).strip():
        yield f"{where}: text content blocks must contain non-whitespace text"
    if kind == "thinking" and not block.get("signature"):
        yield f"{where}.thinking.signature: Field required"
    if kind == "redacted_thinking" and not block.get("data"):
        yield f"{where}.redacted_thinking.data: Field required"
    if kind.endswith("tool_use"):
        if not _ID.fullmatch(str(block.get("id", ""))):
            yield f"{where}.{kind}.id: should match pattern '^[a-zA-Z0-9_-]+$'"
        if not isinstance(block.get("input"), dict):
            yield f"{where}.{kind}.input: Input should be a valid dictionary"
    source = block.get("source") or {}
    if kind == "image" and source.get("type") == "base64" and source.get("media_type") not in _IMAGES:
        yield f"{where}.image.source.media_type: {source.get('media_type')!r} is not supported"
    if kind == "tool_result":
        for inner in block["content"] if isinstance(block.get("content"), list) else ():
            if inner.get("type") not in ("text", "image", "search_result", "document", "tool_reference"):
                yield f"{where}.tool_result.content: `{inner.get('type')}` blocks are not permitted"
            yield from _block(inner, "user", f"{where}.tool_result.content")


def _pairs(messages: list[dict[str, Any]], place: int, ids: set[str]) -> Iterator[str]:
    """Calls of one message and results of the next."""
    message = messages[place]
    if message["role"] == "user":
        kinds = [block["type"] for block in message["content"]]
        results = [block["tool_use_id"] for block in message["content"] if block["type"] == "tool_result"]
        if "tool_result" in kinds[len(results) :]:
            yield f"messages.{place}: tool_result blocks must come before all other content"
        if len(set(results)) != len(results):
            yield f"messages.{place}: each tool_use must have a single result"
        before = messages[place - 1]["content"] if place else []
        called = {block["id"] for block in before if block["type"] == "tool_use"}
        for result in results:
            if result not in called:
                yield f"messages.{place}: unexpected `tool_use_id` {result!r}: no tool_use in the previous message"
        return
    calls = [block["id"] for block in message["content"] if block["type"] == "tool_use"]
    for call in calls:
        if call in ids:
            yield f"messages.{place}: `tool_use` ids must be unique: {call!r}"
        ids.add(call)
    after = messages[place + 1]["content"] if place + 1 < len(messages) else []
    answered = {block["tool_use_id"] for block in after if block["type"] == "tool_result"}
    for call in calls:
        if call not in answered:
            yield f"messages.{place}: `tool_use` {call!r} has no `tool_result` in the next message"


def _served(messages: list[dict[str, Any]]) -> Iterator[str]:
    """Calls of the provider's own tools have results, unless the model is still at it."""
    called: dict[str, int] = {}
    answered: set[str] = set()
    for place, message in enumerate(messages):
        for block in message["content"] if message["role"] == "assistant" else ():
            if block["type"].endswith("_tool_use"):
                called[block["id"]] = place
            elif block["type"].endswith("_tool_result"):
                answered.add(block["tool_use_id"])
                if block["tool_use_id"] not in called:
                    yield f"messages.{place}: `{block['type']}` without its `server_tool_use`"
    callers = {(block.get("caller") or {}).get("tool_id") for block in _blocks(messages[-2:-1])}
    for call, place in called.items():
        waits = place == len(messages) - 2 and call in callers
        if call not in answered and place != len(messages) - 1 and not waits:
            yield f"messages.{place}: `server_tool_use` {call!r} has no result"


def _thoughts(body: dict[str, Any], messages: list[dict[str, Any]]) -> Iterator[str]:
    if (body.get("thinking") or {}).get("type") != "enabled" or messages[-1]["role"] != "user" or len(messages) < 2:
        return
    if any(block["type"] == "tool_result" for block in messages[-1]["content"]):
        first = messages[-2]["content"][0]["type"]
        if first not in ("thinking", "redacted_thinking"):
            yield f"messages.{len(messages) - 2}: Expected `thinking` or `redacted_thinking`, but found `{first}`"
