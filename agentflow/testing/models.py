"""Models that do what a test tells them: one that follows a script, and one that is a function."""

import inspect
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self

from anyio.lowlevel import checkpoint

from agentflow.content import Part, Text, Thinking, ToolCall, as_parts
from agentflow.errors import ConfigError
from agentflow.events import Usage
from agentflow.models.base import Capabilities, Model, ModelRequest, ModelResponse, OnChunk, estimate_tokens

Turn = str | Part | Sequence[Part | str] | ModelResponse | Exception
"""What a model answers: text, parts, a whole response, or an exception to be raised."""

Answer = Turn | Awaitable[Turn] | AsyncIterator[str | Part]

_WORDS = re.compile(r"\S+\s*|\s+")


class UnexpectedCall(AssertionError):
    """A scripted model was asked more often than its script says, or less."""


class ScriptedModel(Model):
    """Answers what its script says, in order; the test fails when it is asked too often or, in a `with`, too rarely.

        with ScriptedModel(ToolCall("1", "clock"), "It is noon.") as model:
            ...

    Asked by several agents at once, it answers whoever comes first: give each a model of its own, or use
    `FunctionModel`.

    Args:
        *script: Its answers. A function of the request gives the answer for it.
        name: What requests and events call it.
        repeat: Begin again at the end of the script.
        stream: Give text in pieces, word by word, to who wants pieces.
        capabilities: What it claims to be able to do.

    Attributes:
        requests: What it was asked so far.
    """

    provider = "agentflow"
    retry = None

    def __init__(
        self,
        *script: Turn | Callable[[ModelRequest], Answer],
        name: str = "scripted",
        repeat: bool = False,
        stream: bool = True,
        capabilities: Capabilities | None = None,
    ) -> None:
        if repeat and not script:
            raise ConfigError("ScriptedModel: there is nothing to repeat")
        self.name = name
        self.script = script
        self.requests: list[ModelRequest] = []
        self.capabilities = capabilities or Capabilities(thinking=True, images=True, documents=True)
        self._repeat = repeat
        self._stream = stream
        self._surplus = 0

    async def generate(self, request: ModelRequest, on_chunk: OnChunk | None = None) -> ModelResponse:
        place = len(self.requests)
        self.requests.append(request)
        if place >= len(self.script) and not self._repeat:
            self._surplus += 1
            raise UnexpectedCall(self._complaint())
        turn = self.script[place % len(self.script)]
        answer = turn(request) if callable(turn) else turn
        return await give(answer, request, self.name, f"{self.name}-{place + 1}", on_chunk if self._stream else None)

    def check(self) -> None:
        """Fail unless it was asked exactly as often as its script says.

        Raises:
            UnexpectedCall: It wasn't.
        """
        if self._surplus or (len(self.requests) < len(self.script) and not self._repeat):
            raise UnexpectedCall(self._complaint())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.check()

    def _complaint(self) -> str:
        asked = f"ScriptedModel {self.name!r} was asked {len(self.requests)} times, its script has {len(self.script)}"
        last = self.requests[-1].messages[-1:] if self.requests else []
        return asked + "".join(f"; the last message was {message!r:.200}" for message in last)


class FunctionModel(Model):
    """A model that is a function of the request.

    Args:
        function: Returns the answer, also as an `async` function; an async generator yields it in pieces.
        name: What requests and events call it.
        stream: Give text in pieces, word by word, to who wants pieces.
        capabilities: What it claims to be able to do.
    """

    provider = "agentflow"
    retry = None

    def __init__(
        self,
        function: Callable[[ModelRequest], Answer],
        *,
        name: str = "function",
        stream: bool = True,
        capabilities: Capabilities | None = None,
    ) -> None:
        if not callable(function):
            raise ConfigError(f"FunctionModel needs a function of the request, not {function!r}")
        self.function = function
        self.name = name
        self.capabilities = capabilities or Capabilities(thinking=True, images=True, documents=True)
        self._stream = stream
        self._count = 0

    async def generate(self, request: ModelRequest, on_chunk: OnChunk | None = None) -> ModelResponse:
        self._count += 1
        response_id = f"{self.name}-{self._count}"
        return await give(self.function(request), request, self.name, response_id, on_chunk if self._stream else None)


async def give(
    answer: Answer, request: ModelRequest, name: str, response_id: str, on_chunk: OnChunk | None
) -> ModelResponse:
    """Make a response of what a function or a script says, and push its pieces."""
    if isinstance(answer, AsyncIterator):
        return await _stream_out(answer, request, name, response_id, on_chunk)
    turn: Any = await answer if inspect.isawaitable(answer) else answer
    if isinstance(turn, BaseException):
        raise turn
    await checkpoint()
    response = turn if isinstance(turn, ModelResponse) else ModelResponse(parts=_parts(turn))
    if on_chunk is not None:
        for part in response.parts:
            for piece in _pieces(part):
                await on_chunk(ModelResponse(parts=(piece,), partial=True, response_id=response_id, model=name))
    return _complete(response, request, name, response_id)


def _parts(turn: Any) -> tuple[Part, ...]:
    try:
        return as_parts(turn)
    except ValueError as error:
        raise ConfigError(f"a model's answer: {error}") from None


def _pieces(part: Part) -> Sequence[Part]:
    if type(part) is Text:
        return [Text(word) for word in _WORDS.findall(part.text)]
    if type(part) is Thinking:
        return [Thinking(word) for word in _WORDS.findall(part.text)]
    return []


async def _stream_out(
    pieces: AsyncIterator[str | Part], request: ModelRequest, name: str, response_id: str, on_chunk: OnChunk | None
) -> ModelResponse:
    whole: list[Part] = []
    async with aclosing(pieces) as items:  # type: ignore[type-var]  # a generator, in truth
        async for item in items:
            (part,) = _parts(item)
            last = whole[-1] if whole else None
            if isinstance(part, (Text, Thinking)) and type(last) is type(part):
                whole[-1] = type(part)(last.text + part.text)
            else:
                whole.append(part)
            if on_chunk is not None and isinstance(part, (Text, Thinking)):
                await on_chunk(ModelResponse(parts=(part,), partial=True, response_id=response_id, model=name))
    return _complete(ModelResponse(parts=tuple(whole)), request, name, response_id)


def _complete(response: ModelResponse, request: ModelRequest, name: str, response_id: str) -> ModelResponse:
    """A response of its own, with everything that a real one has."""
    calls = any(type(part) is ToolCall for part in response.parts)
    words = sum(len(part.text.split()) for part in response.parts if isinstance(part, (Text, Thinking)))
    return ModelResponse(
        parts=tuple(response.parts),
        response_id=response.response_id or response_id,
        finish_reason=response.finish_reason or ("tool_calls" if calls else "stop"),
        usage=response.usage or Usage(estimate_tokens(request), words or 1, model_calls=1),
        model=response.model or name,
        refusal=response.refusal,
        details=response.details,
    )
