"""A fake of Claude's API that speaks its real wire format, to the real SDK: in this process, or over loopback."""

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from importlib import import_module
from types import TracebackType
from typing import Any, Literal, Self

from agentflow.content import Part, ProviderBlock, Text, Thinking, ToolCall, as_parts
from agentflow.errors import ConfigError
from agentflow.models.anthropic import AnthropicModel
from agentflow.models.base import ModelSettings
from agentflow.models.limiter import ConcurrencyLimiter
from agentflow.models.prices import Price
from agentflow.policies import Retry
from agentflow.testing.anthropic_rules import anthropic_problems
from agentflow.testing.models import UnexpectedCall

Failure = Literal["drop", "eof", "stall", "garbage", "error"]
"""`drop`: the connection is lost. `eof`: the stream just ends. `stall`: nothing comes any more. `garbage`: what comes
is no event. `error`: an `event: error` in the middle of the stream, which has status 200."""

_RETRY = Retry(delay=0.01)

Pace = Callable[[int], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One HTTP response of the fake. Make it with `says` or `fails`.

    Attributes:
        events: What is streamed.
        status: The HTTP status.
        headers: Its headers.
        error: The body, where it isn't streamed.
        failure: What goes wrong in the middle of the stream.
        after: After how many events it does.
        error_type: Of `failure="error"`.
        pace: Awaited before each event, with its number from 0: a test's gate.
    """

    events: tuple[dict[str, Any], ...] = ()
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    error: dict[str, Any] | None = None
    failure: Failure | None = None
    after: int = 0
    error_type: str = "overloaded_error"
    pace: Pace | None = None

    def breaking(self, failure: Failure, after: int, *, error_type: str = "overloaded_error") -> "Reply":
        """The same reply, which breaks after so many events."""
        return replace(self, failure=failure, after=after, error_type=error_type)

    def frames(self) -> list[bytes]:
        """What is streamed, as bytes: one server-sent event each, up to where it breaks."""
        whole = [_frame(event) for event in self.events]
        if self.failure is None:
            return whole
        frames = whole[: self.after]
        if self.failure == "garbage":
            frames.append(b'event: content_block_delta\ndata: {"type": "content_block_del\n\n')
        elif self.failure == "error":
            frames.append(_frame(_error_body(self.error_type, "the stream broke, as it was told to"), name="error"))
        return frames

    def body(self) -> bytes:
        """The whole of it in one piece of JSON, for who doesn't stream."""
        if self.error is not None:
            return json.dumps(self.error).encode()
        message: dict[str, Any] = json.loads(json.dumps(self.events[0]["message"]))
        inputs: dict[int, str] = {}
        for event in self.events:
            if event["type"] == "content_block_start":
                message["content"].append(dict(event["content_block"]))
            elif event["type"] == "content_block_delta":
                block, delta = message["content"][event["index"]], event["delta"]
                for key in ("text", "thinking", "signature"):
                    if key in delta:
                        block[key] = block.get(key, "") + delta[key]
                if "partial_json" in delta:
                    inputs[event["index"]] = inputs.get(event["index"], "") + delta["partial_json"]
                    block["input"] = {}
            elif event["type"] == "message_delta":
                message.update(event["delta"])
                message["usage"].update(event["usage"])
        for index, text in inputs.items():
            message["content"][index]["input"] = json.loads(text or "{}")
        return json.dumps(message).encode()


def says(
    *content: Part | str,
    stop_reason: str | None = None,
    input_tokens: int = 100,
    output_tokens: int | None = None,
    cache_read: int = 0,
    cache_write: int = 0,
    message_id: str | None = None,
    model: str = "claude-opus-5-5",
    stop_details: dict[str, Any] | None = None,
    container: dict[str, Any] | None = None,
    pace: Pace | None = None,
) -> Reply:
    """A streamed answer: text word by word, thoughts with their signature, tool input split inside of its JSON.

    Args:
        *content: Text, `Thinking`, `ToolCall`, or `ProviderBlock("anthropic", ...)` for any other block.
        stop_reason: By default `tool_use` when it calls tools, else `end_turn`.
        input_tokens: Not counting what the cache holds.
        output_tokens: By default one for each event.
        cache_read: Tokens read from the cache.
        cache_write: Tokens written to it.
        message_id: By default one that counts up from the request.
        model: Who answers.
        stop_details: For instance of a refusal.
        container: Where code was run.
        pace: Awaited before each event, with its number.
    """
    parts = as_parts(list(content))
    reason = stop_reason or ("tool_use" if any(isinstance(part, ToolCall) for part in parts) else "end_turn")
    usage = {
        "input_tokens": input_tokens,
        "output_tokens": 1,
        "cache_read_input_tokens": cache_read,
        "cache_creation_input_tokens": cache_write,
    }
    message: dict[str, Any] = {
        "id": message_id or "", "type": "message", "role": "assistant", "model": model, "content": [],
        "stop_reason": None, "stop_sequence": None, "usage": usage,
    }  # fmt: skip
    events: list[dict[str, Any]] = [{"type": "message_start", "message": message}, {"type": "ping"}]
    for index, part in enumerate(parts):
        start, deltas = _block(part)
        events.append({"type": "content_block_start", "index": index, "content_block": start})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    delta = {"stop_reason": reason, "stop_sequence": None, "stop_details": stop_details, "container": container}
    spent = {"output_tokens": len(events) if output_tokens is None else output_tokens}
    events += [{"type": "message_delta", "delta": delta, "usage": spent}, {"type": "message_stop"}]
    return Reply(events=tuple(events), headers={"content-type": "text/event-stream; charset=utf-8"}, pace=pace)


def fails(
    status: int,
    error_type: str | None = None,
    message: str = "it failed, as it was told to",
    *,
    retry_after: float | None = None,
    headers: dict[str, str] | None = None,
) -> Reply:
    """An answer with an error status: 429, 529, 401, ...

    Args:
        status: The HTTP status.
        error_type: As the API names it; by default what goes with the status.
        message: For people.
        retry_after: Seconds, in the header of that name.
        headers: More headers.
    """
    told = {"content-type": "application/json", "request-id": "req_fake", **(headers or {})}
    if retry_after is not None:
        told["retry-after"] = f"{retry_after:g}"
    return Reply(status=status, headers=told, error=_error_body(error_type or _TYPES.get(status, "api_error"), message))


_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}

Answer = Reply | Part | str | Sequence[Part | str]


@dataclass(slots=True)
class Received:
    """A request that the fake got."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def streams(self) -> bool:
        """Whether the answer is to be streamed."""
        return bool(self.body.get("stream")) or "stream" in self.path


class FakeAnthropic:
    """Claude's API, following a script. The real `anthropic` client talks to it; no key, no network.

        fake = FakeAnthropic(ToolCall("toolu_1", "clock"), fails(529), "It is noon.")
        agent = LlmAgent("clock", model=fake.model(), tools=[clock])

    Each request is checked by the API's rules (`anthropic_problems`) and refused with status 400 where it breaks one.
    In a `with`, the test fails when it was asked too often or too rarely.

    Args:
        *script: One answer for each request, in order. A function gets the request's body and gives the answer.
        repeat: Begin again at the end of the script.
        check: Refuse requests that the real API would refuse.

    Attributes:
        requests: What it was asked so far.
        open_streams: Answers on their way; 0 when nothing leaks.
        connections: Connections that were made to `serve`.
    """

    def __init__(
        self, *script: Answer | Callable[[dict[str, Any]], Answer], repeat: bool = False, check: bool = True
    ) -> None:
        self.script = script
        self.repeat = repeat
        self.check = check
        self.requests: list[Received] = []
        self.open_streams = 0
        self.connections = 0
        self.count = 0

    def model(
        self,
        name: str = "claude-opus-5-5",
        *,
        settings: ModelSettings | None = None,
        retry: Retry | None = _RETRY,
        limiter: ConcurrencyLimiter | None = None,
        price: Price | None = None,
        betas: Sequence[str] = (),
    ) -> AnthropicModel:
        """A model that asks this fake in this process, through the SDK."""
        return AnthropicModel(
            name, client=self.client, settings=settings, retry=retry, limiter=limiter, price=price, betas=betas
        )

    def client(self) -> Any:
        """An `anthropic.AsyncAnthropic` that asks this fake in this process."""
        return import_module("agentflow.testing._fake_transport").make_client(self)

    def http_client(self) -> Any:
        """An `httpx2.AsyncClient` that ends at this fake, for clients of other houses that serve Claude."""
        return import_module("agentflow.testing._fake_transport").make_http_client(self)

    @asynccontextmanager
    async def serve(self) -> AsyncGenerator[str]:
        """Serve on a free port of this machine, as long as the block lasts. Gives the base URL."""
        async with import_module("agentflow.testing._fake_transport").serving(self) as url:
            yield url

    def verify(self) -> None:
        """Fail unless it was asked exactly as often as its script says.

        Raises:
            UnexpectedCall: It wasn't.
        """
        if self.count > len(self.script) and self.repeat:
            return
        if self.count != len(self.script):
            raise UnexpectedCall(f"FakeAnthropic was asked {self.count} times, its script has {len(self.script)}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.verify()

    def take(self, request: Received) -> Reply:
        """The answer to a request; for those who carry the bytes."""
        if request.path.startswith("/v1/messages/count_tokens"):
            tokens = len(json.dumps(request.body)) // 4
            return Reply(headers={"content-type": "application/json"}, error={"input_tokens": tokens})
        self.requests.append(request)
        problems = anthropic_problems(request.body) if self.check else []
        if problems:
            return fails(400, message="; ".join(problems))
        place = self.count
        self.count += 1
        if place >= len(self.script) and not (self.repeat and self.script):
            return fails(400, message=f"FakeAnthropic was asked {place + 1} times, its script has {len(self.script)}")
        entry = self.script[place % len(self.script)]
        answer = entry(request.body) if callable(entry) else entry
        reply = answer if isinstance(answer, Reply) else says(*as_parts(answer))
        if reply.events and not reply.events[0]["message"]["id"]:
            first = {**reply.events[0], "message": {**reply.events[0]["message"], "id": f"msg_{place + 1}"}}
            first["message"]["model"] = request.body.get("model") or first["message"]["model"]
            reply = replace(reply, events=(first, *reply.events[1:]))
        return reply


def _frame(event: dict[str, Any], *, name: str | None = None) -> bytes:
    text = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
    return f"event: {name or event['type']}\ndata: {text}\n\n".encode()


def _error_body(kind: str, message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_fake"}


def _block(part: Part) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """How a block begins, and its deltas."""
    if isinstance(part, Text):
        start: dict[str, Any] = {"type": "text", "text": ""}
        deltas: list[dict[str, Any]] = [{"type": "text_delta", "text": piece} for piece in _split(part.text)]
        citations = (part.extra or {}).get("citations", ())
        deltas += [{"type": "citations_delta", "citation": citation} for citation in citations]
        return start, deltas
    if isinstance(part, Thinking) and part.redacted is not None:
        return {"type": "redacted_thinking", "data": part.redacted}, []
    if isinstance(part, Thinking):
        deltas = [{"type": "thinking_delta", "thinking": piece} for piece in _split(part.text)]
        deltas.append({"type": "signature_delta", "signature": part.signature or "c2lnbmF0dXJl"})
        return {"type": "thinking", "thinking": "", "signature": ""}, deltas
    if isinstance(part, ToolCall):
        start = {"type": "tool_use", "id": part.id, "name": part.name, "input": {}, **(part.extra or {})}
        return start, _input_deltas(part.args)
    if isinstance(part, ProviderBlock):
        block = dict(part.block)
        if str(block.get("type")).endswith("_tool_use"):
            return {**block, "input": {}}, _input_deltas(block.get("input", {}))
        return block, []
    raise ConfigError(f"Claude can't say {part!r}: use Text, Thinking, ToolCall or ProviderBlock")


def _input_deltas(args: dict[str, Any]) -> list[dict[str, Any]]:
    """JSON in pieces of seven characters: in the middle of names, numbers and escapes."""
    text = json.dumps(args) if args else ""
    return [{"type": "input_json_delta", "partial_json": piece} for piece in ["", *_chop(text, 7)]]


def _chop(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


def _split(text: str) -> list[str]:
    words = text.split(" ")
    return [word if place == 0 else f" {word}" for place, word in enumerate(words)] if text else []
