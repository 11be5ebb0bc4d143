"""Tools that are known only when they are asked for: those of a server, of a user, of a moment."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from copy import copy
from typing import Any

from agentflow._settings import check_texts
from agentflow._tree import check_name
from agentflow.core import InvocationContext, Tool
from agentflow.errors import ConfigError
from agentflow.models.base import ModelRequest
from agentflow.tools.function import NeedsConfirmation, as_tool


class Toolset(ABC):
    """Any number of tools, found when an agent begins its turn. Subclass it and write `get_tools`.

    What it holds open while its Runner lives, it gets from `ctx.resource`.

    Args:
        only: Which tools: their names, or a function of a tool.
        prefix: Put before each tool's name, for sets whose names collide.
        require_confirmation: Whether a person has to agree before one of them runs; see `Tool`. `None` leaves it to
            each tool.

    Source: adk-go `tool/tool.go`, with its `FilterToolset` and `WithConfirmation`.
    """

    def __init__(
        self,
        *,
        only: Collection[str] | Callable[[Tool], bool] | None = None,
        prefix: str = "",
        require_confirmation: NeedsConfirmation | None = None,
    ) -> None:
        if isinstance(only, str) or not (only is None or callable(only) or isinstance(only, Collection)):
            raise ConfigError(f"{type(self).__name__}: only must be a list of names or a function, not {only!r}")
        check_texts(type(self).__name__, prefix=prefix)
        if (
            require_confirmation is not None
            and not isinstance(require_confirmation, bool)
            and not callable(require_confirmation)
        ):
            raise ConfigError(
                f"{type(self).__name__}: require_confirmation must be True, False, None or a function of the context "
                f"and the arguments, not {require_confirmation!r}"
            )
        if prefix:
            check_name(f"{prefix}tool", f"{type(self).__name__}: with prefix {prefix!r} a tool")
        self.only = only
        self.prefix = prefix
        self.require_confirmation = require_confirmation

    @abstractmethod
    async def get_tools(self, ctx: InvocationContext) -> Sequence[Tool | Callable[..., Any]]:
        """All its tools, as they are for this context."""

    async def prepare(self, ctx: InvocationContext, request: ModelRequest) -> None:
        """Called before each model call of an agent that has it; may change the request."""
        return None

    async def resolve(self, ctx: InvocationContext) -> list[Tool]:
        """Those of its tools that are wanted, under the names that the model is to know them by."""
        tools = []
        for found in map(as_tool, await self.get_tools(ctx)):
            if self.only is not None and not (self.only(found) if callable(self.only) else found.name in self.only):
                continue
            if self.prefix or self.require_confirmation is not None:
                found = copy(found)
                found.name = self.prefix + found.name
                if self.require_confirmation is not None:
                    found.require_confirmation = self.require_confirmation
            tools.append(found)
        return tools


async def resolve_tools(ctx: InvocationContext, tools: Sequence[Tool | Toolset]) -> dict[str, Tool]:
    """The tools of an agent by name, those of its toolsets included.

    Raises:
        ConfigError: Two have the same name.
    """
    named: dict[str, Tool] = {}
    for entry in tools:
        for tool in await entry.resolve(ctx) if isinstance(entry, Toolset) else (entry,):
            if tool.name in named:
                raise ConfigError(
                    f"agent {ctx.path!r} has two tools named {tool.name!r}; rename one, or give its toolset a prefix"
                )
            named[tool.name] = tool
    return named
