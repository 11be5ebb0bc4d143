"""The one place where pushed events become an async iterator.

Producers push into a `Channel` and wait until the reader has asked for more; the reader pulls. A deque and one wake-up
each way cost a quarter of a memory object stream. Nothing here knows what a run is.
"""

import weakref
from collections import deque
from collections.abc import Callable, Generator
from functools import partial
from time import monotonic
from typing import Any, NamedTuple, Protocol

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from agentflow.errors import ConfigError
from agentflow.events import Event


class Ticket(Protocol):
    """Something that one task awaits and another settles, once."""

    def done(self) -> bool:
        """Settled, or given up by who awaited it."""

    def set_result(self, result: None, /) -> None:
        """Let the waiting task go on."""

    def __await__(self) -> Generator[Any, Any, None]: ...


class Loop(NamedTuple):
    """The running event loop's own tools. anyio has them too, at several times the cost, and each run or event pays.

    Attributes:
        new_ticket: Makes tickets: asyncio's futures, or the same on trio's `wait_task_rescheduled`.
        now: Its monotonic clock, in seconds; it is what deadlines are measured by.
        call: Calls a function in it, from anywhere.
        current_task: The running task.
        on_end: Calls a function when a task has ended; gives another that takes that back.
        cancelled: What a cancellation raises.
    """

    new_ticket: Callable[[], Ticket]
    now: Callable[[], float]
    call: Callable[[Callable[[], None]], object]
    current_task: Callable[[], Any]
    on_end: Callable[[Any, Callable[[], None]], Callable[[], object]]
    cancelled: type[BaseException]


def running_loop() -> Loop:
    """The tools of the running event loop, asyncio's or trio's."""
    if not anyio.get_cancelled_exc_class().__module__.startswith("trio"):
        import asyncio  # here and below: what runs is loaded already, the other one need not be

        loop = asyncio.get_running_loop()
        new_ticket = partial(asyncio.Future, loop=loop)

        def on_end(task: Any, call: Callable[[], None]) -> Callable[[], object]:
            def ended(task: object) -> None:
                call()

            task.add_done_callback(ended)
            return partial(task.remove_done_callback, ended)

        stock = getattr(loop.time, "__func__", None) is asyncio.BaseEventLoop.time
        now = monotonic if stock else loop.time  # the same, without a step of Python's own
        return Loop(new_ticket, now, loop.call_soon_threadsafe, asyncio.current_task, on_end, asyncio.CancelledError)
    from trio import Cancelled, current_time, lowlevel

    class TrioTicket:
        __slots__ = ("_settled", "_task")

        def __init__(self) -> None:
            self._settled = False
            self._task: lowlevel.Task | None = None

        def done(self) -> bool:
            return self._settled

        def set_result(self, result: None, /) -> None:
            self._settled = True
            if self._task is not None:
                lowlevel.reschedule(self._task)

        def _give_up(self, raise_cancel: object, /) -> lowlevel.Abort:
            self._settled = True
            return lowlevel.Abort.SUCCEEDED

        def __await__(self) -> Generator[Any, Any, None]:
            if not self._settled:
                self._task = lowlevel.current_task()
                yield from lowlevel.wait_task_rescheduled(self._give_up).__await__()  # noqa: ASYNC105 - awaited here

    def on_trio_end(task: Any, call: Callable[[], None]) -> Callable[[], object]:
        kept = [weakref.ref(task, lambda _: call())]  # trio itself tells nobody, but lets go of a task that has ended
        return kept.clear

    token = lowlevel.current_trio_token()
    return Loop(TrioTicket, current_time, token.run_sync_soon, lowlevel.current_task, on_trio_end, Cancelled)


def new_scope(tasks: TaskGroup) -> anyio.CancelScope:
    """A cancel scope like that of a task group: `anyio.CancelScope` looks the backend up, and makes it twice."""
    return type(tasks.cancel_scope)()


class Signal:
    """Given once; any number of tasks may wait for it."""

    __slots__ = ("_given", "_new_ticket", "_waiting")

    def __init__(self, new_ticket: Callable[[], Ticket]) -> None:
        self._given = False
        self._new_ticket = new_ticket
        self._waiting: list[Ticket] = []

    def is_set(self) -> bool:
        """Whether it was given."""
        return self._given

    def set(self) -> None:
        """Give it."""
        self._given = True
        for ticket in self._waiting:
            if not ticket.done():
                ticket.set_result(None)
        self._waiting.clear()

    async def wait(self) -> None:
        """Until it is given."""
        if self._given:
            await checkpoint()
            return
        ticket = self._new_ticket()
        self._waiting.append(ticket)
        await ticket


class Flow:
    """The events of one branch on their way to the reader: how many were sent, how many it has done with."""

    __slots__ = ("_due", "_more", "_ticket", "sent", "taken")

    def __init__(self) -> None:
        self.sent = 0
        self.taken = 0
        self._due = 0
        self._ticket: Ticket | None = None
        self._more: list[tuple[int, Ticket]] | None = None  # several tasks emit in one branch: rare

    def wait_for(self, due: int, ticket: Ticket) -> None:
        """Settle `ticket` once the reader has done with `due` events of this branch."""
        if self._ticket is None or self._ticket.done():
            self._due, self._ticket = due, ticket
        elif self._more is None:
            self._more = [(due, ticket)]
        else:
            self._more.append((due, ticket))

    def done_with(self) -> None:
        """The reader has done with one more event."""
        self.taken += 1
        if self._ticket is not None:
            self._settle()

    def let_go(self) -> None:
        """Settle all tickets, whatever the reader has done with."""
        taken, self.taken = self.taken, self.sent
        self._settle()
        self.taken = taken

    def _settle(self) -> None:
        ticket = self._ticket
        if ticket is not None and self._due <= self.taken:
            self._ticket = None
            if not ticket.done():
                ticket.set_result(None)
        if self._more is not None:
            waiting, self._more = self._more, None
            for due, ticket in waiting:
                if due <= self.taken:
                    if not ticket.done():
                        ticket.set_result(None)
                elif not ticket.done():
                    self.wait_for(due, ticket)


class Channel:
    """Many producers, one reader, in order, without a copy.

    `send` is lock-step: it returns once the reader has asked for the event after this one. While nobody reads
    (`reading` is False) events are dropped and nobody waits, but each `send` still lets other tasks run.
    """

    __slots__ = ("_held", "_reader", "closed", "new_ticket", "queue", "reading")

    def __init__(self, new_ticket: Callable[[], Ticket]) -> None:
        self.new_ticket = new_ticket
        self.queue: deque[Any] = deque()  # event, its flow, event, its flow, ...: no tuple for the collector to walk
        self.reading = True
        self.closed = False
        self._held: Flow | None = None
        self._reader: Ticket | None = None

    def push(self, event: Event, flow: Flow) -> None:
        """Hand `event` over without waiting; if nobody reads, drop it."""
        if not self.reading:
            return
        flow.sent += 1
        queue = self.queue
        queue.append(event)
        queue.append(flow)
        reader = self._reader
        if reader is not None and not reader.done():
            reader.set_result(None)

    async def send(self, event: Event, flow: Flow, ahead: int = 0) -> None:
        """Hand `event` over; return when at most `ahead` events of this branch have not been done with."""
        if not self.reading:
            await checkpoint()
            return
        self.push(event, flow)
        if flow.sent - ahead > flow.taken:
            await self.taken(flow, ahead)

    def taken(self, flow: Flow, ahead: int) -> Ticket:
        """To be awaited: the reader has done with all events of this branch, so far, but the last `ahead`."""
        ticket = self.new_ticket()
        flow.wait_for(flow.sent - ahead, ticket)
        return ticket

    def take(self) -> Event | None:
        """Have done with the last event, and take the next if it is there."""
        held, queue = self._held, self.queue
        if held is not None:
            held.taken += 1
            if held._ticket is not None:
                held._settle()
        if queue:
            event: Event = queue.popleft()
            self._held = queue.popleft()
            return event
        self._held = None
        return None

    async def receive(self) -> Event | None:
        """Wait, `take` having given nothing: the next event, or `None` when the channel is closed and empty.

        Raises:
            ConfigError: Another task is waiting here.
        """
        event = None
        while event is None and not self.closed and self.reading:
            if self._reader is not None:
                raise ConfigError("this stream is being read by another task already: one reader at a time")
            self._reader = self.new_ticket()
            try:
                await self._reader
            finally:
                self._reader = None
            event = self.take()
        return event

    def stop_reading(self) -> None:
        """Nobody will read: let everyone who waits go on, and drop what is queued."""
        self.reading = False
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
        if self._held is not None:
            self._held.done_with()
            self._held = None
        while self.queue:
            self.queue.popleft()
            self.queue.popleft().done_with()

    def let_go(self) -> None:
        """The run is cancelled: whoever still waits for the reader, shielded from that, goes on."""
        if self._held is not None:
            self._held.let_go()
        for item in self.queue:
            if type(item) is Flow:
                item.let_go()

    def start_reading(self) -> None:
        """Someone reads (again)."""
        self.reading = True

    def close(self) -> None:
        """No event will follow."""
        self.closed = True
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


class Watched:
    """A child's events on their way: iterate it; pass each on with `ctx.emit`, changed or not, or drop it.

    Attributes:
        outcome: How the child's turn ended (an `Outcome`); `None` until the iteration has ended.
    """

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.flow = Flow()
        self.outcome: Any = None
        self.error: BaseException | None = None

    def __aiter__(self) -> "Watched":
        return self

    async def __anext__(self) -> Event:
        event = self.channel.take() or await self.channel.receive()
        if event is None:
            self.raise_error()
            raise StopAsyncIteration
        return event

    def raise_error(self) -> None:
        """Raise what the child raised, once."""
        error, self.error = self.error, None
        if error is not None:
            raise error
