"""The one thread of a store that writes. What waits for it at the same moment is one transaction."""

import logging
import os
import sys
import threading
from asyncio import _get_running_loop, current_task
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from itertools import groupby
from operator import attrgetter
from queue import SimpleQueue
from time import monotonic
from typing import Any

import anyio

from agentflow._streams import Loop, Ticket, running_loop
from agentflow.errors import AgentflowError, CommitUnknown, ServiceError
from agentflow.services.sql.query import Driver

logger = logging.getLogger(__name__)

_MOST = 4096
"""How many jobs share a transaction."""


class Job:
    """Something to be done in a transaction. What it raises is raised where it is awaited.

    An exception of ours concerns this job alone and must come before its first write; anything else undoes the whole
    transaction. A job may be run again, after that: it changes nothing but the database.

    Attributes:
        together: Runs several jobs at once, those that follow one another and have the same function here, and gives
            what is to be called when they are committed.
        done: It is committed, or has failed, or was given up on.
    """

    together: Callable[[Any, Sequence[Any]], Callable[[], None]] | None = None
    done = False
    result: Any = None
    error: Exception | None = None
    given_up: ServiceError | None = None
    loop: Loop
    ticket: Ticket

    def run(self, connection: Any) -> Any:
        """Do it; in the writer's thread. Nothing, for one that is done `together` with others."""
        return None

    def outcome(self) -> Any:
        """Its result, once it is done.

        Raises:
            Exception: What it raised.
        """
        error = self.given_up or self.error
        if error is not None:
            raise error
        return self.result


class Call(Job):
    """A job that is one function of the connection."""

    def __init__(self, work: Callable[[Any], Any]) -> None:
        self._work = work

    def run(self, connection: Any) -> Any:
        return self._work(connection)


class Writer:
    """A thread that owns the connection which writes. It outlives every task that waits for it.

    Args:
        driver: How to connect.
        caches: Called in the thread when what was known of the database's content may no longer be so.
        timeout: Seconds after which a write that wasn't answered is given up on.
        name: For the thread.
    """

    def __init__(self, driver: Driver, caches: Sequence[Callable[[], None]], *, timeout: float, name: str) -> None:
        self._loop = _Loop(driver, caches, timeout)
        self._here = _Here()
        self._name = name
        self._pid = os.getpid()
        self._open = False
        self._closed = False

    async def do(self, job: Job) -> Any:
        """Have a job done, and return its result once it is committed. Cancellation waits for that too.

        Raises:
            CommitUnknown: Storage didn't answer in time.
            ServiceError: It failed; nothing was written.
        """
        self._address(job)
        loop = self._loop
        with loop.lock:
            if not self._open or self._pid != os.getpid():
                self._start()
            loop.put(job)
        try:
            await job.ticket
        except job.loop.cancelled:  # noqa: ASYNC103 - a scope's cancellation comes again at the next checkpoint
            if not await _outlast(job):  # noqa: ASYNC120 - shielded
                raise
        return job.outcome()

    async def aclose(self) -> None:
        """Do what was asked for, then end the thread. Nothing more can be asked for."""
        last = Job()
        self._address(last)
        with self._loop.lock:
            opened, self._open, self._closed = self._open, False, True
            if not opened:
                return
            self._loop.last = last
        self._loop.end()
        with anyio.CancelScope(shield=True):
            await last.ticket
        last.outcome()

    @property
    def end(self) -> Callable[[], None]:
        """What ends the thread when it has done what was asked for, without keeping this writer alive."""
        return self._loop.end

    def _address(self, job: Job) -> None:
        """Say whom to tell when it is done."""
        mark, loop = self._here.known
        if mark is not (running := _mark()):
            loop = running_loop()
            self._here.known = (running, loop)
        job.loop = loop
        job.ticket = loop.new_ticket()

    def _start(self) -> None:
        if self._closed:
            raise ServiceError("this store is closed")
        if self._pid != os.getpid():
            raise ServiceError("this store was opened before a fork: open one of its own in each process")
        for work, name in ((self._loop.run, self._name), (self._loop.watch, f"{self._name} watch")):
            threading.Thread(target=work, name=name, daemon=True).start()
        self._open = True


async def _outlast(job: Job) -> bool:
    """Wait for a job though its task is cancelled; gives whether that was by a scope, which will say so again."""
    by_scope = anyio.current_effective_deadline() == float("-inf")
    with anyio.CancelScope(shield=True):
        while not job.done:
            job.ticket = job.loop.new_ticket()
            with suppress(job.loop.cancelled):  # asyncio's own Task.cancel(), again: one is enough
                await job.ticket
    return by_scope  # asyncio's own comes only once


class _Here(threading.local):
    """The event loop that ran in this thread when it was last asked for: its mark, and its tools."""

    known: tuple[object, Any] = (None, None)


def _mark() -> object:
    """What tells the running event loop from all others. anyio's own costs as much as an event's JSON."""
    loop = _get_running_loop()
    if loop is not None and current_task(loop) is not None:  # else trio runs, perhaps as asyncio's guest
        return loop
    trio: Any = sys.modules["trio"]
    return trio.lowlevel.current_trio_token()


class _Loop:
    """What the thread does. It doesn't know the `Writer`: who drops a store ends its thread."""

    def __init__(self, driver: Driver, caches: Sequence[Callable[[], None]], timeout: float) -> None:
        self.driver = driver
        self.caches = caches
        self.timeout = timeout
        self.tick = timeout / 4
        self.connection: Any = None
        self.lock = threading.Lock()
        self.waiting: list[Job] = []
        self.batch: Sequence[Job] = ()
        self.began = 0.0
        self.asleep = False
        self.bell: SimpleQueue[None] = SimpleQueue()
        self.last: Job | None = None
        self.ending = False
        self.ended = threading.Event()

    def put(self, job: Job) -> None:
        """Have it done; called with the lock."""
        self.waiting.append(job)
        if self.asleep:
            self.asleep = False
            self.bell.put(None)

    def end(self) -> None:
        """Do what waits, and no more. Without the lock: the collector may call this anywhere."""
        self.ending = True
        self.bell.put(None)

    def run(self) -> None:
        while jobs := self.take():
            self.commit(jobs)
            with self.lock:
                given_up, self.batch, self.began = self.batch is not jobs, (), 0.0
            if not given_up:
                _answer(jobs)
            jobs = ()  # they know the store, which is to end when it is dropped
        self.ended.set()
        self.disconnect()
        self.forget()
        with self.lock:
            last, self.last = self.last, None
        if last is not None:
            _answer([last])

    def take(self) -> Sequence[Job]:
        """All that waits, and nothing when no more is to follow. Waits for the first."""
        while True:
            with self.lock:
                if self.waiting:
                    self.batch, self.waiting = self.waiting[:_MOST], self.waiting[_MOST:]
                    self.began = monotonic()
                    return self.batch
                if self.ending:
                    return ()
                self.asleep = True
            self.bell.get()

    def watch(self) -> None:
        """In a thread of its own: give up on what the database doesn't answer, so that nobody waits for ever."""
        told = f"the store didn't answer within {self.timeout:g} s"
        while not self.ended.wait(self.tick):
            with self.lock:
                if not self.began or monotonic() - self.began < self.timeout:
                    continue
                stuck, self.batch = self.batch, ()
                late, self.waiting = self.waiting, []
                if self.last is not None:
                    late.append(self.last)
                    self.last = None
            for job in stuck:
                job.given_up = CommitUnknown(f"{told}: it may yet write this, or it may not")
            for job in late:
                job.given_up = ServiceError(f"{told}; this was still waiting, and nothing of it was written")
            _answer([*stuck, *late])

    def commit(self, jobs: Sequence[Job]) -> None:
        """Do `jobs` in one transaction; if that fails because of one of them, each in its own."""
        try:
            self.transact(jobs)
        except Exception as error:
            self.undo()
            if len(jobs) > 1 and self.driver.concerns_one(error):
                for job in jobs:
                    self.commit([job])
                return
            for job in jobs:
                job.error = self.driver.error(error)

    def transact(self, jobs: Sequence[Job]) -> None:
        if self.connection is None:
            self.connection = self.driver.connect(writes=True)
        connection = self.connection
        if self.driver.begin(connection, writes=True):
            self.forget()
        committed = []
        for together, group in groupby(jobs, key=attrgetter("together")):
            if together is not None:
                committed.append(together(connection, list(group)))
            else:
                for job in group:
                    job.error = None
                    try:
                        job.result = job.run(connection)
                    except AgentflowError as error:
                        job.error = error
        connection.commit()
        for tell in committed:
            tell()

    def undo(self) -> None:
        """Nothing of the transaction stays. A connection that can't even do that is given up."""
        self.forget()
        if self.connection is not None:
            try:
                self.connection.rollback()
            except Exception:
                logger.warning("a transaction could not be rolled back; the connection is given up", exc_info=True)
                self.disconnect()

    def forget(self) -> None:
        for cache in self.caches:
            cache()

    def disconnect(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            try:
                connection.close()
            except Exception:
                logger.warning("a connection could not be closed", exc_info=True)


def _answer(jobs: Iterable[Job]) -> None:
    """Wake the tasks that wait, all of one event loop at once."""
    for loop, those in groupby(jobs, key=attrgetter("loop")):
        try:
            loop.call(partial(_wake, list(those)))
        except RuntimeError:
            logger.debug("an event loop ended before what it had stored was acknowledged")


def _wake(jobs: Iterable[Job]) -> None:
    for job in jobs:
        job.done = True
        ticket = job.ticket
        if not ticket.done():
            ticket.set_result(None)
