"""The rows of a timeline's pictures: one for each agent on each branch, below the agent that runs it."""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field

from agentflow.timeline.model import Timeline, Turn
from agentflow.timeline.words import clean, duration, one_line, plural


@dataclass(slots=True, eq=False)
class Row:
    """One agent on one branch: a loop gives it several turns, which stand in one row.

    Attributes:
        label: Its name, told from its siblings.
        depth: How far it is indented.
        turns: In the order in which they began; none for a branch that never did.
    """

    label: str
    depth: int
    turns: list[Turn] = field(default_factory=list)
    children: list["Row"] = field(default_factory=list, repr=False)

    @property
    def status(self) -> str:
        """How its last turn ended; `skipped` if there was none, `unfinished` if it has no end."""
        return (self.turns[-1].status or "unfinished") if self.turns else "skipped"

    @property
    def seconds(self) -> float:
        """What its turns took together."""
        return sum(turn.seconds for turn in self.turns)

    def notes(self) -> list[str]:
        """What is worth saying about it besides its outcome."""
        turns = self.turns
        notes = []
        if len(turns) > 1:
            notes.append(plural(len(turns), "turn"))
        tries = sum(turn.tries for turn in turns)
        if tries > len(turns):
            notes.append(f"{tries - len(turns)} retried" if len(turns) > 1 else f"attempt {tries}")
        failed = next((turn for turn in reversed(turns) if turn.error is not None), None)
        if failed is not None and failed.error is not None:
            kind, message = failed.error.type, failed.error.message
            if failed.status == "timeout":  # the row says what and who
                kind, message = "", message.removeprefix(f"agent {failed.path!r} was ")
            notes.append(one_line(": ".join(filter(None, (kind, message)))))
        elif turns and turns[-1].reason:
            notes.append(one_line(turns[-1].reason))
        if turns and turns[-1].decision:
            notes.append(clean(turns[-1].decision))
        queued = sum(turn.queued for turn in turns)
        if queued >= 0.0005:
            notes.append(f"queued {duration(queued)}")
        return notes


def rows(timeline: Timeline) -> list[Row]:
    """All rows, each right after the one that it is below."""
    roots: list[Row] = []
    found: dict[tuple[str, str], Row] = {}
    for turn in timeline.turns:
        row = found.get((turn.path, turn.branch))
        if row is None:
            parent = found[turn.parent.path, turn.parent.branch] if turn.parent is not None else None
            row = found[turn.path, turn.branch] = Row(turn.label, parent.depth + 1 if parent is not None else 0)
            (parent.children if parent is not None else roots).append(row)
        row.turns.append(turn)
    for row in found.values():
        there = {child.label for child in row.children}
        missing = {name: None for turn in row.turns for name in turn.skipped if name not in there}
        row.children += [Row(name, row.depth + 1) for name in missing]
        _order(row)
    return list(_flat(roots))


def _order(row: Row) -> None:
    """Branches stand as they were declared, twins by their number; what ran one after the other stands as it ran."""
    if not any(turn.forked for child in row.children for turn in child.turns[:1]):
        return
    declared = [name for turn in row.turns for name in turn.declared]
    order: dict[str, int] = {}
    for name in [*declared, *(child.label.partition("#")[0] for child in row.children)]:
        order.setdefault(name, len(order))

    def place(child: Row) -> tuple[int, int]:
        base, _, number = child.label.partition("#")
        return order.get(child.label, order[base]), int(number) if number.isdigit() else 1

    row.children.sort(key=place)


def _flat(roots: list[Row]) -> Iterator[Row]:
    stack = roots[::-1]
    while stack:
        row = stack.pop()
        yield row
        stack.extend(reversed(row.children))


class Axis:
    """Where moments of a run stand in a picture: its first is at 0, and pauses take no room.

    Attributes:
        seconds: How long it is; never 0.
        pauses: The pauses: (where, how long), in seconds.
    """

    def __init__(self, timeline: Timeline) -> None:
        self._start = min((turn.began - turn.queued for turn in timeline.turns), default=timeline.began)
        self._times: list[float] = []
        self._gone = [0.0]
        self.pauses: list[tuple[float, float]] = []
        for began, ended in timeline.pauses:
            self.pauses.append((self.at(began), ended - began))
            self._times.append(ended)
            self._gone.append(self._gone[-1] + ended - began)
        self.seconds = max(self.at(max((turn.ended for turn in timeline.turns), default=timeline.now)), 1e-6)

    def at(self, time: float) -> float:
        """Seconds from the left edge to a moment that is in no pause."""
        return time - self._start - self._gone[bisect_right(self._times, time)]

    @property
    def paused(self) -> str:
        """For people, how long it waited for answers in all; empty if it never did."""
        return f"{duration(self._gone[-1])} paused" if self.pauses else ""


def ticks(seconds: float, most: int) -> list[float]:
    """Round moments from 0 to `seconds`, at most so many, for an axis."""
    if seconds <= 0 or most < 1:
        return [0.0]
    step = 0.001
    steps = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800)
    for step in (*steps, *(3600.0 * 2**power for power in range(20))):
        if seconds / step < most:
            break
    return [number * step for number in range(int(seconds / step) + 1)]


def moment(seconds: float) -> str:
    """A tick's name: `0`, `250 ms`, `1.5 s`, `2 m`, `1 h 30 m`."""
    if seconds == 0:
        return "0"
    if seconds < 1:
        return f"{seconds * 1000:g} ms"
    if seconds < 60:
        return f"{seconds:g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} m" + (f" {rest:02} s" if rest else "")
    return f"{minutes // 60} h" + (f" {minutes % 60:02} m" if minutes % 60 else "")


def pieces(turn: Turn) -> list[tuple[str, float, float]]:
    """What a turn's time went into, in order, as (what, from, to).

    `queue` before it began; then `own` work, `failed` work (of an attempt that failed), its `children` at work, and the
    waits before a `retry`.
    """
    found = [("queue", turn.began - turn.queued, turn.began)] if turn.queued else []
    waits = [
        ("retry", before.ended, after.began)
        for before, after in zip(turn.attempts, turn.attempts[1:], strict=False)
        if before.ended is not None
    ]
    apart = sorted([*(("children", began, ended) for began, ended in turn.busy), *waits], key=lambda piece: piece[1])
    tried = turn.attempts[-1].began if turn.attempts else turn.began
    now = turn.began
    for kind, began, ended in apart:
        if began > now:
            found.append(("own" if now >= tried else "failed", now, began))
        found.append((kind, max(began, now), max(ended, now)))
        now = max(now, ended)
    if turn.ended > now or not apart:
        found.append(("own", now, turn.ended))
    return found
