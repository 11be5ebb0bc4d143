"""What all contexts of one run share: how an event is stamped, committed and handed over."""

import logging
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol

import anyio
from anyio.lowlevel import checkpoint

from agentflow._place import Place, Timer
from agentflow._streams import Channel, Flow, Loop, Ticket
from agentflow.content import Part, Text
from agentflow.errors import InvalidEvent, LimitExceeded, StateConflict
from agentflow.events import Actions, Event, Usage, clean_event
from agentflow.history import Histories, History, V, visible_by_prefix
from agentflow.journal import Journal
from agentflow.policies import Limits, Spent
from agentflow.services.sessions import SessionKey, SessionService
from agentflow.state import REMOVED, TEMP
from agentflow.tracing import Tracing

logger = logging.getLogger(__name__)

SLACK = 3
"""Lifecycle events that a branch may have on the way before it waits for the reader: they aren't to hold up work."""


class Scheduler(Protocol):
    """Decides who goes on; see `agentflow.testing.SeededScheduler`."""

    async def point(self, path: str, where: str) -> None:
        """Called whenever an agent starts, emits, or goes on after an emit. Return to let it go on."""


EventHook = Callable[[Any, Event], Awaitable[Event]]


class Speaker(Protocol):
    """Who has an event committed, where something is to be done once it is: a turn, or what `emit` makes for one."""

    @property
    def author(self) -> Any:
        """The turn whose event it is."""

    def landed(self, event: Event) -> None:
        """It is in the log, and its turn to be acted on has come."""


@dataclass(slots=True)
class _Writes:
    """What an event does to state besides its delta.

    `said`: its actions as they were said; `keys`: what it writes or deletes in a group; `brought`: what it adds to keys
    that are folded at a join; `temp`: what the run alone knows.
    """

    said: Actions
    keys: list[str]
    brought: dict[str, Any]
    temp: dict[str, Any]


@dataclass(slots=True)
class _Row:
    """An event on its way into the log, and what is to be done when it is there."""

    place: Place
    event: Event
    writes: _Writes | None
    push: bool
    speaker: Speaker | None = None

    def again(self) -> Event:
        """The event, for another try."""
        return self.event


def _numbered(id: str, first: int) -> Callable[[], str]:
    """What gives `id-1`, `id-2` and so on, without a step of Python's own."""
    return map(f"{id}-".__add__, map(str, count(first))).__next__


class Invocation:
    """One run of one tree."""

    __slots__ = (
        "_answered", "_asked", "_early", "_histories", "_history", "_lock", "_meanwhile", "_note", "_push", "_rng",
        "_seed", "_slack", "_taking", "active", "asking", "cancelled", "channel", "deferred", "direct", "ends", "id",
        "journal", "key", "limits", "lookahead", "max_event_bytes", "new_id", "now", "on_event", "outcomes", "paid",
        "plain_chars", "reason", "scheduler", "sessions", "spent", "state", "stopping", "stream", "strict", "time",
        "tool_calls", "tracing", "usage", "user_content", "visibility",
    )  # fmt: skip

    def __init__(
        self,
        *,
        id: str,
        key: SessionKey,
        sessions: SessionService,
        channel: Channel,
        loop: Loop,
        time: Callable[[], float],
        limits: Limits,
        lookahead: int,
        stream: bool,
        max_event_bytes: int,
        visibility: str,
        seed: int | None,
        tracing: Tracing | None,
        scheduler: Scheduler | None,
        histories: Histories,
        on_event: EventHook | None,
    ) -> None:
        self.id = id
        self.new_id = _numbered(id, 1)
        """Makes event ids; unique, since the run's is."""
        self.key = key
        self.sessions = sessions
        self.channel = channel
        self._push = channel.push
        self.now = loop.now
        self.cancelled = loop.cancelled
        self.time = time
        self.limits = limits
        self.spent = Spent()
        self.lookahead = lookahead
        self._slack = lookahead + SLACK
        self.stream = stream
        self.max_event_bytes = max_event_bytes
        self.plain_chars = max_event_bytes // 6 - 1024  # so long a text of ASCII is never too long as JSON
        self.visibility = visibility
        self._seed = seed
        self._rng: random.Random | None = None
        self.tracing = tracing
        self.scheduler = scheduler
        self.tool_calls: defaultdict[tuple[str, str], int] = defaultdict(int)  # by path and branch: they number lines
        self.journal: Journal | None = None  # of a run that goes on after a pause: what it had done
        self.on_event = on_event
        self.direct = on_event is None and scheduler is None  # what is emitted goes straight into the log
        self.state: dict[str, Any] = {}
        self.user_content: tuple[Part, ...] = ()
        self.usage = Usage()
        self.ends = float("inf") if limits.seconds is None else loop.now() + limits.seconds
        self.paid: set[str] = set()  # ids of events that were charged though they weren't stored
        self.active: dict[Any, Event | None] = {}  # turns and groups, and what began each, until its end is told
        self.asking: set[Any] = set()  # turns whose model was asked and has not been charged
        self.strict = False  # turns have ended whose tasks may go on: who speaks is asked whether it still may
        self.outcomes: dict[str, Any] = {}
        self.stopping = False
        self.reason = ""
        self._taking = False
        self._lock: anyio.Lock | None = None
        self._asked = 0
        self._answered = 0
        self._early: dict[int, tuple[list[_Row], Ticket | None]] = {}
        self.deferred: list[Any] = []
        """What was cancelled and whose end the next commit takes along: a turn, which makes its own, for nothing is
        allocated while a thousand of them end; or (context, place, what makes the event)."""
        self._histories = histories
        self._meanwhile: list[Event] = []  # what is committed while the log is read
        self._history: History | None = None
        self._note: Callable[[Event], None] | None = None  # who is told of each commit, once someone asked for history

    @property
    def rng(self) -> random.Random:
        """The run's randomness; made when it is first asked for, since seeding takes as long as five events."""
        if self._rng is None:
            self._rng = random.Random(self._seed)
        return self._rng

    def why(self, when: float) -> str:
        """Why what was cancelled at `when` was, as far as that is the run's affair."""
        if not self.reason and when >= self.ends:
            return f"the run's time ({self.limits.seconds:g} s) was up"
        return self.reason

    def go_on(self, journal: Journal) -> None:
        """Be the run that this is the journal of."""
        self.journal, self.user_content, self.direct = journal, journal.user_content, False
        self.new_id = _numbered(self.id, journal.count + 1)
        self.tool_calls = defaultdict(int, journal.tool_calls)

    def plain(self, event: Event) -> bool:
        """Whether an event of our own making is plain words and nothing else: safe for every store as it is."""
        fields = event.__dict__
        parts = fields["parts"]
        if type(parts) is not tuple or len(parts) != 1 or fields["actions"] is not None:
            return False
        part = parts[0]
        if type(part) is not Text or part.extra is not None:
            return False
        text = part.text
        return type(text) is str and text.isascii() and len(text) < self.plain_chars and "\x00" not in text

    def clean(self, event: Event, path: str) -> None:
        """Make what `event`, of the agent at `path`, holds safe for every store, in place.

        Raises:
            InvalidEvent: It holds what JSON can't, or more than `max_event_bytes`.
        """
        if event.__pydantic_extra__ is None and self.plain(event):
            return
        size = clean_event(event, f"agent {path!r}" if path else "the user's message")
        if size * 6 > self.max_event_bytes:  # six bytes are the most that JSON makes of one character
            exact = len(event.to_json().encode())
            if exact > self.max_event_bytes:
                raise InvalidEvent(
                    f"agent {path!r} emitted an event of {exact:,} bytes; the limit is {self.max_event_bytes:,} "
                    "(Runner's max_event_bytes). Save large things as artifacts"
                )

    def commit(
        self, place: Place, event: Event, speaker: Speaker | None = None, *, push: bool = True
    ) -> Awaitable[None] | None:
        """Check and commit one event, and with it the ends of what was cancelled; publish its state; hand it over.

        Gives what is to be awaited for that, or `None` if it is done: in a store that answers at once. Several branches
        may be in here at once; what they commit is published and handed over in the order of the log, which is that in
        which they came. What is awaited tells the `speaker` in that order too, though who awaits it be cancelled.

        Raises:
            StateConflict: A sibling branch wrote one of its keys. Nothing was stored.
            LimitExceeded: The run has stored as many events as it may. Nothing was stored.
            ServiceError: From the store.
        """
        fields = event.__dict__
        counts = fields["lifecycle"] is None
        if counts and self.limits.events is not None and self.spent.events >= self.limits.events:
            raise self.out_of("events", place, event.path)
        actions: Actions | None = fields["actions"]
        writes = self._claim(place, event, actions) if actions is not None else None
        if counts:
            self.spent.events += 1
        if self._asked != self._answered or self.deferred or not self.sessions.append_now(self.key, event):
            return self._commit_later(_Row(place, event, writes, push, speaker))
        if actions is not None:
            self._publish(place, fields["actions"], writes)
        if self._note is not None:
            self._note(event)
        if push:
            self._push(event, place.flow)
        return None

    def _commit_later(self, row: _Row) -> Awaitable[None]:
        committing = self._commit_with_deferred(row) if self.deferred or self._taking else self._commit(row)
        return committing if row.writes is None else self._announce(row, row.writes, committing)

    async def _announce(self, row: _Row, writes: _Writes, committing: Awaitable[None]) -> None:
        """Commit an event that writes; until it is stored, siblings find the conflict all the same."""
        writer = row.place.branch
        for group, index in row.place.groups:
            for key in writes.keys:
                group.coming.setdefault(key, []).append((index, writer))
        try:
            await committing
        except BaseException:
            if row.event.serial is None:
                row.event.__dict__["actions"] = writes.said
                self._arrive(row.place, writes)
            raise

    def _arrive(self, place: Place, writes: _Writes) -> None:
        """What was announced is stored, or won't be."""
        for group, index in place.groups:
            for key in writes.keys:
                group.coming[key].remove((index, place.branch))

    async def _commit(self, row: _Row) -> None:
        """Commit an event in a store that may wait."""
        turn = self._asked = self._asked + 1
        fields = row.event.__dict__
        fields["seq"] = 0  # on its way: who emits the same event meanwhile emits a copy
        try:
            await self.sessions.append(self.key, (row.event,))
        except BaseException:
            stored = fields["serial"] is not None
            if not stored:
                fields["seq"] = None
            self._answer(turn, [row] if stored else [])
            raise
        await self._answer_in_turn(turn, [row])

    def charge(self, usage: Usage, place: Place, path: str) -> None:
        """Charge the run.

        Raises:
            LimitExceeded: A budget ran out.
        """
        self.count(usage)
        self.check_spent(place, path)

    def count(self, usage: Usage) -> None:
        """Count what was charged to the run."""
        self.usage = self.usage + usage
        self.spent.model_calls += usage.model_calls
        self.spent.tokens += usage.total_tokens
        self.spent.cost += usage.cost

    def check_spent(self, place: Place, path: str) -> None:
        """Whether the run may go on.

        Raises:
            LimitExceeded: A budget ran out.
        """
        over = self.spent.exceeded(self.limits)
        if over is not None:
            raise self.out_of(over, place, path)

    def read(self, flow: Flow, ahead: int, timers: tuple[Timer, ...]) -> Awaitable[None]:
        """To be awaited: the reader is at most `ahead` events behind; meanwhile the clocks of `timers` stand still."""
        return self._read_untimed(flow, ahead, timers) if timers else self.channel.taken(flow, ahead)

    async def _read_untimed(self, flow: Flow, ahead: int, timers: tuple[Timer, ...]) -> None:
        for timer in timers:
            timer.pause()
        try:
            await self.channel.taken(flow, ahead)
        finally:
            for timer in timers:
                timer.resume()

    def tell(self, event: Event, ctx: Any, wait: bool = True) -> Awaitable[None] | None:
        """Commit and hand over a lifecycle event. Waits only when the reader is more than `SLACK` events behind.

        Gives what is to be awaited for that, or `None` if it is done.
        """
        place: Place = ctx._place
        if self.strict:
            ctx._check()
        committing = self.commit(place, event) if self.on_event is None else self._show(event, ctx)
        if committing is not None:
            return self._tell(committing, ctx, wait)
        flow = place.flow
        if (flow.sent - self._slack <= flow.taken and self.channel.reading) or not wait or self.stopping:
            return None
        return self.read(flow, self._slack, ctx._timers) if self.channel.reading else checkpoint()

    async def _tell(self, committing: Awaitable[None], ctx: Any, wait: bool) -> None:
        await committing
        flow = ctx._place.flow
        if not wait or self.stopping:
            return
        if not self.channel.reading:
            await checkpoint()
        elif flow.sent - self._slack > flow.taken:
            await self.read(flow, self._slack, ctx._timers)

    async def _show(self, told: Event, ctx: Any) -> None:
        """Commit a lifecycle event, or what plugins make of it."""
        assert self.on_event is not None
        event = await self.on_event(ctx, told)
        if self.strict:
            ctx._check()
        try:
            committing = self.commit(ctx._place, event)
            if committing is not None:
                await committing
        finally:
            told.__dict__["serial"] = event.serial  # who tells asks whether it is stored, though it was replaced

    def defer(self, ctx: Any, place: Place, make: Callable[[], Event]) -> None:
        """Have the terminal event of something cancelled made and committed with whatever is committed next."""
        self.deferred.append((ctx, place, make))

    def be_strict(self) -> None:
        """Ask whoever speaks from now on whether it still may."""
        self.strict, self.direct = True, False

    async def flush(self) -> None:
        """Commit what was deferred, in one batch, and wait for what is on its way."""
        if self.deferred or self._asked != self._answered:
            await self._commit_with_deferred(None)

    async def _take_deferred(self) -> list[_Row]:
        """What was deferred, made and shown to plugins. One that fails changes nothing: an end is stored anyway."""
        deferred, self.deferred = self.deferred, []
        ends = [end if type(end) is tuple else (end, end._place, end.cancelled_end) for end in deferred]
        rows = [_Row(place, make(), None, True) for _, place, make in ends]
        if self.on_event is not None:
            try:
                for row, (ctx, _, _) in zip(rows, ends, strict=True):
                    try:
                        row.event = await self.on_event(ctx, row.event) if ctx is not None else row.event
                    except Exception:
                        logger.exception("a plugin failed on the end of %s, which is stored as it is", row.event.path)
            except BaseException:
                self.deferred = deferred + self.deferred
                raise
        return rows

    async def _commit_with_deferred(self, own: _Row | None) -> None:
        """Commit what was deferred and, after it, an event of one's own."""
        if self._lock is None:
            self._lock = anyio.Lock(fast_acquire=True)
        async with self._lock:  # plugins and stores may suspend; what is told meanwhile must not overtake these ends
            self._taking = True
            turn = self._asked = self._asked + 1  # from now on nobody commits at once
            try:
                ended = [end[0] if type(end) is tuple else end for end in self.deferred]
                try:
                    deferred = await self._take_deferred()
                except BaseException:
                    self._answer(turn, [])
                    raise
                rows = deferred if own is None else [*deferred, own]
                if own is not None and own.speaker is not None and own.speaker.author in ended:
                    rows = [own, *deferred]  # nothing of an agent's follows its end
                try:
                    if rows:
                        await self.sessions.append(self.key, [row.event for row in rows])
                except BaseException:
                    self._answer(turn, [row for row in rows if row.event.serial is not None])
                    again = [row for row in deferred if row.event.serial is None]
                    self.deferred = [(None, row.place, row.again) for row in again] + self.deferred
                    raise
            finally:
                self._taking = False
        await self._answer_in_turn(turn, rows)

    async def _answer_in_turn(self, turn: int, rows: list[_Row]) -> None:
        if turn == self._answered + 1:
            self._answer(turn, rows)
            return
        ticket = self.channel.new_ticket()
        self._early[turn] = (rows, ticket)  # if this task is cancelled now, who comes before it hands its rows over
        await ticket

    def _answer(self, turn: int, rows: list[_Row]) -> None:
        self._early[turn] = (rows, None)
        self._answer_early()

    def _answer_early(self) -> None:
        while self._answered + 1 in self._early:
            self._answered += 1
            rows, ticket = self._early.pop(self._answered)
            for row in rows:
                if row.writes is not None:
                    self._arrive(row.place, row.writes)
                if row.event.actions is not None:
                    self._publish(row.place, row.event.actions, row.writes)
                if self._note is not None:
                    self._note(row.event)
                if row.speaker is not None:
                    row.speaker.landed(row.event)
                if row.push:
                    self._push(row.event, row.place.flow)
            if ticket is not None and not ticket.done():
                ticket.set_result(None)

    def _claim(self, place: Place, event: Event, said: Actions) -> _Writes | None:
        """Find conflicts, and leave in the event's actions what is stored of them; of `said`, nothing changes."""
        delta, removed, groups = said.state_delta, said.state_removed, place.groups
        if not delta and not removed and not said.contributions:
            return None
        brought: dict[str, Any] = {}
        temp: dict[str, Any] = {}
        keys = [*delta, *removed]
        if groups and groups[0][0].reducers:
            reducers = groups[0][0].reducers
            brought = {key: value for key, value in {**said.contributions, **delta}.items() if key in reducers}
            keys = [key for key in delta if key not in brought] + removed
        for key in keys:
            if groups:
                self._check_key(place, event, key)
            if key.startswith(TEMP):
                temp[key] = REMOVED if key in removed else delta[key]
        if brought or temp:
            event.__dict__["actions"] = Actions(
                {key: value for key, value in delta.items() if key not in brought and key not in temp},
                [key for key in removed if key not in temp],
                {key: value for key, value in {**said.contributions, **brought}.items() if not key.startswith(TEMP)},
                said.artifact_delta,
                said.escalate,
                said.transfer_to_agent,
                said.skip_summarization,
                extra=said.extra,
            )
        return _Writes(said, keys, brought, temp)

    def _check_key(self, place: Place, event: Event, key: str) -> None:
        for group, index in place.groups:
            other = group.conflict(key, index)
            if other is not None and group.policy == "error":
                raise StateConflict(
                    f"branches {other!r} and {place.branch!r} of {group.name!r} both wrote state key {key!r}: "
                    "give it a reducer (on_conflict={key: function}) or let each branch write a key of its own",
                    key=key,
                    branches=(other, place.branch),
                    agent=event.path,
                    branch=place.branch,
                    invocation_id=self.id,
                )
            if other is not None:
                logger.warning(
                    "branches %r and %r of %r both wrote state key %r; the later one wins", other, place.branch,
                    group.name, key,
                )  # fmt: skip

    def _publish(self, place: Place, actions: Actions, writes: _Writes | None) -> None:
        state = self.state
        state.update(actions.state_delta)
        for key in actions.state_removed:
            state.pop(key, None)
        if writes is None:
            return
        for key, value in writes.temp.items():
            if value is REMOVED:
                state.pop(key, None)
            else:
                state[key] = value
        for group, index in place.groups:
            for key in writes.keys:
                group.writers[key] = (index, place.branch)
        for key, value in writes.brought.items():
            group, index = place.groups[0]
            group.contribute(index, key, value, place.tries)

    def out_of(self, limit: str, place: Place, path: str) -> LimitExceeded:
        """The error for a budget that ran out."""
        most = getattr(self.limits, limit)
        shown = f"{most:,}" if isinstance(most, int) else f"{most:g}"
        return LimitExceeded(
            f"the run may use {shown} {limit} and has used them up (Limits({limit}={shown.replace(',', '_')})); spent: "
            + (", ".join(f"{name} {value:,.6g}" for name, value in self.spent.as_dict().items() if value) or "nothing")
            + (f"; model calls under way: {len(self.asking)}" if self.asking else ""),
            limit=limit,
            spent=self.spent.as_dict(),
            agent=path,
            branch=place.branch,
            invocation_id=self.id,
        )

    async def history(self, place: Place) -> list[Event]:
        """What an agent at `place` sees now."""
        if self.visibility == "prefix":
            session = await self.sessions.get(self.key)
            return visible_by_prefix(session.events if session else (), place.branch)
        return (self._history or await self._load_history()).visible(self.id, place.branch)

    async def view(self, place: Place, key: str, make: Callable[[], V]) -> V:
        """A view on what an agent at `place` sees now: kept for the session, and fed only what is new."""
        if self.visibility == "prefix":
            view = make()
            view.add(await self.history(place))
            return view
        return (self._history or await self._load_history()).view(self.id, place.branch, key, make)

    async def _load_history(self) -> History:
        """Read the log once; what is committed meanwhile is kept aside and added, in order.

        What was read may be on its way here still, from a store that wrote it and has not answered yet.
        """
        if self._note is None:
            self._note = self._meanwhile.append
        index = self._histories.take(self.key)
        session = await self.sessions.get(self.key, after=index.serial - 1 if index is not None else None)
        events = session.events if session is not None else []
        if index is not None and events and events[0].id == index.last:
            for event in events[1:]:
                index.add(event)
        elif index is not None:  # the log is not what it was
            session = await self.sessions.get(self.key)
            index = History(session.events if session is not None else ())
        else:
            index = History(events)
        if self._history is not None:
            return self._history  # another task of this run was faster
        for event in self._meanwhile:
            index.add(event)
        self._history, self._note = index, index.add
        self._histories.keep(self.key, index)
        return index


def summary(text: str, limit: int = 120) -> str:
    """The first words of `text`, on one line."""
    line = " ".join(text[: limit * 2].split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"
