"""What the parts of the session suite share: how a store is made, and what is put in it."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

from agentflow.content import Text
from agentflow.events import Actions, Event
from agentflow.services.sessions import Session, SessionKey, SessionService
from agentflow.testing._pytest import Suite

KEY = SessionKey("app", "ada", "s1")
TEXTS = ["", " ", "line\nline\r\n\ttab", "quote ' \" \\ `", "{}[]%s$1?:a", "\u0085\u2028\u2029\ufeff\x1b\x7f"]
TEXTS += ["🦉👩‍👩‍👧 ß ﷽ مرحبا שלום e\u0301", "\ufffd"]

_numbers = count(1)


class StoreSuite(Suite, ABC):
    """Makes a store for each test."""

    @abstractmethod
    async def make(self) -> SessionService:
        """An empty store."""

    async def reopen(self, service: SessionService) -> SessionService:
        """Close `service` and open what it stored again. A store that lives in memory is returned as it is."""
        return service

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[SessionService]:
        """A new store, closed in the end."""
        async with self._within_limit(await self.make()) as service:
            yield service


def event_of(
    text: str = "",
    *,
    run: str = "run-1",
    branch: str = "",
    author: str = "agent",
    partial: bool = False,
    actions: Actions | None = None,
) -> Event:
    """An event as a run hands it to the store: stamped, not yet committed."""
    return Event(
        id=f"{run}-{next(_numbers)}",
        invocation_id=run,
        timestamp=1_700_000_000.25,
        author=author,
        branch=branch,
        path=f"root.{author}",
        parts=(Text(text),) if text else (),
        partial=partial,
        actions=actions,
    )


def writing(delta: dict[str, Any] | None = None, *, removed: tuple[str, ...] = ()) -> Event:
    """An event that changes state."""
    return event_of(actions=Actions(delta or {}, list(removed)))


async def read(
    sessions: SessionService, key: SessionKey = KEY, *, recent: int | None = None, after: int | None = None
) -> Session:
    """A session that must be there."""
    session = await sessions.get(key, recent=recent, after=after)
    assert session is not None
    return session


async def raises(kind: type[Exception], work: Any) -> Exception:
    """What awaiting `work` raises, which must be of this kind."""
    try:
        await work
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was not raised")
