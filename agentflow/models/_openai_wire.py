"""A talk as OpenAI's Chat Completions take it, and what they stream put together."""

import json
from typing import Any

from agentflow.content import Part, Text, Thinking, ToolCall
from agentflow.errors import ModelError, ModelErrorKind
from agentflow.events import Usage
from agentflow.models._anthropic_messages import Block, build_turns
from agentflow.models._sdk import count_of, kind_of_status, mapping_of, retry_after, text_of
from agentflow.models.base import FinishReason, ModelRequest, ModelResponse, ModelSettings, Refusal, ToolSpec

PROVIDER = "openai"
_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "max_tokens",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "refusal",
}
_BY_CODE: dict[str, ModelErrorKind] = {
    "context_length_exceeded": "context_window",
    "insufficient_quota": "billing",
    "invalid_api_key": "auth",
    "model_not_found": "not_found",
    "rate_limit_exceeded": "rate_limit",
    "server_error": "server",
}


def build_body(name: str, request: ModelRequest, settings: ModelSettings, *, theirs: bool) -> dict[str, Any]:
    """The body of a request.

    Args:
        name: The model's, where the request has none.
        request: What is asked.
        settings: How to generate.
        theirs: It goes to OpenAI itself, and not to somebody who speaks like it and may know less.
    """
    body: dict[str, Any] = {
        "model": request.model or name,
        "messages": _messages(request),
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    wanted = {
        "max_completion_tokens" if theirs else "max_tokens": settings.max_tokens,
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "stop": list(settings.stop) or None,
        "seed": settings.seed,
        "reasoning_effort": "none" if settings.thinking is False and theirs else settings.effort,
    }
    body.update({key: value for key, value in wanted.items() if value is not None})
    tools = [
        _declaration(tool, strict=tool.strict or bool(settings.strict_tools))
        for tool in request.tools
        if isinstance(tool, ToolSpec)
    ]
    tools += [tool.block for tool in request.tools if not isinstance(tool, ToolSpec) and tool.provider == PROVIDER]
    if tools:
        body["tools"] = tools
        choice = request.tool_choice
        if choice is not None:
            named = {"type": "function", "function": {"name": choice}}
            body["tool_choice"] = {"auto": "auto", "none": "none", "any": "required"}.get(choice, named)
        if settings.parallel_tool_calls is not None:
            body["parallel_tool_calls"] = settings.parallel_tool_calls
    schema = request.output_schema
    if schema is not None:
        strictly = closed(schema.schema) if schema.strict else schema.schema
        described = {"name": schema.name, "schema": strictly, "strict": schema.strict}
        body["response_format"] = {"type": "json_schema", "json_schema": described}
    body.update(settings.extra)
    return body


def _declaration(tool: ToolSpec, *, strict: bool) -> dict[str, Any]:
    parameters = closed(tool.parameters) if strict else tool.parameters
    function: dict[str, Any] = {"name": tool.name, "description": tool.description, "parameters": parameters}
    if strict:
        function["strict"] = True
    return {"type": "function", "function": {**function, **(tool.extra or {})}}


def closed(schema: Any) -> Any:
    """A JSON schema as strict mode takes it: objects have what they declare, all of it, and nothing else."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    inner: dict[str, Any] = {}
    for key, value in schema.items():
        if key in ("properties", "$defs") and isinstance(value, dict):
            inner[key] = {name: closed(one) for name, one in value.items()}
        elif key in ("enum", "const", "required"):
            inner[key] = value
        elif key != "default":
            inner[key] = closed(value)
    if "$ref" in inner:
        return {"$ref": inner["$ref"]}
    if schema.get("type") == "object" or "properties" in schema:
        properties = inner.setdefault("properties", {})
        inner.update(required=list(properties), additionalProperties=False)
    return inner


def _messages(request: ModelRequest) -> list[dict[str, Any]]:
    """Turns are made valid in Claude's form, which is the stricter, and told in OpenAI's."""
    messages: list[dict[str, Any]] = []
    if request.system.strip():
        messages.append({"role": "system", "content": request.system})
    for turn in build_turns(request.messages):
        if turn.role == "assistant":
            messages += _spoken(turn.blocks())
        else:
            messages += _told(turn.blocks())
    return messages


def _spoken(blocks: list[Block]) -> list[dict[str, Any]]:
    words = "".join(block["text"] for block in blocks if block["type"] == "text")
    calls = [
        {
            "id": block["id"],
            "type": "function",
            "function": {"name": block["name"], "arguments": json.dumps(block["input"], ensure_ascii=False)},
        }
        for block in blocks
        if block["type"] == "tool_use"
    ]
    if not words and not calls:
        return []
    message: dict[str, Any] = {"role": "assistant", "content": words or None}
    if calls:
        message["tool_calls"] = calls
    return [message]


def _told(blocks: list[Block]) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    content: list[dict[str, Any]] = []
    for block in blocks:
        if block["type"] == "tool_result":
            inner = block.get("content", "")
            if not isinstance(inner, str):  # a tool's message has words only: pictures come after it
                content += [item for item in map(_item, inner) if item is not None and item["type"] != "text"]
                inner = (
                    "\n".join(item["text"] for item in block.get("content", ()) if item["type"] == "text")
                    or "(see below)"
                )
            said = f"Error: {inner}" if block.get("is_error") else inner
            messages.append({"role": "tool", "tool_call_id": block["tool_use_id"], "content": said})
        elif (item := _item(block)) is not None:
            content.append(item)
    if len(content) == 1 and content[0]["type"] == "text":
        messages.append({"role": "user", "content": content[0]["text"]})
    elif content:
        messages.append({"role": "user", "content": content})
    return messages


def _item(block: Block) -> dict[str, Any] | None:
    kind, source = block["type"], block.get("source") or {}
    if kind == "text":
        return {"type": "text", "text": block["text"]}
    if kind == "image" and source["type"] == "base64":
        return {"type": "image_url", "image_url": {"url": f"data:{source['media_type']};base64,{source['data']}"}}
    if kind == "image" and source["type"] == "url":
        return {"type": "image_url", "image_url": {"url": source["url"]}}
    if kind == "document":
        title = str(block.get("title") or "document")
        if source["type"] == "text":
            return {"type": "text", "text": f"{title}:\n{source['data']}"}
        if source["type"] == "base64":
            data = f"data:{source['media_type']};base64,{source['data']}"
            return {"type": "file", "file": {"filename": title, "file_data": data}}
        if source["type"] == "file":
            return {"type": "file", "file": {"file_id": source["file_id"]}}
        return {"type": "text", "text": f"[{title}: {source.get('url', '')}]"}
    return None


class Answer:
    """One answer as it grows."""

    def __init__(self, model: str) -> None:
        self.asked = model
        self.finished = False
        self._id: str | None = None
        self._model = ""
        self._text: list[str] = []
        self._thought: list[str] = []
        self._refused: list[str] = []
        self._calls: dict[int, dict[str, Any]] = {}
        self._reason = ""
        self._usage: dict[str, Any] | None = None

    def feed(self, event: Any) -> ModelResponse | None:
        """Take in the next chunk; gives what can be shown of it.

        Raises:
            ModelError: It makes no sense here.
        """
        try:
            parts = self._take(event)
        except Exception as error:
            raise self._broken(f"a chunk made no sense: {json.dumps(event, default=str)[:200]}") from error
        if not parts:
            return None
        return ModelResponse(parts=parts, partial=True, response_id=self._id, model=self._model)

    def _take(self, chunk: Any) -> list[Part]:
        chunk = mapping_of(chunk)
        self._id = self._id or text_of(chunk.get("id") or "") or None
        self._model = self._model or text_of(chunk.get("model") or "")
        if chunk.get("usage"):
            self._usage = mapping_of(chunk["usage"])
        parts: list[Part] = []
        for choice in chunk.get("choices") or ():
            delta = choice.get("delta") or {}
            thought = text_of(delta.get("reasoning_content") or delta.get("reasoning") or "")
            if thought:
                self._thought.append(thought)
                parts.append(Thinking(thought))
            words = text_of(delta.get("content") or "")
            if words:
                self._text.append(words)
                parts.append(Text(words))
            if delta.get("refusal"):
                self._refused.append(text_of(delta["refusal"]))
            parts += [self._call(call) for call in delta.get("tool_calls") or ()]
            if choice.get("finish_reason"):
                self._reason = text_of(choice["finish_reason"])
                self.finished = True
        return parts

    def _call(self, delta: dict[str, Any]) -> Part:
        call = self._calls.setdefault(delta.get("index") or 0, {"id": "", "name": "", "json": []})
        function = delta.get("function") or {}
        call["id"] = call["id"] or text_of(delta.get("id") or "")
        call["name"] = call["name"] or text_of(function.get("name") or "")
        piece = text_of(function.get("arguments") or "")
        call["json"].append(piece)
        return ToolCall(call["id"], call["name"], {}, extra={"delta": piece})

    def response(self) -> ModelResponse:
        """The whole answer.

        Raises:
            ModelError: The stream ended before it did.
        """
        if not self.finished:
            raise self._broken("the stream ended before the answer did")
        reason = "refusal" if self._refused else _REASONS.get(self._reason, "other")
        calls = [call for call in self._calls.values() if reason != "max_tokens" or _arguments(call)[1]]
        parts: list[Part] = [ToolCall(call["id"], call["name"], _arguments(call)[0]) for call in calls]
        if self._text:
            parts.insert(0, Text("".join(self._text)))
        if self._thought:
            parts.insert(0, Thinking("".join(self._thought), extra={"provider": PROVIDER}))
        if self._calls and reason == "stop":
            reason = "tool_calls"
        return ModelResponse(
            parts=tuple(parts),
            response_id=self._id,
            finish_reason=reason,
            usage=self.used() or Usage(model_calls=1),
            model=self._model or self.asked,
            refusal=Refusal("".join(self._refused)) if reason == "refusal" else None,
        )

    def used(self) -> Usage | None:
        """What was charged, if that has been said: it comes last."""
        if self._usage is None:
            return None
        usage = self._usage
        inputs, outputs = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
        return Usage(
            count_of(usage.get("prompt_tokens")),
            count_of(usage.get("completion_tokens")),
            count_of(inputs.get("cached_tokens")) if isinstance(inputs, dict) else 0,
            0,
            count_of(outputs.get("reasoning_tokens")) if isinstance(outputs, dict) else 0,
            1,
        )

    def _broken(self, why: str) -> ModelError:
        return ModelError(
            f"the answer of model {self.asked!r} broke off or made no sense: {why}",
            kind="stream", provider=PROVIDER, model=self.asked, usage=self.used(),
        )  # fmt: skip


def _arguments(call: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """A call's arguments, and whether they are what the model meant: JSON that can't be read is passed on as it is."""
    text = "".join(call["json"])
    try:
        value = json.loads(text or "{}")
    except ValueError:
        value = None
    return (value, True) if isinstance(value, dict) else ({"INVALID_JSON": text}, False)


def translate(error: Exception, model: str, *, streaming: bool) -> ModelError:
    """The `ModelError` for what the SDK or its HTTP client raised."""
    status = getattr(error, "status_code", None)
    if status is not None:
        response: Any = error
        return from_answer(int(status), response.body, response.response.headers, model)
    name = type(error).__name__
    kind: ModelErrorKind = "timeout" if "Timeout" in name else "stream" if streaming else "connection"
    said = {"timeout": "no answer in time", "stream": "the answer broke off"}.get(kind, "can't be reached")
    cause = error.__cause__ or error
    why = f"{type(cause).__name__}: {cause}".rstrip(": ")
    return ModelError(f"model {model!r}: {said} ({why})", kind=kind, provider=PROVIDER, model=model)


def from_answer(status: int, body: Any, headers: Any, model: str) -> ModelError:
    """The `ModelError` for an answer that is one; `body` is what it says under `error`."""
    inner: dict[str, Any] = body if isinstance(body, dict) else {}
    code, said = str(inner.get("code") or inner.get("type") or ""), str(inner.get("message") or body or "")
    kind = _BY_CODE.get(code) or kind_of_status(status)
    if kind == "bad_request" and "context length" in said:
        kind = "context_window"
    after = retry_after(headers)
    return ModelError(
        f"model {model!r}: {status} {code or kind}: {said}"
        + (f" (retry after {after:g} s)" if after is not None else ""),
        kind=kind,
        retry_after=after,
        status=status,
        provider=PROVIDER,
        model=model,
        request_id=headers.get("x-request-id"),
    )
