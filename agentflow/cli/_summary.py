"""What a run's time went into, from its events alone: the critical path, and what doing things at once has saved."""

from dataclasses import dataclass, field

from agentflow.events import AgentComplete, AgentParallelComplete, AgentParallelStart, AgentStart, Event

_GAP = 0.05
"""Share of the wall time from which an agent's own work, between its children's, has a place on the critical path."""


@dataclass(slots=True, eq=False)
class Turn:
    """One agent's turn. `first` and `last` are its places in the order of events."""

    name: str
    first: int
    began: float
    last: int = 0
    ended: float = 0.0
    status: str = ""
    children: list["Turn"] = field(default_factory=list)
    parent: "Turn | None" = None
    running: int = 0
    since: float = 0.0
    covered: float = 0.0

    @property
    def own(self) -> float:
        """Seconds in which no child of it was at work."""
        return max(0.0, self.ended - self.began - self.covered)


@dataclass(slots=True)
class Step:
    """An agent on the critical path: how often it is there, and for how many seconds in all."""

    name: str
    times: int = 0
    seconds: float = 0.0


class Timing:
    """Give it every event, in order.

    Attributes:
        work: Seconds of all agents' own work added up, from each one's start to its end, its children's aside.
    """

    def __init__(self) -> None:
        self.root: Turn | None = None
        self.work = 0.0
        self._open: dict[tuple[str, str], Turn] = {}
        self._count = 0
        self._now = 0.0

    def add(self, event: Event) -> None:
        """The next event."""
        self._count += 1
        self._now = max(self._now, event.timestamp)
        record = event.lifecycle
        if record is None:
            return
        kind = type(record)
        if kind is AgentStart or kind is AgentParallelStart:
            assert isinstance(record, AgentStart)
            if record.attempt == 1:
                self._start(event)
        elif kind is AgentComplete or kind is AgentParallelComplete:
            assert isinstance(record, AgentComplete)
            turn = self._open.pop((event.path, event.branch), None)
            if turn is not None:
                self._end(turn, event.timestamp, record.outcome)

    @property
    def wall(self) -> float:
        """Seconds from the root's start to its end, or to the last event if there was none."""
        if self.root is None:
            return 0.0
        return max(0.0, (self.root.ended if self.root.status else self._now) - self.root.began)

    @property
    def speedup(self) -> float:
        """How many times longer the same work, one agent after the other, would have taken.

        An agent's time is all of it from its start to its end, so it counts waiting for a processor that others hold.
        """
        return self.work / self.wall if self.wall > 0 else 1.0

    def critical_path(self) -> list[Step]:
        """The agents that the run's end waited for, in order; each one named once.

        Walks backwards: what ended last before a turn went on is what it waited for.
        """
        if self.root is None:
            return []
        self._close_open()
        steps: list[tuple[str, float]] = []
        stack = [_Walk(self.root)]
        while stack:
            walk = stack[-1]
            child = walk.before()
            if child is None:
                own = walk.gap + max(0.0, walk.time - walk.turn.began)
                if not walk.turn.children or own > _GAP * self.wall:
                    steps.append((walk.turn.name, own))
                stack.pop()
            else:
                stack.append(_Walk(child))
        found: dict[str, Step] = {}
        for name, seconds in reversed(steps):
            step = found.setdefault(name, Step(name))
            step.times += 1
            step.seconds += seconds
        return list(found.values())

    def _start(self, event: Event) -> None:
        turn = Turn(event.author, self._count, event.timestamp)
        above, _, _ = event.path.rpartition(".")
        branch: str | None = event.branch
        while above and branch is not None and turn.parent is None:
            turn.parent = self._open.get((above, branch))
            branch = branch.rpartition(".")[0] if branch else None
        parent = turn.parent
        if parent is not None:
            parent.children.append(turn)
            if not parent.running:
                parent.since = event.timestamp
            parent.running += 1
        elif self.root is None:
            self.root = turn
        self._open[event.path, event.branch] = turn

    def _end(self, turn: Turn, now: float, status: str) -> None:
        turn.last, turn.ended, turn.status = self._count, now, status
        parent = turn.parent
        if parent is not None:
            parent.running -= 1
            if not parent.running:
                parent.covered += max(0.0, now - parent.since)
        self.work += turn.own

    def _close_open(self) -> None:
        """End what the events don't: a run that was cut off."""
        for turn in reversed(self._open.values()):
            self._count += 1
            self._end(turn, self._now, "")
        self._open.clear()


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
