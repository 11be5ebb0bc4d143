"""The one thread of a store that writes. What waits for it at the same moment is one transaction."""

import logging
import os
import threading
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from operator import attrgetter
from queue import Empty, SimpleQueue
from typing import Any

import anyio
from anyio import CancelScope, get_cancelled_exc_class

from agentflow._streams import Ticket, caller, ticket_maker
from agentflow.errors import AgentflowError, CommitUnknown, ServiceError
from agentflow.services.sql.query import Driver

logger = logging.getLogger(__name__)

_MOST = 4096
"""How many jobs share a transaction."""


class Job:
    """Something to be done in a transaction. What it raises is raised where it is awaited.

    An exception of ours concerns this job alone and must come before its first write; anything else undoes the whole
    transaction. A job may be run again, after that: it changes nothing but the database until `committed` is called.

    Attributes:
        together: Runs several jobs at once, those that follow one another and have the same function here.
        done: It is committed, or has failed.
    """

    __slots__ = ("_call", "_ticket", "done", "error", "result", "together")

    def __init__(self, together: Callable[[Any, Sequence[Any]], None] | None = None) -> None:
        self.together = together
        self.done = False
        self.result: Any = None
        self.error: Exception | None = None
        self._ticket: Ticket | None = None
        self._call: Callable[[Callable[[], None]], object] | None = None

    def run(self, connection: Any) -> Any:
        """Do it; in the writer's thread."""
        raise NotImplementedError

    def committed(self) -> None:
        """It is in the database; in the writer's thread."""


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
        timeout: Seconds that a task waits for its commit.
        name: For the thread.
    """

    def __init__(self, driver: Driver, caches: Sequence[Callable[[], None]], *, timeout: float, name: str) -> None:
        self._timeout = timeout
        self._name = name
        self._pid = os.getpid()
        self.queue: SimpleQueue[Job | None] = SimpleQueue()
        self._loop = _Loop(driver, self.queue, caches)
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._closed = False

    async def do(self, job: Job) -> Any:
        """Have a job done, and return its result once it is committed. Cancellation waits for that too.

        Raises:
            CommitUnknown: It wasn't in time.
            ServiceError: It failed; nothing was written.
        """
        new_ticket = ticket_maker()
        job._call = caller()
        ticket = job._ticket = new_ticket()
        cancelled: BaseException | None = None
        self._put(job)
        with CancelScope(shield=True, deadline=anyio.current_time() + self._timeout) as scope:
            while not job.done:
                try:
                    await ticket
                except get_cancelled_exc_class() as error:  # the time is up, or asyncio's own Task.cancel()
                    if scope.cancel_called or job.done:
                        raise
                    cancelled = error
                    ticket = job._ticket = new_ticket()
        if cancelled is not None:
            raise cancelled
        if not job.done:
            raise CommitUnknown(
                f"the store didn't answer within {self._timeout:g} s: it may yet write this, or it may not"
            )
        if job.error is not None:
            raise job.error
        return job.result

    async def aclose(self) -> None:
        """Do what was asked for, then end the thread. Nothing more can be asked for."""
        if not self._closed:
            await self.do(_Stop())

    def _put(self, job: Job) -> None:
        with self._lock:
            if self._closed:
                raise ServiceError("this store is closed")
            if self._pid != os.getpid():
                raise ServiceError("this store was opened before a fork: open one of its own in each process")
            if self._thread is None and not isinstance(job, _Stop):
                thread = threading.Thread(target=self._loop.run, name=self._name, daemon=True)
                thread.start()
                self._thread = thread
            self._closed = isinstance(job, _Stop)
            if self._thread is not None:
                self.queue.put(job)
            else:
                job.done = True


class _Stop(Job):
    __slots__ = ()

    def run(self, connection: Any) -> None:
        return None


class _Loop:
    """What the thread does. It knows the queue, not the `Writer`: who drops a store ends its thread."""

    def __init__(self, driver: Driver, queue: "SimpleQueue[Job | None]", caches: Sequence[Callable[[], None]]) -> None:
        self.driver = driver
        self.queue = queue
        self.caches = caches
        self.connection: Any = None

    def run(self) -> None:
        stop = False
        while not stop:
            jobs = [self.queue.get()]
            try:
                while len(jobs) < _MOST:
                    jobs.append(self.queue.get_nowait())
            except Empty:
                pass
            batch = [job for job in jobs if job is not None]
            stop = len(batch) < len(jobs) or any(isinstance(job, _Stop) for job in batch)
            if batch:
                self.commit(batch)
            if stop:
                self.disconnect()
            _answer(batch)
        self.forget()

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
        for job in jobs:
            job.done = True

    def transact(self, jobs: Sequence[Job]) -> None:
        if self.connection is None:
            self.connection = self.driver.connect(writes=True)
        connection = self.connection
        if self.driver.begin(connection, writes=True):
            self.forget()
        for together, group in groupby(jobs, key=attrgetter("together")):
            if together is not None:
                together(connection, list(group))
                continue
            for job in group:
                job.error = None
                try:
                    job.result = job.run(connection)
                except AgentflowError as error:
                    job.error = error
        connection.commit()
        for job in jobs:
            if job.error is None:
                job.committed()

    def forget(self) -> None:
        for cache in self.caches:
            cache()

    def undo(self) -> None:
        """Nothing of the transaction stays. A connection that can't even do that is given up."""
        self.forget()
        if self.connection is not None:
            try:
                self.connection.rollback()
            except Exception:
                logger.warning("a transaction could not be rolled back; the connection is given up", exc_info=True)
                self.disconnect()

    def disconnect(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            try:
                connection.close()
            except Exception:
                logger.warning("the connection could not be closed", exc_info=True)


def _answer(jobs: Sequence[Job]) -> None:
    """Wake the tasks that wait, all of one event loop at once."""
    loops: dict[Callable[[Callable[[], None]], object], list[Job]] = {}
    for job in jobs:
        if job._call is not None:
            loops.setdefault(job._call, []).append(job)
    for call, done in loops.items():
        try:
            call(partial(_wake, done))
        except RuntimeError:
            logger.debug("an event loop ended before what it had stored was acknowledged")


def _wake(jobs: Sequence[Job]) -> None:
    for job in jobs:
        ticket = job._ticket
        if ticket is not None and not ticket.done():
            ticket.set_result(None)
