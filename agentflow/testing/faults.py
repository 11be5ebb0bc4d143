"""Faults at a chosen place: at the k-th step of a run, at the n-th call of a store."""

from collections.abc import AsyncIterable, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from inspect import isawaitable
from typing import Any, Literal, TypeVar

from anyio.lowlevel import checkpoint

from agentflow._invocation import Scheduler
from agentflow.errors import ConfigError, ServiceError
from agentflow.events import Event
from agentflow.services.sessions import Session, SessionInfo, SessionKey, SessionService

Fault = BaseException | Callable[[], Awaitable[object] | object]
"""Raised in the agent, if it is an exception; else called (and awaited) there, for instance to cancel the run."""

T = TypeVar("T")
StoreCall = Literal["create", "get", "list", "delete", "append", "rename", "rewind", "restore"]


class FaultScheduler:
    """Does something bad at the k-th point of a run: an agent starts, is about to emit, or goes on after an emit.

    To try every place, count up until the run ends by itself:

        for k in itertools.count(1):
            fault = FaultScheduler(k, OSError("disk full"))
            async with Runner(tree, scheduler=fault) as runner:
                ...
            if fault.hit is None:
                break

    Args:
        k: Which point, from 1, over all agents.
        fault: An exception to raise in the agent, or what to call there: `lambda: run.cancel("stop")`, or an async
            function. What that raises is raised in the agent.
        order: Who decides the order besides, for instance a `SeededScheduler`.

    Attributes:
        count: Points so far.
        hit: Path and kind (`start`, `emit`, `go on`) of the point where the fault was; `None` if it wasn't reached.
    """

    def __init__(self, k: int, fault: Fault, *, order: Scheduler | None = None) -> None:
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise ConfigError(f"FaultScheduler: points are counted from 1, not {k!r}")
        if not isinstance(fault, BaseException) and (isinstance(fault, type) or not callable(fault)):
            raise ConfigError(f"FaultScheduler: a fault is an exception or a function without arguments, not {fault!r}")
        self.k = k
        self.fault = fault
        self.order = order
        self.count = 0
        self.hit: tuple[str, str] | None = None

    async def point(self, path: str, where: str) -> None:
        """Called by the run; see `Scheduler`."""
        if self.order is not None:
            await self.order.point(path, where)
        self.count += 1
        if self.count != self.k:
            return
        self.hit = path, where
        if isinstance(self.fault, BaseException):
            raise self.fault
        result = self.fault()
        if isawaitable(result):
            await result
        await checkpoint()  # a cancelled run learns of it right here


class FailingSessionService(SessionService):
    """A session store that fails at its n-th call; all other calls go to the store behind it.

    Args:
        inner: The store behind it. Closed with this one.
        fail_at: Which call fails, from 1, counting those in `calls`.
        error: What it raises; by default a `ServiceError`.
        calls: Which methods count.
        written: Whether the failing call is carried out all the same, as when `CommitUnknown` is raised.
        times: How many calls in a row fail; `None` is all from then on.

    Attributes:
        count: Calls so far.
        failed: How many of them failed.
    """

    def __init__(
        self,
        inner: SessionService,
        *,
        fail_at: int,
        error: Exception | None = None,
        calls: Collection[StoreCall] = ("append", "get", "create"),
        written: bool = False,
        times: int | None = 1,
    ) -> None:
        if isinstance(fail_at, bool) or not isinstance(fail_at, int) or fail_at < 1:
            raise ConfigError(f"FailingSessionService: calls are counted from 1, not {fail_at!r}")
        self.inner = inner
        self.fail_at = fail_at
        self.error = error or ServiceError(f"the store failed at call {fail_at}, as it was told to")
        self.calls = frozenset(calls)
        self.written = written
        self.times = times
        self.count = 0
        self.failed = 0

    async def create(
        self, app_name: str, user_id: str, session_id: str | None = None, *, state: Mapping[str, Any] | None = None
    ) -> Session:
        return await self._call("create", lambda: self.inner.create(app_name, user_id, session_id, state=state))

    async def get(
        self, key: SessionKey, *, recent: int | None = None, after: int | None = None, limit: int | None = None
    ) -> Session | None:
        return await self._call("get", lambda: self.inner.get(key, recent=recent, after=after, limit=limit))

    async def list(
        self,
        app_name: str | None = None,
        user_id: str | None = None,
        *,
        limit: int | None = None,
        before: int | None = None,
    ) -> Sequence[SessionInfo]:
        return await self._call("list", lambda: self.inner.list(app_name, user_id, limit=limit, before=before))

    async def rename(self, key: SessionKey, title: str) -> None:
        await self._call("rename", lambda: self.inner.rename(key, title))

    async def delete(self, key: SessionKey, *, expected_version: int | None = None) -> None:
        await self._call("delete", lambda: self.inner.delete(key, expected_version=expected_version))

    async def rewind(self, key: SessionKey, to: int) -> None:
        await self._call("rewind", lambda: self.inner.rewind(key, to))

    async def restore(self, info: SessionInfo, events: AsyncIterable[Event] | Iterable[Event]) -> None:
        await self._call("restore", lambda: self.inner.restore(info, events))

    async def append(self, key: SessionKey, events: Sequence[Event], *, expected_version: int | None = None) -> None:
        await self._call("append", lambda: self.inner.append(key, events, expected_version=expected_version))

    async def aclose(self) -> None:
        await self.inner.aclose()

    async def _call(self, name: StoreCall, work: Callable[[], Awaitable[T]]) -> T:
        if name not in self.calls:
            return await work()
        self.count += 1
        if self.count < self.fail_at or (self.times is not None and self.count >= self.fail_at + self.times):
            return await work()
        self.failed += 1
        if self.written:
            await work()
        raise self.error
