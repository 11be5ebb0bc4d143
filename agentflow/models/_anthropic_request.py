"""One request to Claude: settings, tools, thinking and caching in the API's own words."""

import re
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from agentflow.models._anthropic_messages import Form, Turn, form_of
from agentflow.models._anthropic_stream import PROVIDER
from agentflow.models.base import Message, ModelRequest, ModelSettings, ServerTool, ToolSpec

MAX_TOKENS = 32_000

_BUDGETED = re.compile(r"claude-(3|(opus|sonnet|haiku)-4-([015]\b|2\d{7}))")
"""Models that think by a budget of tokens only."""

_BETAS = {
    "clear_tool_uses_20250919": "context-management-2025-06-27",
    "clear_thinking_20251015": "context-management-2025-06-27",
    "compact_20260112": "compact-2026-01-12",
}


def build_params(
    name: str,
    defaults: ModelSettings,
    betas: Sequence[str],
    request: ModelRequest,
    turns: list[Form | Turn],
    sdk: Any,
    *,
    by_itself: bool,
) -> tuple[dict[str, Any], dict[str, str], str]:
    """The request's body but for the messages, its headers, and what goes behind the path.

    Args:
        name: The model's, where the request has none.
        defaults: Its own settings.
        betas: Its own beta features.
        request: What is asked.
        turns: Its messages; the last may get a mark for the cache.
        sdk: The module `anthropic`.
        by_itself: Whether the API finds out by itself how much of a prompt to cache.
    """
    settings = request.settings.over(defaults)
    extra = dict(settings.extra)
    params: dict[str, Any] = {"model": request.model or name, "max_tokens": settings.max_tokens or MAX_TOKENS}
    _system_and_cache(params, request.system, settings.cache, turns, by_itself=by_itself)
    _tools(params, request, settings, turns, sdk)
    _thinking(params, settings, turns)
    if request.output_schema is not None:
        schema = sdk.transform_schema(request.output_schema.schema)
        params["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
    if settings.effort is not None:
        params.setdefault("output_config", {})["effort"] = settings.effort
    if settings.stop:
        params["stop_sequences"] = list(settings.stop)
    if params.get("thinking", {}).get("type") in (None, "disabled"):  # a model that thinks chooses for itself
        if settings.temperature is not None:
            params["temperature"] = settings.temperature
        if settings.top_p is not None:
            params["top_p"] = settings.top_p
    container = _container(request.messages)
    if container is not None:
        params["container"] = container
    wanted = [*betas, *extra.pop("betas", ())]
    edits = (extra.get("context_management") or {}).get("edits", ())
    wanted += [_BETAS.get(edit.get("type"), "context-management-2025-06-27") for edit in edits]
    params.update(extra)
    headers = {"anthropic-beta": ",".join(dict.fromkeys(wanted))} if wanted else {}
    return params, headers, "?beta=true" if wanted else ""


def _system_and_cache(
    params: dict[str, Any], system: str, cache: bool | str | None, turns: list[Form | Turn], *, by_itself: bool
) -> None:
    mark: dict[str, Any] | None = None
    if cache is not False:
        mark = {"type": "ephemeral", "ttl": cache} if isinstance(cache, str) else {"type": "ephemeral"}
    if system.strip():
        block: dict[str, Any] = {"type": "text", "text": system}
        if mark:
            block["cache_control"] = mark  # what agents share is cached even where their talks differ
        params["system"] = [block]
    if mark and by_itself:
        params["cache_control"] = mark
    elif mark and turns[-1].role == "user":
        *before, last = turns[-1].blocks()
        turns[-1] = Turn("user", [*before, {**last, "cache_control": mark}])


def _tools(
    params: dict[str, Any], request: ModelRequest, settings: ModelSettings, turns: list[Form | Turn], sdk: Any
) -> None:
    tools = [_declaration(tool, settings, sdk) for tool in request.tools if not _foreign(tool)]
    choice = request.tool_choice
    if not tools:
        tools = [{"name": called, "input_schema": {"type": "object"}} for called in _called(turns)]
        choice = "none"  # calls in the history need their declarations, but there is nobody to answer new ones
    if not tools:
        return
    params["tools"] = tools
    if choice is None and settings.parallel_tool_calls is None:
        return
    kind: dict[str, Any] = {"type": choice or "auto"}
    if choice not in (None, "auto", "any", "none"):
        kind = {"type": "tool", "name": choice}
    if settings.parallel_tool_calls is not None and kind["type"] != "none":
        kind["disable_parallel_tool_use"] = not settings.parallel_tool_calls
    params["tool_choice"] = kind


def _declaration(tool: ToolSpec | ServerTool, settings: ModelSettings, sdk: Any) -> dict[str, Any]:
    """A tool as the API declares it. One of a `type` that the API knows (`memory_20250818`) needs no schema."""
    if isinstance(tool, ServerTool):
        return tool.block
    extra = tool.extra or {}
    if extra.get("type", "custom") != "custom":
        return {"name": tool.name, **extra}
    strict = tool.strict or settings.strict_tools
    schema = sdk.transform_schema(tool.parameters) if strict else tool.parameters
    block: dict[str, Any] = {"name": tool.name, "input_schema": {"type": "object", **schema}}
    if tool.description:
        block["description"] = tool.description
    if strict:
        block["strict"] = True
    return {**block, **extra}


def _foreign(tool: ToolSpec | ServerTool) -> bool:
    return isinstance(tool, ServerTool) and tool.provider != PROVIDER


def _called(turns: list[Form | Turn]) -> list[str]:
    """Names of our tools that the history calls."""
    forms = [item for turn in turns if turn.role == "assistant" for item in turn.items if type(item) is Form]
    uses = [block for form in forms if form.calls for block in form.content if block["type"] == "tool_use"]
    return list(dict.fromkeys(block["name"] for block in uses))


def _thinking(params: dict[str, Any], settings: ModelSettings, turns: list[Form | Turn]) -> None:
    wanted = settings.thinking
    if wanted is None:
        return
    if wanted is False:
        params["thinking"] = {"type": "disabled"}
        return
    if params.get("tool_choice", {}).get("type") in ("any", "tool"):
        return  # a model that must call a tool can't think first
    if wanted is True and not _BUDGETED.search(params["model"]):
        thinking: dict[str, Any] = {"type": "adaptive"}
    else:
        budget = max(1024, params["max_tokens"] // 2) if wanted is True else max(1024, wanted)
        if _in_thoughtless_loop(turns):
            return
        params["max_tokens"] = max(params["max_tokens"], budget + 1024)
        thinking = {"type": "enabled", "budget_tokens": budget}
    if settings.show_thinking is not None:
        thinking["display"] = "summarized" if settings.show_thinking else "omitted"
    params["thinking"] = thinking


def _in_thoughtless_loop(turns: list[Form | Turn]) -> bool:
    """Whether tools were called without a thought before: then the API wants none for the rest of the turn."""
    if len(turns) < 2 or not any(block["type"] == "tool_result" for block in turns[-1].blocks()):
        return False
    return turns[-2].blocks()[0]["type"] not in ("thinking", "redacted_thinking")


def _container(messages: Sequence[Message]) -> str | None:
    """Where the provider ran code for this talk, if that is still there."""
    for message in reversed(messages):
        container = form_of(message).container
        if container is not None:
            try:
                ends = datetime.fromisoformat(str(container["expires_at"]).replace("Z", "+00:00")).timestamp()
            except (KeyError, ValueError):
                ends = float("inf")
            return str(container["id"]) if ends > time.time() else None
    return None
