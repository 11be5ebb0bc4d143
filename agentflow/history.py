"""Who sees what: the fork and join of branches, read off the log.

An agent sees its ancestors' events from before its fork, its own branch's, and those of every parallel group that had
gathered before its current step in its own line. Failed attempts and branches that lost a race are left out. All of it
follows from the stored events alone, so a live run and one that is read back agree.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeVar

from agentflow.events import (
    EVERY_BRANCH,
    AgentComplete,
    AgentParallelStart,
    AgentStart,
    Event,
    GatherComplete,
    ScatterStart,
)


class View(Protocol):
    """Something made of what one agent sees, fed each event once, in order."""

    def add(self, events: Iterable[Event], /) -> None:
        """Take in what is new."""


V = TypeVar("V", bound=View)


class _Line:
    """What was said on one instance of a branch: its events and, at each join, the lines that joined.

    `cuts` counts how often something was taken back; `views` are kept with how many items, and cuts, they have seen.
    """

    __slots__ = ("attempts", "cuts", "fork", "items", "opener", "owner", "parent", "views")

    def __init__(self, parent: "_Line | None" = None, fork: int = 0) -> None:
        self.parent = parent
        self.fork = fork
        self.items: list[Event | list[_Line]] = []
        self.attempts: dict[str, int] = {}
        self.owner = ""
        self.opener = ""  # path of the agent whose turn began it
        self.cuts = 0
        self.views: dict[str, tuple[int, int, Any]] | None = None

    def events(self, end: int | None = None, start: int = 0) -> Iterator[Event]:
        """Its events from item `start` up to item `end`, joined groups in the order in which they were committed."""
        for item in self.items[start:end]:
            if isinstance(item, list):
                joined = [event for line in item for event in line.events()]
                joined.sort(key=_serial)
                yield from joined
            else:
                yield item


def _serial(event: Event) -> int:
    return event.serial or 0


class _OpenGroup:
    __slots__ = ("alone", "children", "fork", "parent")

    def __init__(self, parent: _Line, alone: bool) -> None:
        self.parent = parent
        self.alone = alone
        self.fork = len(parent.items)
        self.children: dict[str, _Line] = {}


class History:
    """An index of a session's events by line. Feed it each committed event, in serial order.

    Adding costs the same whatever came before; `visible` costs what it returns.
    """

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.last = ""  # id of the last event
        self._root = _Line()
        self._lines: dict[tuple[str, str], _Line] = {}
        self._groups: dict[tuple[str, str, str], _OpenGroup] = {}
        self.serial = 0
        for event in events:
            self.add(event)

    def add(self, event: Event) -> None:
        """Take in the next committed event; one that is in there already changes nothing."""
        serial = event.serial
        if serial is not None:
            if serial <= self.serial:
                return
            self.serial = serial
        self.last = event.id
        record = event.lifecycle
        if record is None:
            line = self._line(event)
            if event.author == "user" and line.attempts.get(event.path) == len(line.items):
                line.attempts[event.path] += 1  # what an agent was told stays when it tries again
            line.items.append(event)
        elif isinstance(record, AgentStart):
            self._start(event, record)
        elif isinstance(record, ScatterStart):
            self._groups[event.invocation_id, event.branch, record.agent_name] = _OpenGroup(
                self._line(event), record.alone
            )
        elif isinstance(record, GatherComplete):
            group = self._groups.pop((event.invocation_id, event.branch, record.agent_name), None)
            if group is not None and EVERY_BRANCH not in record.hidden:
                joined = [line for branch, line in group.children.items() if branch not in record.hidden]
                group.parent.items.append(joined)
        elif isinstance(record, AgentComplete) and record.outcome != "paused":
            self._end(event, joins=type(record) is AgentComplete)

    def visible(self, invocation_id: str, branch: str) -> list[Event]:
        """What an agent of this run on this (dotted) branch sees now, lifecycle events aside, oldest first."""
        return self._visible(self._at(invocation_id, branch))

    def view(self, invocation_id: str, branch: str, key: str, make: Callable[[], V]) -> V:
        """The view of this kind (`key`) on a branch, fed with what has come since it was last asked for.

        Asking again costs what is new, however long the session is.
        """
        line = self._at(invocation_id, branch)
        if line.views is None:
            line.views = {}
        kept = line.views.get(key)
        if kept is not None and kept[1] == line.cuts:
            view: V = kept[2]
            if kept[0] < len(line.items):
                view.add(line.events(start=kept[0]))
        else:
            view = make()
            view.add(self._visible(line))
        line.views[key] = (len(line.items), line.cuts, view)
        return view

    def _at(self, invocation_id: str, branch: str) -> _Line:
        line = self._lines.get((invocation_id, branch)) if branch else self._root
        return line if line is not None else self._make(invocation_id, branch)

    def _visible(self, line: _Line) -> list[Event]:
        chain: list[tuple[_Line, int | None]] = [(line, None)]
        while line.parent is not None:
            chain.append((line.parent, line.fork))
            line = line.parent
        return [event for line, end in reversed(chain) for event in line.events(end)]

    def _line(self, event: Event) -> _Line:
        if not event.branch:
            return self._root
        line = self._lines.get((event.invocation_id, event.branch))
        return line if line is not None else self._make(event.invocation_id, event.branch)

    def _make(self, run: str, branch: str) -> _Line:
        """A line for a branch: forked where its group opened or, outside of a group, where its parent is now."""
        segments = branch.split(".")
        above = ".".join(segments[:-2])
        group = self._groups.get((run, above, segments[-2])) if len(segments) > 1 else None
        if group is not None:
            line = group.children[branch] = _Line() if group.alone else _Line(group.parent, group.fork)
        else:
            parent = self._lines.get((run, above)) if above else self._root
            parent = parent or self._make(run, above)
            line = _Line(parent, len(parent.items))
        self._lines[run, branch] = line
        return line

    def _start(self, event: Event, record: AgentStart) -> None:
        if record.attempt == 1 and not record.resumed and (record.own_branch or isinstance(record, AgentParallelStart)):
            line = self._make(event.invocation_id, event.branch)  # a new instance, also where the name was used before
            line.owner = event.path if record.own_branch else ""
        elif record.isolated and record.attempt == 1 and not record.resumed:
            line = self._lines[event.invocation_id, event.branch] = _Line()
        else:
            line = self._line(event)
        line.opener = line.opener or event.path
        if record.attempt > 1:
            first = line.attempts.get(event.path, len(line.items))
            if first < len(line.items):
                del line.items[first:]
                line.cuts += 1
        else:
            line.attempts[event.path] = len(line.items)

    def _end(self, event: Event, *, joins: bool) -> None:
        """A child that ran beside others of its parent has a branch of its own, and joins when it ends."""
        line = self._lines.get((event.invocation_id, event.branch)) if event.branch else None
        if line is None:
            return
        if line.opener == event.path:
            line.views = None  # nobody works on it any more
        if joins and line.parent is not None and line.owner and line.owner == event.path:
            line.parent.items.append([line])


class Histories:
    """The indexes of sessions that a Runner has read, kept from run to run: those used last, up to `events` in all."""

    def __init__(self, events: int = 200_000) -> None:
        self._most = events
        self._total = 0
        self._kept: OrderedDict[Any, tuple[History, int]] = OrderedDict()

    def take(self, key: Any) -> History | None:
        """The index of a session, if it is here; it is no longer."""
        history, size = self._kept.pop(key, (None, 0))
        self._total -= size
        return history

    def keep(self, key: Any, history: History) -> None:
        """Keep an index, which may go on growing; those that weren't used for long make room."""
        size = history.serial + _LEAST
        self._kept[key] = (history, size)
        self._total += size
        while self._total > self._most and len(self._kept) > 1:
            _, (_, gone) = self._kept.popitem(last=False)
            self._total -= gone


_LEAST = 100
"""Events that a short session counts for, so that there are no more than a few thousand of them."""


def visible_by_prefix(events: Iterable[Event], branch: str) -> list[Event]:
    """adk-go's rule: an event is seen if either branch is empty, both are equal, or the event's is a prefix.

    Source: adk-go `internal/llminternal/contents_processor.go`, `eventBelongsToBranch`.
    """
    events = list(events)
    apart = {event.branch for event in events if isinstance(event.lifecycle, AgentStart) and event.lifecycle.isolated}
    return [
        event
        for event in events
        if event.lifecycle is None
        and {above for above in apart if _under(event.branch, above)}
        == {above for above in apart if _under(branch, above)}
        and (not branch or not event.branch or branch == event.branch or branch.startswith(event.branch + "."))
    ]


def _under(branch: str, above: str) -> bool:
    return branch == above or branch.startswith(above + ".")
