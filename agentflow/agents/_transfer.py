"""How an agent hands over to another: what its model is told, and who answers the user's next message."""

from collections.abc import Iterable, Sequence
from typing import Any

from agentflow.content import ToolCall
from agentflow.core import Agent, Tool, ToolContext
from agentflow.errors import InvalidArguments
from agentflow.events import Event

TRANSFER = "transfer_to_agent"
"""The tool that hands over; adk's name for it."""


def advice(targets: Sequence[Agent], parent: Agent | None) -> str:
    """What the instructions say of those that an agent may hand over to."""
    if not targets:
        return ""
    listed = "\n".join(
        f"- {agent.name}: {' '.join(agent.description.split())}" if agent.description else f"- {agent.name}"
        for agent in targets
    )
    names = ", ".join(sorted(agent.name for agent in targets))
    text = (
        f"You can hand the conversation over to one of these agents:\n{listed}\n\n"
        f"If, by its description, one of them can answer better than you, call `{TRANSFER}` with its name and say "
        f"nothing else. Otherwise answer yourself. The names are: {names}."
    )
    if parent is not None and parent in targets:
        text += f" If neither you nor the others can answer, hand over to your parent, {parent.name}."
    return text


class TransferTool(Tool):
    """Hands over to another agent.

    Args:
        names: Those that may be handed over to.
    """

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(
            TRANSFER, description="Hand the conversation over to another agent, which answers in your place."
        )
        self.names = names

    @property
    def parameters(self) -> dict[str, Any]:
        name = {"type": "string", "enum": sorted(self.names), "description": "Name of the agent that takes over."}
        return {"type": "object", "properties": {"agent_name": name}, "required": ["agent_name"]}

    async def run(self, ctx: ToolContext, args: dict[str, Any]) -> Any:
        """Have the agent of the call hand over once the calls of its turn have ended.

        Raises:
            InvalidArguments: There is no such agent to hand over to.
        """
        name = args.get("agent_name")
        if name not in self.names:
            raise InvalidArguments(f"there is no agent {name!r} to hand over to, only {', '.join(sorted(self.names))}")
        ctx.actions.transfer_to_agent = name
        return {}


class Speakers:
    """Who of those that may spoke last, and who made which tool call: a view on the root's line of a session."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)
        self.last: str | None = None
        self.calls: dict[str, str] = {}

    def add(self, events: Iterable[Event]) -> None:
        """Take in what is new."""
        for event in events:
            if event.author in self._names:
                self.last = event.author
            for part in event.parts:
                if type(part) is ToolCall:
                    self.calls[part.id] = event.author
