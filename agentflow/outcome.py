"""How a turn ended, and what came of it."""

from dataclasses import dataclass
from typing import Any

from agentflow.content import Data, Text
from agentflow.events import Event, Status, Usage
from agentflow.questions import Question


@dataclass(slots=True, kw_only=True)
class Outcome:
    """How a turn ended, and what came of it.

    Attributes:
        agent: The agent's name.
        branch: Its branch, dotted.
        status: `ok`, `error`, `timeout`, `cancelled`, `skipped` (it never began) or `paused`.
        said: The last event with content that it, or who it directed, stored; for a Parallel, its branches' outcomes.
        error: What went wrong.
        duration: Seconds.
        usage: What models charged for it, its sub-agents included.
        pending: The questions that it waits for, where it is paused.
    """

    agent: str
    branch: str
    status: Status
    said: "Event | tuple[Outcome, ...] | None" = None
    error: BaseException | None = None
    duration: float = 0.0
    usage: Usage | None = None
    pending: tuple[Question, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the turn went well."""
        return self.status == "ok"

    @property
    def branches(self) -> "tuple[Outcome, ...]":
        """The branches of the Parallel that had the last word, in declaration order, if one had."""
        return self.said if isinstance(self.said, tuple) else ()

    @property
    def text(self) -> str:
        """Its last words; those of a Parallel's branches, in declaration order, a blank line between.

        Of the branches that went well; where none did, of those that had said something by then.
        """
        if isinstance(self.said, tuple):
            well = [outcome for outcome in self.said if outcome.ok] or self.said
            return "\n\n".join(text for outcome in well if (text := outcome.text))
        return self.said.text if self.said is not None else ""

    @property
    def output(self) -> Any:
        """The last structured value (`Data`) that it emitted; its text if that had none. A list for a Parallel."""
        if isinstance(self.said, tuple):
            return [outcome.output for outcome in self.said if outcome.ok]
        if self.said is None:
            return None
        parts = self.said.parts
        if len(parts) == 1 and type(parts[0]) is Text:
            return parts[0].text
        values = [part.value for part in parts if type(part) is Data]
        return values[-1] if values else self.said.text
