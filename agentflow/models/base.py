"""What a model is asked and what it answers, whoever the provider is."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from agentflow.content import Part, Record
from agentflow.events import Usage


@dataclass(slots=True, eq=False, repr=False)
class Message(Record):
    """One turn of the talk that a model reads."""

    role: Literal["user", "assistant"]
    parts: tuple[Part, ...]


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class ModelRequest(Record):
    """One call of a model: plugins may change it before it is sent.

    Attributes:
        model: The model's name.
        messages: Oldest first.
        system: Instructions.
        tools: Declarations of the tools that it may call: name, description and JSON schema.
        settings: Generation settings, by the provider's names.
    """

    model: str
    messages: list[Message]
    system: str = ""
    tools: list[dict[str, Any]] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True, eq=False, repr=False)
class ModelResponse(Record):
    """What a model answered, or a streamed piece of it (`partial`)."""

    parts: Sequence[Part]
    partial: bool = False
    response_id: str | None = None
    finish_reason: str | None = None
    usage: Usage | None = None
