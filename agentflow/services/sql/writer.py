"""The one thread of a store that writes. What waits for it at the same moment is one transaction."""

import logging
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from itertools import groupby
from operator import attrgetter
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any

import anyio
from anyio.lowlevel import RunVar

from agentflow._streams import Loop, Ticket, running_loop
from agentflow.errors import AgentflowError, CommitUnknown, ServiceError
from agentflow.services.sql.query import Driver

logger = logging.getLogger(__name__)

_MOST = 4096
"""How many jobs share a transaction."""

_running: RunVar[Loop] = RunVar("agentflow loop")


class Job:
    """Something to be done in a transaction. What it raises is raised where it is awaited.

    An exception of ours concerns this job alone and must come before its first write; anything else undoes the whole
    transaction. A job may be run again, after that: it changes nothing but the database.

    Attributes:
        together: Runs several jobs at once, those that follow one another and have the same function here, and gives
            what is to be called when they are committed.
        done: It is committed, or has failed, or was given up on.
    """

    __slots__ = ("done", "error", "given_up", "loop", "result", "ticket", "together")

    loop: Loop
    ticket: Ticket

    def __init__(self, together: Callable[[Any, Sequence[Any]], Callable[[], None]] | None = None) -> None:
        self.together = together
        self.done = False
        self.result: Any = None
        self.error: Exception | None = None
        self.given_up: ServiceError | None = None

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

    __slots__ = ("_work",)

    def __init__(self, work: Callable[[Any], Any]) -> None:
        super().__init__()
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
        self._name = name
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._started = False
        self._closed = False

    async def do(self, job: Job) -> Any:
        """Have a job done, and return its result once it is committed. Cancellation waits for that too.

        Raises:
            CommitUnknown: Storage didn't answer in time.
            ServiceError: It failed; nothing was written.
        """
        _address(job)
        with self._lock:
            if not self._started or self._closed or self._pid != os.getpid():
                self._start()
            self._loop.queue.put(job)
        try:
            await job.ticket
        except job.loop.cancelled:  # noqa: ASYNC103 - a scope's cancellation comes again at the next checkpoint
            if not await _outlast(job):  # noqa: ASYNC120 - shielded
                raise
        return job.outcome()

    async def aclose(self) -> None:
        """Do what was asked for, then end the thread. Nothing more can be asked for."""
        last = _Last()
        _address(last)
        with self._lock:
            closed, self._closed = self._closed or not self._started, True
            if closed:
                return
            self._loop.queue.put(last)
        with anyio.CancelScope(shield=True):
            await last.ticket
        last.outcome()

    @property
    def end(self) -> Callable[[], None]:
        """What ends the thread when it has done what was asked for, without keeping this writer alive."""
        return self._loop.end

    def _start(self) -> None:
        if self._closed:
            raise ServiceError("this store is closed")
        if self._pid != os.getpid():
            raise ServiceError("this store was opened before a fork: open one of its own in each process")
        for work, name in ((self._loop.run, self._name), (self._loop.watch, f"{self._name} watch")):
            threading.Thread(target=work, name=name, daemon=True).start()
        self._started = True


async def _outlast(job: Job) -> bool:
    """Wait for a job though its task is cancelled; gives whether that was by a scope, which will say so again."""
    by_scope = anyio.current_effective_deadline() == float("-inf")
    with anyio.CancelScope(shield=True):
        while not job.done:
            job.ticket = job.loop.new_ticket()
            with suppress(job.loop.cancelled):  # asyncio's own Task.cancel(), again: one is enough
                await job.ticket
    return by_scope  # asyncio's own comes only once


def _address(job: Job) -> None:
    """Say whom to tell when it is done."""
    loop = _running.get(None)
    if loop is None:
        loop = running_loop()
        _running.set(loop)
    job.loop = loop
    job.ticket = loop.new_ticket()


class _Last(Job):
    """Nothing follows it."""

    __slots__ = ()


class _Loop:
    """What the thread does. It doesn't know the `Writer`: who drops a store ends its thread."""

    def __init__(self, driver: Driver, caches: Sequence[Callable[[], None]], timeout: float) -> None:
        self.driver = driver
        self.caches = caches
        self.timeout = timeout
        self.tick = timeout / 4
        self.queue: SimpleQueue[Job | None] = SimpleQueue()
        self.connection: Any = None
        self.lock = threading.Lock()
        self.batch: Sequence[Job] = ()
        self.began = 0.0
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.is_set():
            jobs, last = self.take()
            with self.lock:
                self.batch, self.began = jobs, monotonic()
            work = [job for job in jobs if type(job) is not _Last]
            if work:
                self.commit(work)
            if last:
                self.ended.set()
                self.disconnect()
                self.forget()
            with self.lock:
                given_up, self.batch, self.began = self.batch is not jobs, (), 0.0
            if not given_up:
                _answer(jobs)
            jobs = work = []  # they know the store, which is to end when it is dropped

    def take(self) -> tuple[list[Job], bool]:
        """All that waits, and whether nothing is to follow. Waits for the first."""
        jobs = []
        job = self.queue.get()
        while job is not None:
            jobs.append(job)
            if type(job) is _Last or len(jobs) == _MOST:
                return jobs, type(job) is _Last
            try:
                job = self.queue.get_nowait()
            except Empty:
                return jobs, False
        return jobs, True

    def end(self) -> None:
        self.queue.put(None)

    def watch(self) -> None:
        """In a thread of its own: give up on what the database doesn't answer, so that nobody waits for ever."""
        told = f"the store didn't answer within {self.timeout:g} s"
        while not self.ended.wait(self.tick):
            waiting: list[Job | None] = []
            with self.lock:
                if not self.began or monotonic() - self.began < self.timeout:
                    continue
                stuck, self.batch = self.batch, ()
                with suppress(Empty):
                    while True:
                        waiting.append(self.queue.get_nowait())
            for job in stuck:
                job.given_up = CommitUnknown(f"{told}: it may yet write this, or it may not")
            late = [job for job in waiting if job is not None]
            for job in late:
                job.given_up = ServiceError(f"{told}; this was still waiting, and nothing of it was written")
            if len(late) < len(waiting) or any(type(job) is _Last for job in late):
                self.end()
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
    loops: dict[Callable[[Callable[[], None]], object], list[Job]] = {}
    for job in jobs:
        job.done = True
        loops.setdefault(job.loop.call, []).append(job)
    for call, done in loops.items():
        try:
            call(partial(_wake, done))
        except RuntimeError:
            logger.debug("an event loop ended before what it had stored was acknowledged")


def _wake(jobs: Iterable[Job]) -> None:
    for job in jobs:
        ticket = job.ticket
        if not ticket.done():
            ticket.set_result(None)
