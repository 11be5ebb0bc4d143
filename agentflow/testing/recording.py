"""Conversations with real models, written to a file once and played back in tests."""

import json
import re
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import anyio
from anyio.lowlevel import checkpoint

from agentflow.content import from_wire, part_from_wire, part_to_wire, to_wire
from agentflow.errors import ConfigError, ModelError
from agentflow.events import Usage
from agentflow.models.base import Capabilities, Model, ModelRequest, ModelResponse, OnChunk, Refusal, ServerTool
from agentflow.testing.models import UnexpectedCall

SECRETS: tuple[str, ...] = (
    r"sk-[A-Za-z0-9_-]{8,}",  # keys of Anthropic, OpenAI and others
    r"(?<=[Bb]earer )[A-Za-z0-9._~+/=-]{8,}",
    r"AKIA[0-9A-Z]{16}",
    r"AIza[0-9A-Za-z_-]{30,}",
    r"gh[pousr]_[A-Za-z0-9]{20,}",
    r"xox[abprs]-[A-Za-z0-9-]{10,}",
    r"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+",  # JSON web tokens
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?-----END [A-Z ]*PRIVATE KEY-----",
)
"""What is blacked out of recordings, wherever it stands."""

HIDDEN = "[redacted]"


class RecordingModel(Model):
    """Asks another model and writes down what was said, one line of JSON for each call.

        async with RecordingModel("talk.jsonl", AnthropicModel("claude-opus-5-5")) as model:
            ...

    Secrets are blacked out before anything is written: keys and tokens of the usual forms, and what you name.

    Args:
        path: Where to. What was there is replaced at the first call.
        model: Who is asked.
        redact: More regular expressions of what is to be blacked out.
    """

    def __init__(self, path: str | Path, model: Model, *, redact: Sequence[str] = ()) -> None:
        self.path = Path(path)
        self.model = model
        self.name = model.name
        self.provider = model.provider
        self.capabilities = model.capabilities
        self._clean = _redactor(redact)
        self._lines: list[str] = []

    async def generate(self, request: ModelRequest, on_chunk: OnChunk | None = None) -> ModelResponse:
        return await self.call(request, on_chunk)

    async def call(self, request: ModelRequest, on_chunk: OnChunk | None = None) -> ModelResponse:
        pieces: list[dict[str, Any]] = []

        async def keep(piece: ModelResponse) -> None:
            pieces.append(_response_to_wire(piece))
            assert on_chunk is not None
            await on_chunk(piece)

        line: dict[str, Any] = {"request": _request_to_wire(request), "pieces": pieces}
        response: ModelResponse | None = None
        failure: ModelError | None = None
        try:
            response = await self.model.call(request, None if on_chunk is None else keep)
            line["response"] = _response_to_wire(response)
        except ModelError as error:
            failure = error
            line["error"] = {"message": str(error), "kind": error.kind, "status": error.status}
        await self._write(line)
        if response is None:
            assert failure is not None
            raise failure
        return response

    async def count_tokens(self, request: ModelRequest) -> int:
        return await self.model.count_tokens(request)

    async def aclose(self) -> None:
        await self.model.aclose()

    async def __aenter__(self) -> Self:
        await self.model.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.model.__aexit__(kind, error, trace)  # noqa: ASYNC102 - closing sockets doesn't wait for anyone

    async def _write(self, line: dict[str, Any]) -> None:
        self._lines.append(json.dumps(self._clean(line), ensure_ascii=False))
        with anyio.CancelScope(shield=True):
            await anyio.Path(self.path).write_text("\n".join([*self._lines, ""]), encoding="utf-8")


class ReplayModel(Model):
    """Answers as it was recorded; asks nobody.

    A request gets the answer that the same request got: the order in which branches ask doesn't matter, and what has
    been blacked out is the same again.

    Args:
        path: What a `RecordingModel` wrote.
        redact: The same as there.
        capabilities: What it claims to be able to do.

    Raises:
        ConfigError: There is no such file, or it is no recording.
    """

    retry = None

    def __init__(
        self, path: str | Path, *, redact: Sequence[str] = (), capabilities: Capabilities | None = None
    ) -> None:
        self.path = Path(path)
        self.name = "replay"
        self.provider = "agentflow"
        self.capabilities = capabilities or Capabilities(thinking=True, images=True, documents=True)
        self._clean = _redactor(redact)
        self._left: dict[str, deque[dict[str, Any]]] = {}
        try:
            for text in self.path.read_text(encoding="utf-8").splitlines():
                line = json.loads(text)
                self._left.setdefault(_key(line["request"]), deque()).append(line)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{self.path} is no recording that can be played: {error}") from error

    async def generate(self, request: ModelRequest, on_chunk: OnChunk | None = None) -> ModelResponse:
        await checkpoint()
        asked = self._clean(_request_to_wire(request))
        lines = self._left.get(_key(asked))
        if not lines:
            raise UnexpectedCall(self._complaint(asked, known=lines is not None))
        line = lines.popleft()
        if on_chunk is not None:
            for piece in line["pieces"]:
                await on_chunk(_response_from_wire(piece))
        if "error" in line:
            error = line["error"]
            raise ModelError(error["message"], kind=error["kind"], status=error["status"])
        return _response_from_wire(line["response"])

    def check(self) -> None:
        """Fail unless all that was recorded was asked for.

        Raises:
            UnexpectedCall: Something wasn't.
        """
        left = [line for lines in self._left.values() for line in lines]
        if left:
            first = _last(left[0]["request"])
            raise UnexpectedCall(f"{self.path}: {len(left)} recorded calls were not made, the first: {first}")

    def _complaint(self, asked: dict[str, Any], *, known: bool) -> str:
        if known:
            return f"{self.path}: this was asked more often than it was recorded: {_last(asked)}"
        same = [json.loads(key) for key in self._left]
        near = max(same, key=lambda other: _alike(other, asked), default=None)
        told = f"{self.path}: this was not recorded: {_last(asked)}"
        if near is None:
            return told
        place = next(
            (n for n, (a, b) in enumerate(zip(near["messages"], asked["messages"], strict=False)) if a != b), None
        )
        if place is not None:
            was, now = near["messages"][place], asked["messages"][place]
            return f"{told}; message {place} was {was!r:.200}, now it is {now!r:.200}"
        other = [name for name in asked if asked[name] != near.get(name)]
        return f"{told}; what differs: {', '.join(other)}"


def _last(request: dict[str, Any]) -> str:
    return f"{request['messages'][-1:]!r:.200}"


def _alike(other: dict[str, Any], asked: dict[str, Any]) -> int:
    return sum(a == b for a, b in zip(other["messages"], asked["messages"], strict=False))


def _key(request: dict[str, Any]) -> str:
    return json.dumps(request, sort_keys=True)


def _redactor(more: Sequence[str]) -> Callable[[Any], Any]:
    try:
        pattern = re.compile("|".join(f"(?:{secret})" for secret in (*SECRETS, *more)))
    except re.error as error:
        raise ConfigError(f"redact: {error}") from error

    def clean(value: Any) -> Any:
        if isinstance(value, str):
            return pattern.sub(HIDDEN, value)
        if isinstance(value, dict):
            return {key: clean(item) for key, item in value.items()}
        return [clean(item) for item in value] if isinstance(value, (list, tuple)) else value

    return clean


def _request_to_wire(request: ModelRequest) -> dict[str, Any]:
    """What makes a request this one: not who asks, nor the model's name."""
    schema = request.output_schema
    return {
        "system": request.system,
        "messages": [{"role": m.role, "parts": [part_to_wire(part) for part in m.parts]} for m in request.messages],
        "tools": [
            tool.block if isinstance(tool, ServerTool) else {"name": tool.name, "parameters": tool.parameters}
            for tool in request.tools
        ],
        "toolChoice": request.tool_choice,
        "outputSchema": None if schema is None else schema.schema,
    }


def _response_to_wire(response: ModelResponse) -> dict[str, Any]:
    wire: dict[str, Any] = {"parts": [part_to_wire(part) for part in response.parts], "model": response.model}
    if response.partial:
        wire["partial"] = True
    for name in ("response_id", "finish_reason", "details"):
        if getattr(response, name) is not None:
            wire[name] = getattr(response, name)
    if response.usage is not None:
        wire["usage"] = to_wire(response.usage)
    if response.refusal is not None:
        wire["refusal"] = [response.refusal.explanation, response.refusal.category]
    return wire


def _response_from_wire(wire: dict[str, Any]) -> ModelResponse:
    return ModelResponse(
        parts=tuple(part_from_wire(part) for part in wire["parts"]),
        partial=wire.get("partial", False),
        response_id=wire.get("response_id"),
        finish_reason=wire.get("finish_reason"),
        usage=from_wire(Usage, wire["usage"]) if "usage" in wire else None,
        model=wire["model"],
        refusal=Refusal(*wire["refusal"]) if "refusal" in wire else None,
        details=wire.get("details"),
    )
