"""What happened in a run, from its stored events alone: turns, what they waited for, and how they ended."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from agentflow.content import ToolCall, ToolResult
from agentflow.events import (
    EVERY_BRANCH,
    AgentComplete,
    AgentParallelComplete,
    AgentParallelStart,
    AgentStart,
    ErrorInfo,
    Event,
    GatherComplete,
    LoopIteration,
    ScatterStart,
    SynthesisComplete,
    Usage,
)
from agentflow.timeline.words import decision, one_line, said

_GAP = 0.05
"""Share of the wall time from which an agent's own work, between its children's, has a place on the critical path."""


@dataclass(slots=True, eq=False)
class Attempt:
    """One try of a turn that was tried more than once; all but the last failed.

    Attributes:
        number: From 1.
        ended: When it failed; the last one ends with its turn. What is between two attempts is the wait before a retry.
    """

    number: int
    began: float
    ended: float | None = None
    error: ErrorInfo | None = None


@dataclass(slots=True, eq=False)
class Call:
    """A tool at work: from the event that called it to the one with its result; `ended` is `None` without one."""

    id: str
    name: str
    began: float
    ended: float | None = None
    failed: bool = False


@dataclass(slots=True, eq=False)
class Mark:
    """Something that an agent said or did.

    Attributes:
        time: When, in seconds since the epoch.
        kind: `asked` (it was given a message), `said`, `called`, `answered` (by a tool), `wrote` (state), `escalated`,
            `transferred`, `iteration`, `decided` (one answer of many), or the name of another lifecycle record.
        words: What it said, cut to the timeline's `words`.
        serial: Of its event.
    """

    time: float
    kind: str
    words: str
    serial: int


@dataclass(slots=True, eq=False)
class Turn:
    """One agent's turn. Times are seconds since the epoch.

    Attributes:
        name: The agent's.
        kind: Its type, for instance `"SequentialAgent"`.
        path: Dotted, from the root.
        branch: Dotted.
        first: Its place in the order of the run's events; `last` likewise is that of its end.
        iteration: Of the nearest loop around it.
        began: When it started.
        ended: When it ended: for one that didn't, the time of the run's last event.
        status: How it ended: an outcome, or empty while it hasn't.
        forked: It ran on a branch of its own.
        queued: Seconds that it waited for a free place before it began.
        tries: How often it was tried.
        attempts: Each of these tries, where there was more than one.
        error: What went wrong.
        reason: Why it was cancelled; of a Parallel, why it ended before all of its branches did.
        hidden: It lost a race, or failed where failures are ignored: what it said is in no prompt.
        decision: How it made one answer of those of its branches, if it is a pattern that does.
        usage: What models charged for it, its children aside.
        calls: Its tools.
        marks: What it said and did, if the timeline keeps words.
        declared: Names of its branches, in order.
        skipped: Those of them that never began.
        busy: When its children were at work, as (from, to), in order.
        children: The turns that it gave, in the order in which they began.
    """

    name: str
    kind: str
    path: str
    branch: str
    first: int
    began: float
    iteration: int | None = None
    parent: "Turn | None" = field(default=None, repr=False)
    last: int = 0
    ended: float = 0.0
    status: str = ""
    forked: bool = False
    queued: float = 0.0
    tries: int = 1
    error: ErrorInfo | None = None
    reason: str = ""
    hidden: bool = False
    decision: str = ""
    usage: Usage | None = None
    attempts: list[Attempt] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    declared: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    busy: list[tuple[float, float]] = field(default_factory=list)
    children: list["Turn"] = field(default_factory=list, repr=False)
    _running: int = 0
    _since: float = 0.0
    _until: float = 0.0
    _covered: float = 0.0

    @property
    def seconds(self) -> float:
        """From its start to its end."""
        return max(0.0, self.ended - self.began)

    @property
    def own(self) -> float:
        """Seconds in which no child of it was at work."""
        return max(0.0, self.seconds - self._covered)

    @property
    def retry_wait(self) -> float:
        """Seconds between its attempts."""
        pairs = zip(self.attempts, self.attempts[1:], strict=False)
        return sum(max(0.0, after.began - before.ended) for before, after in pairs if before.ended is not None)

    @property
    def label(self) -> str:
        """The name by which it is told from its siblings: `critic`, or `critic#2` on the branch of a twin."""
        segment = self.branch.rpartition(".")[2]
        return segment if self.forked and segment.partition("#")[0] == self.name else self.name


@dataclass(slots=True)
class Step:
    """An agent on the critical path: how often it is there, and for how many seconds in all."""

    name: str
    times: int = 0
    seconds: float = 0.0


class Timeline:
    """One run. Give it the run's events in the order of the log, then `close` it.

    Its cost is linear in events; what it keeps is linear in turns and, with `words`, in what they said.

    Args:
        words: How many characters of each thing said are kept; 0 keeps no marks at all.

    Attributes:
        id: The run's.
        asked: What the user said.
        roots: The root agent's turns: one, and one more for each time that the run went on after a pause.
        turns: All turns, in the order in which they began.
        events: How many events there were.
        began: Time of the first event; `now` that of the latest.
        work: Seconds of all agents' own work added up, from each one's start to its end, its children's aside.
    """

    def __init__(self, *, words: int = 0) -> None:
        self.id = ""
        self.asked = ""
        self.roots: list[Turn] = []
        self.turns: list[Turn] = []
        self.events = 0
        self.began = 0.0
        self.now = 0.0
        self.work = 0.0
        self._words = words
        self._place = 0
        self._open: dict[tuple[str, str], Turn] = {}
        self._calls: dict[str, Call] = {}
        self._tellers: dict[type, Callable[[Event, Any], None]] = {
            AgentStart: self._start,
            AgentParallelStart: self._start,
            AgentComplete: self._complete,
            AgentParallelComplete: self._complete,
            ScatterStart: self._scatter,
            GatherComplete: self._gather,
            SynthesisComplete: self._decide,
        }

    def add(self, event: Event) -> None:
        """The next event."""
        if not self.events:
            self.id, self.began = event.invocation_id, event.timestamp
        self.events += 1
        self._place += 1
        self.now = max(self.now, event.timestamp)
        record = event.lifecycle
        if record is not None:
            teller = self._tellers.get(type(record))
            if teller is not None:
                teller(event, record)
            elif self._words:
                self._mark_record(event, record)
        elif not event.path:
            self.asked = self.asked or event.text
        elif not event.partial:
            self._told(event)

    def close(self) -> None:
        """No more events come: what has not ended by now, as in a run that was cut short, is taken to end now."""
        for turn in reversed(self._open.values()):
            self._place += 1
            self._end(turn, self.now, "")
        self._open.clear()

    @property
    def root(self) -> Turn | None:
        """The root agent's latest turn; `None` before it began."""
        return self.roots[-1] if self.roots else None

    @property
    def status(self) -> str:
        """How the run ended; empty when it hasn't, or was cut short."""
        return self.roots[-1].status if self.roots else ""

    @property
    def wall(self) -> float:
        """Seconds from the root's start to its end, or to the last event if there was none; pauses don't count."""
        return sum(max(0.0, (root.ended if root.status else self.now) - root.began) for root in self.roots)

    @property
    def pauses(self) -> list[tuple[float, float]]:
        """When the run waited for answers, as (from, to), in order."""
        return [(before.ended, after.began) for before, after in pairwise(self.roots)]

    @property
    def speedup(self) -> float:
        """How many times longer the same work, one agent after the other, would have taken.

        An agent's time is all of it from its start to its end, so it counts waiting for a processor that others hold.
        """
        self.close()
        return self.work / self.wall if self.wall > 0 else 1.0

    @property
    def usage(self) -> Usage:
        """What models charged for all of it."""
        return sum((turn.usage for turn in self.turns if turn.usage is not None), Usage())

    def outcomes(self) -> Counter[str]:
        """How many branches ended in each way; `unfinished` for those that didn't."""
        turns = [turn for turn in self.turns if turn.forked]
        latest = {(turn.path, turn.branch): turn for turn in turns}
        ends = Counter(
            turn.status or "unfinished"
            for turn in turns
            if turn.status != "paused" or latest[turn.path, turn.branch] is turn  # else it went on
        )
        skipped = sum(len(turn.skipped) for turn in self.turns)
        return ends + Counter(skipped=skipped)

    def critical_path(self) -> list[Step]:
        """The agents that the run's end waited for, in order; each one named once.

        Walks backwards: what ended last before a turn went on is what it waited for.
        """
        found: dict[str, Step] = {}
        for turn, seconds in self.critical_turns():
            step = found.setdefault(turn.name, Step(turn.name))
            step.times += 1
            step.seconds += seconds
        return list(found.values())

    def critical_turns(self) -> list[tuple[Turn, float]]:
        """The same turn by turn, with the seconds of each that nothing else accounts for."""
        self.close()
        steps: list[tuple[Turn, float]] = []
        stack = [_Walk(root) for root in self.roots]
        while stack:
            walk = stack[-1]
            child = walk.before()
            if child is None:
                own = walk.gap + max(0.0, walk.time - walk.turn.began)
                if not walk.turn.children or own > _GAP * self.wall:
                    steps.append((walk.turn, own))
                stack.pop()
            else:
                stack.append(_Walk(child))
        return steps[::-1]

    def _start(self, event: Event, record: AgentStart) -> None:
        if record.attempt > 1:
            turn = self._open.get((event.path, event.branch))
            if turn is not None:
                _try_again(turn, event.timestamp, record)
                return
        turn = Turn(
            event.author, record.agent_type, event.path, event.branch, self._place, event.timestamp, event.iteration
        )
        turn.tries = record.attempt
        above, _, _ = event.path.rpartition(".")
        branch: str | None = event.branch
        while above and branch is not None and turn.parent is None:
            turn.parent = self._open.get((above, branch))
            branch = branch.rpartition(".")[0] if branch else None
        if isinstance(record, AgentParallelStart):
            turn.queued = record.queue_ms / 1000
        turn.forked = record.own_branch or isinstance(record, AgentParallelStart)
        parent = turn.parent
        if parent is not None:
            parent.children.append(turn)
            if not parent._running:
                parent._since = parent._until = event.timestamp
            parent._running += 1
        elif not above or not self.roots:
            self.roots.append(turn)
        turn.ended = event.timestamp
        self.turns.append(turn)
        self._open[event.path, event.branch] = turn

    def _complete(self, event: Event, record: AgentComplete) -> None:
        turn = self._open.pop((event.path, event.branch), None)
        if turn is None:
            return
        ended = event.timestamp
        if record.outcome == "cancelled":  # its end was stored with whatever came next
            ended = min(ended, turn.began + record.execution_time_ms / 1000)
        turn.error, turn.reason = record.error, record.reason or turn.reason
        turn.tries = max(turn.tries, record.attempts)
        self._paid(turn, event)
        self._end(turn, ended, one_line(record.outcome))

    def _end(self, turn: Turn, now: float, status: str) -> None:
        turn.last, turn.ended, turn.status = self._place, max(now, turn.began), status
        parent = turn.parent
        if parent is not None:
            parent._running -= 1
            parent._until = max(parent._until, turn.ended)
            if not parent._running:
                parent._covered += parent._until - parent._since
                parent.busy.append((parent._since, parent._until))
        self.work += turn.own

    def _scatter(self, event: Event, record: ScatterStart) -> None:
        turn = self._open.get((event.path, event.branch))
        if turn is not None:
            turn.declared += record.agent_names

    def _gather(self, event: Event, record: GatherComplete) -> None:
        turn = self._open.get((event.path, event.branch))
        if turn is None:
            return
        turn.skipped += [name for name, outcome in record.outcomes.items() if outcome == "skipped"]
        turn.reason = turn.reason or record.reason
        if record.hidden:
            hidden = set(record.hidden)
            for child in turn.children:
                child.hidden |= child.branch in hidden or (child.forked and EVERY_BRANCH in hidden)

    def _paid(self, turn: Turn, event: Event) -> None:
        if event.usage is not None:
            turn.usage = event.usage if turn.usage is None else turn.usage + event.usage

    def _decide(self, event: Event, record: SynthesisComplete) -> None:
        turn = self._open.get((event.path, event.branch))
        if turn is not None:
            turn.decision = ", ".join(decision(record))
            if self._words:
                self._mark(turn, event, "decided", record.final_result_summary or turn.decision)

    def _told(self, event: Event) -> None:
        turn = self._open.get((event.path, event.branch))
        if turn is None:
            return
        turn.ended = max(turn.ended, event.timestamp)
        self._paid(turn, event)
        kind = "asked" if event.author == "user" else "said"
        for part in event.parts:
            if type(part) is ToolCall:
                kind = "called"
                self._calls[part.id] = call = Call(part.id, part.name, event.timestamp)
                turn.calls.append(call)
            elif type(part) is ToolResult:
                kind = "answered"
                answered = self._calls.get(part.id)
                if answered is not None:
                    answered.ended, answered.failed = event.timestamp, part.is_error
        if self._words:
            self._mark(turn, event, kind, said(event))
            self._mark_actions(turn, event)

    def _mark_actions(self, turn: Turn, event: Event) -> None:
        actions = event.actions
        if actions is None:
            return
        written = [*actions.state_delta, *actions.contributions, *(f"-{key}" for key in actions.state_removed)]
        if written:
            self._mark(turn, event, "wrote", ", ".join(written))
        if actions.escalate:
            self._mark(turn, event, "escalated", actions.escalate if isinstance(actions.escalate, str) else "", True)
        if actions.transfer_to_agent:
            self._mark(turn, event, "transferred", actions.transfer_to_agent)

    def _mark_record(self, event: Event, record: Any) -> None:
        turn = self._open.get((event.path, event.branch))
        if turn is None:
            return
        if type(record) is LoopIteration:
            most = f" of {record.max_iterations}" if record.max_iterations is not None else ""
            self._mark(turn, event, "iteration", f"{record.iteration}{most}")
        else:
            self._mark(turn, event, record.name, "", True)

    def _mark(self, turn: Turn, event: Event, kind: str, words: str, bare: bool = False) -> None:
        if words or bare:
            words = words if len(words) <= self._words else words[: self._words] + "…"
            turn.marks.append(Mark(event.timestamp, kind, words, event.serial or 0))


def _try_again(turn: Turn, now: float, record: AgentStart) -> None:
    if not turn.attempts:
        turn.attempts.append(Attempt(turn.tries, turn.began))
    before = turn.attempts[-1]
    before.ended = max(before.began, now - record.waited_ms / 1000)
    before.error = record.error
    turn.tries = record.attempt
    turn.attempts.append(Attempt(record.attempt, now))


class _Walk:
    """A turn whose children are being walked from the last to the first."""

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self.time = turn.ended
        self.place = turn.last
        self.gap = 0.0
        children = turn.children
        if turn.status != "cancelled":  # then one that was cancelled held nobody up
            children = [child for child in children if child.status != "cancelled"]
        self.children = sorted(children, key=lambda child: child.last)

    def before(self) -> Turn | None:
        """The child that ended last before the one given before this, or before the turn's end."""
        while self.children:
            child = self.children.pop()
            if child.last < self.place:
                self.gap += max(0.0, self.time - child.ended)
                self.time, self.place = child.began, child.first
                return child
        return None


def runs(events: Iterable[Event], *, words: int = 300) -> Iterator[Timeline]:
    """The runs of a session, each as it ended or was cut short, in the order in which they began.

    Args:
        events: Of one session, in the order of the log.
        words: See `Timeline`.
    """
    found: dict[str, Timeline] = {}
    for event in events:
        timeline = found.get(event.invocation_id)
        if timeline is None:
            timeline = found[event.invocation_id] = Timeline(words=words)
        timeline.add(event)
    for timeline in found.values():
        timeline.close()
        yield timeline
