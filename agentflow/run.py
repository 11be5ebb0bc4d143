"""One run, as its reader has it: a handle to enter, iterate and leave; and the run itself, which may outlive it."""

import logging
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self

import anyio
from anyio import TaskHandle
from opentelemetry.trace import INVALID_SPAN, Span

from agentflow._invocation import Invocation
from agentflow._streams import Channel, Loop, Signal
from agentflow.content import clean_text
from agentflow.core import InvocationContext
from agentflow.errors import ConfigError
from agentflow.events import Event, Usage
from agentflow.outcome import Outcome
from agentflow.questions import Question
from agentflow.services.sessions import SessionKey

logger = logging.getLogger(__name__)

RunStatus = Literal["pending", "running", "ok", "error", "cancelled", "paused"]
OnConsumerGone = Literal["cancel", "detach", "drain"]


@dataclass(slots=True, kw_only=True)
class RunResult:
    """What came of a run.

    Attributes:
        status: `ok`, `error`, `cancelled` or `paused`.
        text: The last words; see `Outcome.text`. Of a run that didn't end well, what it had said.
        output: The last structured value, else the text.
        outcomes: How each branch ended, by its dotted name.
        usage: What models charged for.
        error: What went wrong.
        reason: Why it was cancelled.
        duration: Seconds.
        pending: The questions that it waits for, where it is paused; see `Runner.run(answers=...)`.
    """

    status: RunStatus
    text: str
    output: Any
    outcomes: Mapping[str, Outcome]
    usage: Usage
    error: BaseException | None
    reason: str
    duration: float
    pending: tuple[Question, ...] = ()


class Live:
    """One run as its Runner knows it. It outlives the handle and never refers to it."""

    def __init__(self, invocation: Invocation, loop: Loop, policy: OnConsumerGone, teardown_timeout: float) -> None:
        self.invocation = invocation
        self.loop = loop
        self.policy = policy
        self.teardown_timeout = teardown_timeout
        self.task: TaskHandle[None] | None = None  # whose scope is the run's
        self.done = Signal(loop.new_ticket)
        self.status: RunStatus = "running"
        self.error: BaseException | None = None
        self.error_seen = False
        self.result: RunResult | None = None
        self.span: Span = INVALID_SPAN
        self.root: InvocationContext | None = None
        self.began = invocation.now()
        self.pending: tuple[Question, ...] = ()
        self.timed_out = False
        self.detached = False
        self.attached = True

    def cancel(self, reason: str) -> None:
        if not self.done.is_set():
            if not self.invocation.stopping:
                self.invocation.reason = clean_text(reason) or "cancelled"
            self.invocation.stopping = True
            if self.task is not None:
                self.task.cancel()
            self.invocation.channel.let_go()

    def gone(self) -> None:
        """The handle was dropped without leaving its block."""
        if self.attached and not self.done.is_set():
            self.attached = False
            if self.policy == "cancel":
                self.cancel("its handle was dropped")
            self.detached = True
            self.invocation.channel.stop_reading()

    def unfinished(self) -> list[str]:
        turns = [one for one in self.invocation.active if isinstance(one, InvocationContext)]
        return sorted(turn.path for turn in turns if not turn.ended)


inside: ContextVar[tuple[Live, ...]] = ContextVar("agentflow_runs", default=())
"""The runs that the running code is inside of."""


async def end_runs(lives: Sequence[Live], reason: str) -> None:
    """Cancel runs, wait for them within their grace period, and report by name who refuses to end."""
    for live in lives:
        live.cancel(reason)
    if not lives:
        return
    with anyio.move_on_after(lives[0].teardown_timeout, shield=True):
        for live in lives:
            await live.done.wait()
    for live in lives:
        if not live.done.is_set():
            logger.error(
                "run %s: still at work %g s after it was cancelled: %s. The Runner's exit waits for them",
                live.invocation.id,
                live.teardown_timeout,
                ", ".join(live.unfinished()),
            )


def _nothing() -> None:
    """What there is to take without a channel."""


async def _no_event() -> None:
    """What there is to wait for without a channel."""


class Run:
    """One run: enter it, iterate it, leave it.

    `async with runner.run(...) as run: async for event in run: ...`. Iterating raises what the run raised, after its
    last event. Leaving the block early does what `on_consumer_gone` says: by default the run is cancelled, and the
    block is left when all of it has ended. It may be left, closed and cancelled from any task.

    Attributes:
        id: The run's id, from when the block is entered.
        position: The `serial` of the last event that this handle gave; before the first, where it was attached.
    """

    def __init__(self, start: Callable[[], Awaitable[tuple[Live, deque[Event], int]]], position: int = 0) -> None:
        self._start = start
        self._live: Live | None = None
        self._backlog: deque[Event] = deque()
        self._read_from(None)
        self._entered = False
        self._left = False
        self._reader: weakref.ref[Any] | None = None  # the task that has read last
        self._call: Callable[[Callable[[], None]], object] | None = None
        self._replayed = 0  # what was stored up to here comes from the session, not from the channel
        self.position = position

    async def __aenter__(self) -> Self:
        if self._entered:
            raise ConfigError("a run is entered once: call runner.run(...) again for another")
        self._entered = True
        self._live, self._backlog, self._replayed = await self._start()
        if not self._backlog:
            self._read_from(self._live.invocation.channel)
        self._call = self._live.loop.call
        return self

    def __del__(self) -> None:
        live = self._live
        if live is not None and self._call is not None and not live.done.is_set():
            try:
                self._call(live.gone)
            except RuntimeError:  # the event loop has ended, and the run with it
                logger.debug("run %s was dropped after its event loop", live.invocation.id)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._leave()  # noqa: ASYNC102 - what it waits for is shielded and bounded, but for a drain
        live = self._known()
        if live.error is not None and not live.error_seen and not live.detached:
            live.error_seen = True
            if error is None:
                raise live.error
            logger.error("run %s failed while it was left", live.invocation.id, exc_info=live.error)

    async def aclose(self) -> None:
        """What leaving the block does."""
        if self._live is not None:
            await self._leave()

    async def _leave(self) -> None:
        live = self._known()
        self._call = None
        if self._left or not live.attached:  # attached, perhaps, by another handle since
            return
        self._left = True
        self._read_from(None)
        channel = live.invocation.channel
        if live.done.is_set():
            channel.stop_reading()
        elif live.policy == "detach" and not live.invocation.stopping:
            live.detached = True
            channel.stop_reading()
        elif live.policy == "drain" and not live.invocation.stopping:
            channel.stop_reading()
            try:
                await live.done.wait()
            finally:
                await end_runs([live], "its consumer left")  # noqa: ASYNC102 - shielded and bounded
        else:
            await end_runs([live], "its consumer left")
            channel.stop_reading()
        live.attached = False

    def __aiter__(self) -> Self:
        if self._live is not None:
            self._noted_reader()
        return self

    async def __anext__(self) -> Event:
        while True:
            event = self._take() or await self._receive()
            if event is None:
                return self._other()
            serial = event.__dict__["serial"]
            if serial is None:
                return event
            if serial > self._replayed:
                self.position = serial  # the channel gives what is stored in the order of the log
                return event

    def _receive(self) -> Awaitable[Event | None]:
        """To be awaited: an event that isn't there yet; `None` if this handle reads no channel, or no event follows."""
        if self._reader is None:
            self._noted_reader()
        return self._channel.receive() if self._channel is not None else _no_event()

    def _noted_reader(self) -> None:
        self._reader = weakref.ref(self._known().loop.current_task())

    def _stop_reading(self, noted: "weakref.ref[Any] | None") -> None:
        """Nobody reads here any more, unless another task has begun to since that was `noted`."""
        if not self._left and self._reader is noted:
            self._known().invocation.channel.stop_reading()

    def _read_from(self, channel: Channel | None) -> None:
        self._channel = channel
        self._take = channel.take if channel is not None else _nothing

    def _other(self) -> Event:
        """What there is when the channel gives nothing: stored events first, the run's error or the end last."""
        live = self._known()
        if self._backlog:
            event = self._backlog.popleft()
            self.position = event.serial or self.position
            if not self._backlog and live.attached:
                self._read_from(live.invocation.channel)
            return event
        if live.error is not None and not live.error_seen:
            live.error_seen = True
            raise live.error
        raise StopAsyncIteration

    def _known(self) -> Live:
        if self._live is None:
            raise ConfigError("enter the run first: async with runner.run(...) as run")
        return self._live

    @property
    def id(self) -> str:
        """The run's id (`invocation_id` of its events)."""
        return self._known().invocation.id

    @property
    def session(self) -> SessionKey:
        """The session it belongs to."""
        return self._known().invocation.key

    @property
    def status(self) -> RunStatus:
        """`pending` before the block is entered, then `running`, then how it ended."""
        return self._live.status if self._live is not None else "pending"

    @property
    def usage(self) -> Usage:
        """What models have charged so far."""
        return self._known().invocation.usage

    @property
    def unfinished(self) -> list[str]:
        """Paths of the agents whose turn has not ended."""
        return self._known().unfinished()

    @property
    def result(self) -> RunResult:
        """What came of it.

        Raises:
            ConfigError: It is still going on.
        """
        result = self._known().result
        if result is None:
            raise ConfigError("the run is still going on: read its events to the end, or `await run.wait()`")
        return result

    def cancel(self, reason: str = "cancelled") -> None:
        """Stop the run: every agent is cancelled, the reason is stored, and the stream ends after the last event."""
        self._known().cancel(reason)

    async def wait(self) -> RunResult:
        """Let the run end, and return what came of it. Events that nobody reads are dropped.

        Called while another task reads, it leaves the reading to that one, for as long as that task lives; called when
        the block has been left, to whoever is attached now.

        Raises:
            ConfigError: An agent of the run would wait for itself.
            Exception: What the run raised.
        """
        live = self._known()
        if any(live is one for one in inside.get()) and not live.done.is_set():
            raise ConfigError(f"run {live.invocation.id!r} can't be waited for inside of it: it would wait for itself")
        noted = self._reader
        reader = noted() if noted is not None else None
        if reader is None or reader is live.loop.current_task():
            self._stop_reading(noted)
            await live.done.wait()
        else:
            forget = live.loop.on_end(reader, partial(self._stop_reading, noted))
            del reader  # on trio its end is that nobody has it any more
            try:
                await live.done.wait()
            finally:
                forget()
        if live.error is not None and not live.error_seen:
            live.error_seen = True
            raise live.error
        return self.result
