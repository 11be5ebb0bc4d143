"""Short words for tests of models."""

from collections.abc import Sequence
from typing import Any

from agentflow import Message, ModelError, ModelRequest, ModelResponse, Part, Retry, ToolResult
from agentflow.content import as_parts
from agentflow.testing import ScriptedModel


def user(*parts: Part | str) -> Message:
    return Message("user", as_parts(list(parts)))


def model(*parts: Part | str) -> Message:
    return Message("assistant", as_parts(list(parts)))


def result(id: str, value: Any = "done", *, is_error: bool = False) -> ToolResult:
    return ToolResult(id, "tool", value, is_error)


def ask(*messages: Message | str, **fields: Any) -> ModelRequest:
    talk = [user(message) if isinstance(message, str) else message for message in messages]
    return ModelRequest(messages=talk or [user("hi")], **fields)


def scripted(*script: Any, retry: Retry | None = None, **fields: Any) -> ScriptedModel:
    made = ScriptedModel(*script, **fields)
    made.retry = retry
    return made


def busy(**fields: Any) -> ModelError:
    return ModelError("busy", kind="rate_limit", **fields)


class Pieces:
    """Keeps what is streamed."""

    def __init__(self) -> None:
        self.all: list[ModelResponse] = []

    async def __call__(self, piece: ModelResponse) -> None:
        self.all.append(piece)

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.all)

    def of(self, kind: type) -> Sequence[Any]:
        return [part for piece in self.all for part in piece.parts if type(part) is kind]
