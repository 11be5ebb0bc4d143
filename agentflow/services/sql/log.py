"""How events get into the log: the hot path. Many appends become few statements in the writer's transaction."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from agentflow.errors import InvalidEvent, ServiceError
from agentflow.events import Actions, AgentComplete, AgentParallelComplete, Event, commit_event
from agentflow.services.sessions import SessionKey, no_session, stale
from agentflow.services.sql.query import Row
from agentflow.services.sql.schema import SERIAL_BITS
from agentflow.services.sql.session_queries import SessionQueries
from agentflow.services.sql.state import StateTable
from agentflow.services.sql.writer import Job

_SESSIONS = 1_000
_LINES = 20_000
"""How much is kept in mind of sessions that were written to."""

MASK = (1 << SERIAL_BITS) - 1


class _Known:
    """What the next append needs to know of a session."""

    __slots__ = ("changed", "id", "lines", "runs", "version")

    def __init__(self, id: int, version: int, changed: int) -> None:
        self.id = id
        self.version = version
        self.changed = changed
        self.runs: dict[str, int] = {}
        self.lines: dict[tuple[str, str], list[int]] = {}  # run and branch: ids of the run and the line, its last seq


class Append(Job):
    """Events to be committed to one session."""

    def __init__(
        self,
        together: Callable[[Any, Sequence[Any]], Callable[[], None]],
        key: SessionKey,
        batch: Sequence[Event],
        expected: int | None,
    ) -> None:
        self.together = together
        self.key = key
        self.expected = expected
        self.rows = list(map(body_of, batch))


class Log:
    """Appends to sessions, and knows their numbers. Lives in the writer's thread."""

    def __init__(self, queries: SessionQueries, state: StateTable) -> None:
        self._state = state
        self._q = queries
        self._known: OrderedDict[SessionKey, _Known] = OrderedDict()
        self._latest: int | None = None

    def forget(self) -> None:
        """Others may have written."""
        self._known.clear()
        self._latest = None

    def forget_session(self, key: SessionKey) -> None:
        """It was changed otherwise than by an append."""
        self._known.pop(key, None)

    def next_change(self, connection: Any) -> int:
        """A place in the order of changes, above all there are."""
        if self._latest is None:
            row = self._q.max_changed.one(connection)
            self._latest = (row[0] if row else None) or 0
        self._latest += 1
        return self._latest

    def touch(self, connection: Any, session: int) -> int:
        """Make a session the one that was changed last."""
        changed = self.next_change(connection)
        self._q.touch.run(connection, session=session, to=changed)
        return changed

    def known(self, connection: Any, key: SessionKey) -> _Known | None:
        """What is known of a session; `None` if there is none."""
        known = self._known.get(key)
        if known is not None:
            return known
        row = self._q.find.one(connection, app=key.app_name, user=key.user_id, name=key.session_id)
        if row is None:
            return None
        session, changed = row[0], row[6]
        known = self._known[key] = _Known(session, self.version(connection, session), changed)
        return known

    def version(self, connection: Any, session: int) -> int:
        """The serial of a session's last event."""
        row = self._q.last_event.one(connection, first=session << SERIAL_BITS, last=(session + 1) << SERIAL_BITS)
        return (row[0] or 0) & MASK if row else 0

    def append(self, connection: Any, jobs: Sequence[Append]) -> Callable[[], None]:
        """Write the events of several jobs, in order; see `Job.together`. When they are committed they get numbers."""
        rows: list[Row] = []
        stored: list[Event] = []
        touched: dict[SessionKey, _Known] = {}
        ended: list[tuple[_Known, str, str]] = []
        for job in jobs:
            key = job.key
            known = self._known.get(key) or self.known(connection, key)
            job.error = _refusal(job, known)
            if job.error is not None or known is None:
                continue
            serial, lines = known.id << SERIAL_BITS | known.version, known.lines
            for event, run, branch, timestamp, body, actions, last in job.rows:
                line = lines.get((run, branch)) or self._line(connection, known, run, branch)
                serial += 1
                line[2] += 1
                stored.append(event)
                rows.append((serial, *line, timestamp, body))
                if actions is not None and (actions.state_delta or actions.state_removed):
                    self._state.apply(connection, key, known.id, actions.state_delta, actions.state_removed)
                if last:
                    ended.append((known, run, branch))
            if job.rows:
                known.version = serial & MASK
                touched[key] = known
        if rows:
            self._q.add_event.many(connection, rows)
        for known in touched.values():
            if known.changed != self._latest:
                known.changed = self.touch(connection, known.id)
            if len(known.lines) > _LINES:
                known.lines.clear()
                known.runs.clear()
        # Not before all rows are in: what is not known is read.
        for known, run, branch in ended:
            known.lines.pop((run, branch), None)
            if not branch:
                known.runs.pop(run, None)
        while len(self._known) > _SESSIONS:
            self._known.popitem(last=False)

        def tell() -> None:
            for event, row in zip(stored, rows, strict=True):
                commit_event(event, seq=row[3], serial=row[0] & MASK)

        return tell

    def _line(self, connection: Any, known: _Known, run: str, branch: str) -> list[int]:
        number = known.runs.get(run)
        if number is None:
            number = known.runs[run] = self.run_id(connection, known.id, run)
        row = self._q.find_line.one(connection, run=number, branch=branch)
        line, seq = (
            (row[0], self._last_seq(connection, number, row[0]))
            if row
            else (self._add_line(connection, number, branch), 0)
        )
        found = known.lines[run, branch] = [number, line, seq]
        return found

    def _last_seq(self, connection: Any, run: int, line: int) -> int:
        """A line's last seq, without an index of lines: it has every seq up to that one, so they are tried.

        From the run's highest down in growing steps, then by halves: lines that are written to together end near it.
        """

        def has(seq: int) -> bool:
            return self._q.has_seq.one(connection, run=run, seq=seq, line=line) is not None

        row = self._q.max_seq.one(connection, run=run)
        low = (row[0] if row else None) or 0
        high, step = low + 1, 1
        while low > 0 and not has(low):
            high, low, step = low, max(low - step, 0), step * 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if has(middle) else (low, middle)
        return low

    def run_id(self, connection: Any, session: int, run: str) -> int:
        """The id of a run, which is written down if it is new."""
        row = self._q.find_run.one(connection, session=session, name=run)
        row = row or self._q.add_run.one(connection, session=session, name=run)
        assert row is not None
        found: int = row[0]
        return found

    def line_id(self, connection: Any, run: int, branch: str) -> int:
        """The id of a branch of a run, which is written down if it is new."""
        row = self._q.find_line.one(connection, run=run, branch=branch)
        return row[0] if row else self._add_line(connection, run, branch)

    def _add_line(self, connection: Any, run: int, branch: str) -> int:
        row = self._q.add_line.one(connection, run=run, branch=branch)
        assert row is not None
        found: int = row[0]
        return found


def _refusal(job: Append, known: _Known | None) -> Exception | None:
    if known is None:
        return no_session(job.key)
    if job.expected is not None and job.expected != known.version:
        return stale(job.key, job.expected, known.version)
    for row in job.rows:
        if row[0].__dict__["serial"] is not None:  # by another append, meanwhile
            return ServiceError(f"event {row[0].id!r} is stored already: not appended")
    return None


def body_of(event: Event, *, numbered: bool = False) -> tuple[Event, str, str, float, str, Actions | None, bool]:
    """An event and what is stored of it: run, branch, time, JSON without its numbers, and what it does to state.

    Then whether its branch, or all of the run, has ended with it, so that little more can be expected there.

    Args:
        event: One that is new.
        numbered: It has its numbers already, since it is restored.

    Raises:
        ServiceError: It is partial, or stored already.
        InvalidEvent: It can't be written as JSON.
    """
    fields = event.__dict__
    try:
        if numbered:
            body = event.model_dump_json(by_alias=True, exclude_defaults=True, exclude={"seq", "serial"})
        elif fields["partial"] or fields["serial"] is not None:
            what = "partial" if fields["partial"] else "stored already"
            raise ServiceError(f"event {event.id!r} is {what}: not appended")
        else:
            body = event.to_json()
    except ValueError as error:
        raise InvalidEvent(f"event {event.id!r} can't be stored: {error}") from error
    record = fields["lifecycle"]
    last = record is not None and _ends(event, record)
    return event, fields["invocation_id"], fields["branch"], fields["timestamp"], body, fields["actions"], last


def _ends(event: Event, record: object) -> bool:
    if type(record) is AgentComplete:  # others share their parent's branch
        return not event.branch and "." not in event.path
    return type(record) is AgentParallelComplete
