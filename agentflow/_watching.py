"""Watching a child: its events are seen before they are stored."""

from abc import abstractmethod
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio

from agentflow._reach import Reach
from agentflow._streams import Channel, Watched
from agentflow._taking import take_turn
from agentflow._turn import Turn, outcome_of
from agentflow.content import UserContent
from agentflow.events import Actions, AgentStart, Event
from agentflow.journal import Past
from agentflow.questions import Paused


class Watching(Reach):
    """That part of an `InvocationContext`."""

    __slots__ = ()

    @abstractmethod
    @abstractmethod
    async def flush(self) -> None:
        """Publish pending state writes."""

    @abstractmethod
    def _check_child(self, child: Any) -> None:
        """Whether it can be run."""

    @abstractmethod
    def _prepare(self, child: Any, message: UserContent) -> tuple[Turn, AgentStart]:
        """Make a context for a child's turn, and what tells of its start."""

    @asynccontextmanager
    async def open(self, child: Any, *, message: UserContent = None) -> AsyncGenerator[Watched]:
        """Let `child` take a turn and see its events *before* they are stored.

        What is passed on with `emit`, changed or not, is stored; what isn't, is not. The child goes on when the next
        event is asked for. Leaving the block stops it. Lifecycle events, and questions to people, go their own way and
        can't be held back. When a run goes on after a pause, what had been said is shown again, and not stored twice.

        Args:
            child: Who takes the turn.
            message: What it is told; see `run`.

        Raises:
            Exception: What the child raised, at the next step of the iteration or on leaving the block.
        """
        self._check_child(child)
        await self.flush()
        ctx, start = self._prepare(child, message)
        channel = Channel(self._run.channel.new_ticket)
        watched = ctx._watch = Watched(channel)
        if self._origins is None:
            self._origins = {}

        async def work() -> None:
            try:
                watched.outcome = self.recall(ctx)
                if ctx._past is not None:
                    await self._show_again(ctx._past, watched)
                if watched.outcome is None:
                    await take_turn(ctx, start)
                    watched.outcome = outcome_of(ctx, None)
                watched.error = watched.outcome.error
            except (Exception, Paused) as error:
                watched.error = error
                if isinstance(error, Paused):
                    self.status = "paused"
            channel.close()  # not when cancelled: then so is who reads, and it isn't to take that for the end

        failure: BaseException | None = None
        self._active += 1
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(work, name=f"agentflow {ctx.path}")
                try:
                    yield watched
                except (Exception, Paused) as error:  # raised again below, outside of the group, as itself
                    failure = error
                finally:
                    tasks.cancel_scope.cancel()
                    channel.stop_reading()
        finally:
            self._active -= 1
            self.join_loops()
        if failure is not None:
            raise failure
        watched.raise_error()

    async def _show_again(self, past: Past, watched: Watched) -> None:
        """Hand over what a child had said before the run paused; passing it on changes nothing."""
        assert self._origins is not None
        for event in past.words():
            self._origins[event.id] = None
            await watched.channel.send(event, watched.flow)
            self._origins.pop(event.id, None)

    async def _show(self, event: Event, origin: Turn, said: Actions | None, pending: dict[str, Any] | None) -> None:
        """Hand an event to who watches this turn, and wait until it has been passed on or dropped."""
        watched = self._watch
        assert watched is not None
        ctx: Turn = self
        while ctx._watch is watched:
            assert ctx._parent is not None
            ctx = ctx._parent
        assert isinstance(ctx, Reach)
        assert ctx._origins is not None
        if ctx._past is not None and ctx._past.replay:
            ctx.go_on()  # whatever it had said was said before this
        ctx._origins[event.id] = origin
        timers = self._timers[len(ctx._timers) :]  # who watches, and the reader, are whom this agent waits for
        for timer in timers:
            timer.pause()
        try:
            await watched.channel.send(event, watched.flow)
        except BaseException as error:
            if event.id in ctx._origins:  # else its writes are published with what is being passed on
                self.take_back(event, said, pending, error)
            raise
        finally:
            for timer in timers:
                timer.resume()
            if ctx._origins.pop(event.id, None) is not None:  # it wasn't passed on
                origin.drop(event)
