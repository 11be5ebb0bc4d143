"""Any model that pydantic-ai knows: Gemini, Bedrock, Mistral, Groq, Cohere, ... (extra `models`)."""

import json
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

import anyio
from anyio.lowlevel import RunVar
from anyio.to_thread import run_sync

from agentflow.content import Part, ProviderBlock, Text, Thinking, ToolCall
from agentflow.errors import ConfigError, ModelError, ModelErrorKind
from agentflow.events import Usage
from agentflow.models._anthropic_messages import Block, Form, build_turns
from agentflow.models._sdk import kind_of_status
from agentflow.models.base import (
    Capabilities,
    FinishReason,
    Message,
    Model,
    ModelRequest,
    ModelResponse,
    ModelSettings,
    OnChunk,
    Refusal,
    ToolSpec,
    check_allowed,
    check_model,
)
from agentflow.models.limiter import ConcurrencyLimiter
from agentflow.models.prices import Price
from agentflow.policies import Retry

PROVIDER = "pydantic-ai"
_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "max_tokens",
    "tool_call": "tool_calls",
    "content_filter": "refusal",
}
_CHOICES: dict[str, Any] = {"auto": "auto", "any": "required", "none": "none"}
_KINDS: tuple[tuple[str, ModelErrorKind], ...] = (
    ("RateLimit", "rate_limit"),
    ("Quota", "billing"),
    ("Overloaded", "overloaded"),
    ("ContextWindow", "context_window"),
    ("Authentication", "auth"),
    ("NotFound", "not_found"),
    ("Timeout", "timeout"),
    ("Connection", "connection"),
    ("Unavailable", "server"),
    ("ServerError", "server"),
    ("ContentFilter", "refusal"),
    ("UnexpectedModelBehavior", "stream"),
    ("Rejected", "bad_request"),
)
"""Our kinds by the names of pydantic-ai's errors, the narrower ones first."""


class PydanticAIModel(Model):
    """A model of pydantic-ai's, for the long tail of providers.

        LlmAgent("critic", model="pydantic-ai:google:gemini-3-pro")

    What a provider wants back as it was (Gemini's signatures, for instance) is kept and goes back.

    Args:
        model: Its name as pydantic-ai writes it, `provider:model`, or a `pydantic_ai.models.Model`.
        settings: How to generate; `extra` goes into pydantic-ai's settings.
        retry: When it fails in a way that may pass and nothing was shown; `None` never tries again.
        limiter: How many of its calls may be on their way at once.
        price: What it costs, where `genai-prices` doesn't know.
        capabilities: What it can do.

    Raises:
        ConfigError: The extra `models` isn't installed.
    """

    provider = PROVIDER

    def __init__(
        self,
        model: Any,
        *,
        settings: ModelSettings | None = None,
        retry: Retry | None = Model.retry,
        limiter: ConcurrencyLimiter | None = None,
        price: Price | None = None,
        capabilities: Capabilities | None = None,
    ) -> None:
        if find_spec("pydantic_ai") is None:
            raise ConfigError(f"model {model!r} needs the extra `models` (agentflow-py[models])")
        if isinstance(model, str) and ":" not in model:
            raise ConfigError(f"a model of pydantic-ai's is named 'provider:model', not {model!r}")
        check_model(self, settings, retry, limiter, price, capabilities)
        self.name = model.partition(":")[2] if isinstance(model, str) else str(model.model_name)
        self.settings = settings or ModelSettings()
        self.retry = retry
        self.limiter = limiter
        self.price = price
        self.capabilities = capabilities or Capabilities(
            output_schema=False, output_schema_with_tools=False, images=True
        )
        self.provider = model.partition(":")[0] if isinstance(model, str) else str(model.system)
        self._given = model
        self._made: RunVar[Any] = RunVar(f"agentflow {self.name}")

    async def generate(self, request: ModelRequest, on_chunk: OnChunk | None = None) -> ModelResponse:
        ai = _load() if _load.cache_info().currsize else await run_sync(_load, abandon_on_cancel=True)
        inner = self._inner(ai)
        made_up = inner.system in ("function", "test")  # pydantic-ai's own models for tests
        host = "localhost" if made_up else urlsplit(str(inner.base_url or "")).hostname or self.provider
        check_allowed(f"model {self.name!r}", host)
        settings = request.settings.over(self.settings)
        broken: Exception | None = None
        try:
            async with ai.direct.model_request_stream(
                inner,
                _messages(ai, request),
                model_settings=_settings(request, settings),
                model_request_parameters=_parameters(ai, request, settings),
            ) as stream:
                events = aiter(stream)
                try:
                    async for event in events:
                        part = _piece(event)
                        if part is not None and on_chunk is not None:
                            try:
                                await on_chunk(ModelResponse(parts=(part,), partial=True, model=self.name))
                            except Exception as error:  # the reader's, not the model's
                                broken = error
                                raise
                except BaseException as error:
                    if request.site is not None and (error is broken or not isinstance(error, Exception)):
                        request.site.lose(_used(stream.usage) if stream.usage.total_tokens else None)
                    with anyio.move_on_after(5, shield=True):
                        await _shut(stream, events)
                    raise
                return _response(ai, stream.get(), self.name)
        except ai.UserError as error:
            raise ConfigError(f"model {self.name!r}: {error}") from error
        except ai.AgentRunError as error:
            if error is broken:
                raise
            raise _translate(error, self.name, self.provider) from error

    async def aclose(self) -> None:
        """Let go of this event loop's model; its HTTP client belongs to pydantic-ai."""
        self._made.set(None)

    def _inner(self, ai: Any) -> Any:
        if not isinstance(self._given, str):
            return self._given
        inner = self._made.get(None)
        if inner is None:
            try:
                inner = ai.models.infer_model(self._given)
            except (ai.UserError, ValueError, ImportError) as error:
                raise ConfigError(f"model {self._given!r}: {error}") from error
            self._made.set(inner)
        return inner


class _Library:
    """Of pydantic-ai what is needed here."""

    def __init__(self) -> None:
        self.direct = import_module("pydantic_ai.direct")
        self.messages = import_module("pydantic_ai.messages")
        self.models = import_module("pydantic_ai.models")
        self.tools = import_module("pydantic_ai.tools")
        errors = import_module("pydantic_ai.exceptions")
        self.UserError: type[Exception] = errors.UserError
        self.AgentRunError: type[Exception] = errors.AgentRunError


@cache
def _load() -> Any:
    return _Library()


async def _shut(stream: Any, events: Any) -> None:
    """Stop a stream that isn't read to its end, and let the generators that read it run out."""
    try:
        await stream.cancel()
        async for _ in events:
            pass
    except Exception:
        pass


def _messages(ai: Any, request: ModelRequest) -> list[Any]:
    """Turns are made valid in Claude's form, which is the stricter, and told in pydantic-ai's."""
    turns = build_turns(request.messages)
    own = {id(message.form): message for message in request.messages}
    messages: list[Any] = []
    names: dict[str, str] = {}
    for turn in turns:
        if turn.role == "user":
            parts = [part for block in turn.blocks() for part in _told(ai, block, names)]
            if parts:
                messages.append(ai.messages.ModelRequest(parts=parts))
            continue
        names.update({block["id"]: block["name"] for block in turn.blocks() if block["type"] == "tool_use"})
        for item in turn.items:
            kept = _kept(ai, own.get(id(item)))
            spoken = [kept] if kept is not None else _spoken(ai, item)
            messages.extend(spoken)
    if request.system.strip():
        if messages and isinstance(messages[-1], ai.messages.ModelRequest):
            messages[-1].instructions = request.system
        else:
            messages.append(ai.messages.ModelRequest(parts=[], instructions=request.system))
    return messages


def _kept(ai: Any, message: Message | None) -> Any:
    """What the provider said, as it said it, if that was kept."""
    for part in message.parts if message is not None else ():
        if isinstance(part, ProviderBlock) and part.provider == PROVIDER:
            return ai.messages.ModelMessagesTypeAdapter.validate_python([part.block])[0]
    return None


def _spoken(ai: Any, item: Any) -> list[Any]:
    parts: list[Any] = []
    for block in item.content if type(item) is Form else [item]:
        if block["type"] == "text":
            parts.append(ai.messages.TextPart(block["text"]))
        elif block["type"] == "tool_use":
            parts.append(ai.messages.ToolCallPart(block["name"], block["input"], block["id"]))
    return [ai.messages.ModelResponse(parts=parts)] if parts else []


def _told(ai: Any, block: Block, names: dict[str, str]) -> list[Any]:
    kind, source = block["type"], block.get("source") or {}
    if kind == "tool_result":
        inner = block.get("content", "")
        words = inner if isinstance(inner, str) else "\n".join(one["text"] for one in inner if one["type"] == "text")
        result = ai.messages.ToolReturnPart(
            names.get(block["tool_use_id"], "tool"),
            words,
            block["tool_use_id"],
            outcome="failed" if block.get("is_error") else "success",
        )
        shown = [] if isinstance(inner, str) else [one for one in inner if one["type"] != "text"]
        return [result, *(part for one in shown for part in _told(ai, one, names))]
    content: Any = None
    if kind == "text":
        content = block["text"]
    elif source.get("type") == "text":
        content = f"{block.get('title') or 'document'}:\n{source['data']}"
    elif source.get("type") == "base64":
        content = [ai.messages.BinaryContent.from_data_uri(f"data:{source['media_type']};base64,{source['data']}")]
    elif source.get("type") == "url":
        make = ai.messages.ImageUrl if kind == "image" else ai.messages.DocumentUrl
        content = [make(url=source["url"])]
    return [] if content is None else [ai.messages.UserPromptPart(content)]


def _parameters(ai: Any, request: ModelRequest, settings: ModelSettings) -> Any:
    tools = [
        ai.tools.ToolDefinition(
            name=tool.name,
            description=tool.description,
            parameters_json_schema=tool.parameters,
            strict=True if tool.strict or settings.strict_tools else None,
        )
        for tool in request.tools
        if isinstance(tool, ToolSpec)
    ]
    return ai.models.ModelRequestParameters(function_tools=tools)


def _settings(request: ModelRequest, settings: ModelSettings) -> Any:
    choice = request.tool_choice
    thinking: Any = settings.thinking
    if settings.thinking not in (None, False) and settings.effort is not None:
        thinking = settings.effort
    elif isinstance(thinking, int) and not isinstance(thinking, bool):
        thinking = True
    wanted = {
        "max_tokens": settings.max_tokens,
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "seed": settings.seed,
        "stop_sequences": list(settings.stop) or None,
        "timeout": settings.timeout,
        "parallel_tool_calls": settings.parallel_tool_calls,
        "thinking": thinking,
        "tool_choice": _CHOICES.get(choice, [choice]) if choice is not None else None,
    }
    return {**{key: value for key, value in wanted.items() if value is not None}, **settings.extra}


def _piece(event: Any) -> Part | None:
    """What a streamed event adds, if it is something to show."""
    kind = getattr(event, "event_kind", "")
    if kind == "part_start":
        part = event.part
        if part.part_kind == "text" and part.content:
            return Text(part.content)
        if part.part_kind == "thinking" and part.content:
            return Thinking(part.content)
        if part.part_kind == "tool-call":
            return ToolCall(part.tool_call_id, part.tool_name, {}, extra={"delta": _as_json(part.args)})
    elif kind == "part_delta":
        delta = event.delta
        if delta.part_delta_kind == "text" and delta.content_delta:
            return Text(delta.content_delta)
        if delta.part_delta_kind == "thinking" and delta.content_delta:
            return Thinking(delta.content_delta)
        if delta.part_delta_kind == "tool_call" and delta.args_delta:
            return ToolCall(delta.tool_call_id or "", "", {}, extra={"delta": _as_json(delta.args_delta)})
    return None


def _as_json(args: Any) -> str:
    return args if isinstance(args, str) else "" if args is None else json.dumps(args)


def _response(ai: Any, answer: Any, name: str) -> ModelResponse:
    parts: list[Part] = []
    peculiar = False
    for part in answer.parts:
        details = getattr(part, "provider_details", None)
        peculiar = peculiar or bool(details or getattr(part, "signature", None))
        if part.part_kind == "text":
            if part.content:
                parts.append(Text(part.content))
        elif part.part_kind == "thinking":
            parts.append(Thinking(part.content, extra={"provider": PROVIDER}))
        elif part.part_kind == "tool-call":
            parts.append(ToolCall(part.tool_call_id, part.tool_name, _arguments(part)))
        else:
            peculiar = True  # a tool of the provider's own, a picture
    if peculiar:
        kept = ai.messages.ModelMessagesTypeAdapter.dump_python([answer], mode="json")[0]
        parts.append(ProviderBlock(PROVIDER, kept))
    reason: FinishReason = _REASONS.get(answer.finish_reason or "stop", "other")
    if reason == "stop" and any(type(part) is ToolCall for part in parts):
        reason = "tool_calls"
    return ModelResponse(
        parts=tuple(parts),
        response_id=answer.provider_response_id,
        finish_reason=reason,
        usage=_used(answer.usage),
        model=answer.model_name or name,
        refusal=Refusal() if reason == "refusal" else None,
    )


def _used(usage: Any) -> Usage:
    return Usage(
        usage.input_tokens or 0,
        usage.output_tokens or 0,
        usage.cache_read_tokens or 0,
        usage.cache_write_tokens or 0,
        (usage.details or {}).get("reasoning_tokens", 0),
        1,
    )


def _arguments(part: Any) -> dict[str, Any]:
    try:
        args = part.args_as_dict(raise_if_invalid=True)
    except (ValueError, AssertionError):
        return {"INVALID_JSON": _as_json(part.args)}
    return args if isinstance(args, dict) else {"INVALID_JSON": _as_json(part.args)}


def _translate(error: Exception, model: str, provider: str) -> ModelError:
    names = [kind.__name__ for kind in type(error).__mro__]
    status = getattr(error, "status_code", None)
    fallback: ModelErrorKind = "unknown" if status is None else kind_of_status(status)
    kind: ModelErrorKind = next((ours for part, ours in _KINDS if any(part in name for name in names)), fallback)
    return ModelError(
        f"model {model!r}: {error}",
        kind=kind,
        retry_after=getattr(error, "retry_after", None),
        status=status,
        provider=provider,
        model=model,
    )
