"""One database: a writer's thread, readers in a few threads, and one place where errors become ours."""

import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar

from agentflow.errors import ServiceError
from agentflow.services.sql.query import Driver
from agentflow.services.sql.writer import Call, Writer

T = TypeVar("T")

_READERS = 4
_ATTEMPTS = 20
"""How often something is read at most, where others write meanwhile and nothing keeps them from it."""

_readers: RunVar[CapacityLimiter] = RunVar("agentflow readers")


class Database:
    """What the services of one store share.

    Attributes:
        driver: As it was given.
        do: Has a job done by the writer; see `Writer.do`.

    Args:
        driver: What this kind of database does in its own way.
        timeout: Seconds that a write may take before it is given up on.
        name: For the writer's thread.
    """

    def __init__(self, driver: Driver, *, timeout: float, name: str) -> None:
        self.driver = driver
        self._caches: list[Callable[[], None]] = []
        self._writer = Writer(driver, self._caches, timeout=timeout, name=name)
        self.do = self._writer.do
        self._pool = _Pool(driver)
        weakref.finalize(self, _let_go, self._writer.end, self._pool)

    def on_change(self, forget: Callable[[], None]) -> None:
        """Have `forget` called, in the writer's thread, when others may have written."""
        self._caches.append(forget)

    async def write(self, work: Callable[[Any], T]) -> T:
        """Have `work` done in a transaction with whatever else is to be written; see `Job` for what it may raise."""
        result: T = await self._writer.do(Call(work))
        return result

    async def read(self, work: Callable[[Any], T]) -> T:
        """Do `work` in a transaction that sees one state of the database, in a thread for readers.

        Raises:
            ServiceError: It failed.
        """
        limiter = _readers.get(None)
        if limiter is None:
            limiter = CapacityLimiter(_READERS)
            _readers.set(limiter)
        return await to_thread.run_sync(self._pool.read, work, limiter=limiter)

    async def aclose(self) -> None:
        """Finish what was asked for and close all connections. Closing twice is no error."""
        await self._writer.aclose()
        self._pool.close()


class _Pool:
    """Connections for reading. The threads that use them may outlive a cancelled task, but not their own work."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._idle: deque[Any] = deque()
        self._lock = threading.Lock()
        self._closed = False

    def read(self, work: Callable[[Any], T]) -> T:
        for _ in range(_ATTEMPTS):
            result, known = self._attempt(work)
            if known:
                return result
        raise ServiceError("others kept writing while it was read: try again")

    def _attempt(self, work: Callable[[Any], T]) -> tuple[T | Any, bool]:
        """What `work` gives, and whether that is one state of the database."""
        connection: Any = None
        try:
            with self._lock:
                if self._closed:
                    raise ServiceError("this store is closed")
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                connection = self._driver.connect(writes=False)
            self._driver.begin(connection, writes=False)
            result = work(connection)
            connection.rollback()
            known = self._driver.still(connection)
        except Exception as error:
            if connection is not None:
                known = self._driver.still(connection)
                connection.close()
                if not known:
                    return None, False
            raise self._driver.error(error)  # noqa: B904 - it says where it comes from
        with self._lock:
            if known and not self._closed:
                self._idle.append(connection)
                return result, True
        connection.close()
        return result, known

    def close(self) -> None:
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, deque()
        for connection in idle:
            connection.close()


def _let_go(end: Callable[[], None], pool: _Pool) -> None:
    """The store was dropped without being closed."""
    end()
    pool.close()
