"""Where each branch of a run stands, from its events alone: what the live view draws and the summary lists."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from agentflow.content import ToolCall
from agentflow.events import (
    AgentComplete,
    AgentParallelComplete,
    AgentParallelStart,
    AgentStart,
    Event,
    GatherComplete,
    LoopIteration,
    ScatterStart,
    SynthesisComplete,
)
from agentflow.timeline.words import one_line

_KEPT = 200
"""Characters of its words that a line keeps: more than a terminal shows."""


@dataclass(slots=True, eq=False)
class Line:
    """One branch; the run's own line is the branch without a name.

    Attributes:
        branch: Dotted.
        name: Its last segment; of the run's own line, the root agent.
        depth: How many branches it is in.
        state: `waiting`, `running`, or an outcome (`ok`, `error`, `timeout`, `cancelled`, `skipped`).
        began: When the turn that is running began, as its event says.
        seconds: What its ended turns took.
        turns: How often it ran: more than once in a loop.
        speaker: Who said the last words.
        words: The last words, white space as it came; while they stream, their end.
        iteration: Of the innermost loop on it that runs.
        rounds: How many that loop has at most.
        error: What went wrong, or why it was cancelled.
    """

    branch: str
    name: str
    parent: "Line | None" = None
    depth: int = 0
    children: list["Line"] = field(default_factory=list)
    state: str = "waiting"
    began: float = 0.0
    seconds: float = 0.0
    turns: int = 0
    speaker: str = ""
    words: str = ""
    streaming: str | None = None
    iteration: int | None = None
    rounds: int | None = None
    error: str = ""

    def elapsed(self, now: float) -> float:
        """Seconds of all its turns, that which is running included."""
        return self.seconds + (max(0.0, now - self.began) if self.state == "running" else 0.0)


class Board:
    """All lines of a run. Give it every event, in order.

    Attributes:
        decisions: By branch and name of a pattern, how it last made one answer of its branches', and how often it did.
    """

    def __init__(self) -> None:
        self.root = Line("", "")
        self.lines = {"": self.root}
        self.texts = 0
        self.decisions: dict[tuple[str, str], tuple[SynthesisComplete, int]] = {}
        self._tellers: dict[type, Callable[[Event, Any], None]] = {
            AgentStart: self._start,
            AgentParallelStart: self._start,
            AgentComplete: self._complete,
            AgentParallelComplete: self._complete,
            LoopIteration: self._iterate,
            ScatterStart: self._scatter,
            GatherComplete: self._gather,
            SynthesisComplete: self._decide,
        }

    def add(self, event: Event) -> None:
        """The next event."""
        record = event.lifecycle
        if record is not None:
            teller = self._tellers.get(type(record))
            if teller is not None:
                teller(event, record)
            return
        if event.author == "user":
            return  # what an agent is told
        text = event.text
        if text and not event.partial:
            self.texts += 1
        line = self._line(event.branch)
        if event.partial and text:
            reply = event.response_id or event.author
            line.words = (line.words + text if line.streaming == reply else text)[-_KEPT:]
            line.speaker, line.streaming = event.author, reply
        elif text or event.parts:
            calls = [part.name for part in event.parts if type(part) is ToolCall]
            if text or calls:
                line.words = text[:_KEPT] or f"calls {', '.join(calls)}"
                line.speaker, line.streaming = event.author, None

    def __iter__(self) -> Iterator[Line]:
        """Every line, a branch right after the one that it is in."""
        stack = [self.root]
        while stack:
            line = stack.pop()
            yield line
            stack.extend(reversed(line.children))

    def states(self) -> Counter[str]:
        """How many branches are in each state, the run's own line aside."""
        return Counter(line.state for line in self.lines.values() if line.parent is not None)

    def _line(self, branch: str) -> Line:
        line = self.lines.get(branch)
        if line is None:
            segments = branch.split(".")
            parent = self.root
            for size in range(len(segments) - 1, 0, -1):
                above = self.lines.get(".".join(segments[:size]))
                if above is not None:
                    parent = above
                    break
            line = self.lines[branch] = Line(branch, segments[-1], parent, parent.depth + 1)
            parent.children.append(line)
        return line

    def _start(self, event: Event, record: AgentStart) -> None:
        line = self._line(event.branch)
        if record.attempt > 1:
            failure = f" after {record.error.type}: {record.error.message}" if record.error is not None else ""
            line.words, line.speaker, line.streaming = f"attempt {record.attempt}{failure}"[:_KEPT], event.author, None
            return
        if not self._owns(event, record):
            line.words, line.speaker, line.streaming = "", event.author, None
            return
        if line is self.root:
            line.name = record.agent_name
        line.state, line.began, line.error = "running", event.timestamp, ""
        line.words, line.streaming = "", None
        line.iteration = line.rounds = None
        line.turns += 1
        line.speaker = record.agent_name

    def _complete(self, event: Event, record: AgentComplete) -> None:
        line = self._line(event.branch)
        if line.iteration != event.iteration:  # a loop on it has ended
            line.iteration, line.rounds = event.iteration, None
        if line.state != "running" or not self._ends(event, record, line):
            return
        line.state = one_line(record.outcome)
        line.seconds += record.execution_time_ms / 1000
        if record.error is not None:
            line.error = f"{record.error.type}: {record.error.message}" if record.error.message else record.error.type
        elif record.reason:
            line.error = record.reason

    def _owns(self, event: Event, record: AgentStart) -> bool:
        """Whether this turn is what its branch is there for, or that of the root."""
        return type(record) is AgentParallelStart or record.own_branch or "." not in event.path

    def _ends(self, event: Event, record: AgentComplete, line: Line) -> bool:
        if type(record) is AgentParallelComplete or line is self.root:
            return line is not self.root or "." not in event.path
        return line.name.partition("#")[0] == record.agent_name

    def _iterate(self, event: Event, record: LoopIteration) -> None:
        line = self._line(event.branch)
        line.iteration, line.rounds = record.iteration, record.max_iterations

    def _decide(self, event: Event, record: SynthesisComplete) -> None:
        place = event.branch, record.agent_name
        self.decisions[place] = record, self.decisions.get(place, (record, 0))[1] + 1

    def _scatter(self, event: Event, record: ScatterStart) -> None:
        for name in record.agent_names:
            line = self._line(self._below(event, record, name))
            line.state, line.words, line.error, line.streaming = "waiting", "", "", None

    def _gather(self, event: Event, record: GatherComplete) -> None:
        for name, outcome in record.outcomes.items():
            line = self.lines.get(self._below(event, record, name))
            if line is not None and line.state == "waiting":
                line.state = outcome

    def _below(self, event: Event, record: ScatterStart | GatherComplete, name: str) -> str:
        return ".".join(filter(None, (event.branch, record.agent_name, name)))
