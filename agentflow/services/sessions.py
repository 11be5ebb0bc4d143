"""The contract of session stores: where a run's events are committed and read back."""

import os
from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self

from agentflow.content import clean_text
from agentflow.errors import ConfigError, InvalidEvent, SessionExists, SessionNotFound, StaleSession
from agentflow.events import Event


class SessionKey(NamedTuple):
    """What names a session: `app_name`, `user_id`, `session_id`. Other apps and users may use the same id.

    Services take nothing else in its place, not even its id alone: that is a `ConfigError`.
    """

    app_name: str
    user_id: str
    session_id: str


@dataclass(slots=True, kw_only=True)
class SessionInfo:
    """A session without its events.

    Attributes:
        state: Its committed state, with the app's (`app:`) and the user's (`user:`) merged in. A copy.
        version: The `serial` of its last event, which is also how many it has.
        created_at: Seconds since the epoch.
        updated_at: That of its last event. For people, and for `prune`: what comes first is never decided by a time.
        title: What people call it; empty until someone names it.
        initial: The state that it was made with, without the shared keys: its own state follows from this and its
            events.
        changed: Its place in its store's order of changes, the latest highest; what `list` sorts and pages by.
    """

    key: SessionKey
    state: dict[str, Any]
    version: int
    created_at: float
    updated_at: float
    title: str = ""
    initial: dict[str, Any] = field(default_factory=dict)
    changed: int = 0

    @property
    def id(self) -> str:
        """The session's id."""
        return self.key.session_id

    @property
    def app_name(self) -> str:
        """The app it belongs to."""
        return self.key.app_name

    @property
    def user_id(self) -> str:
        """The user it belongs to."""
        return self.key.user_id


@dataclass(slots=True, kw_only=True)
class Session(SessionInfo):
    """A session as it was read: its info and the events that were asked for, oldest first."""

    events: list[Event] = field(default_factory=list)


class SessionService(ABC):
    """Stores sessions. Any number of tasks may call any method at once.

    The suite `agentflow.testing.SessionServiceSuite` holds every promise made here; run it against your own.
    """

    @abstractmethod
    async def create(
        self, app_name: str, user_id: str, session_id: str | None = None, *, state: Mapping[str, Any] | None = None
    ) -> Session:
        """Make a session.

        Args:
            app_name: Not empty.
            user_id: Not empty.
            session_id: A new one is made up when it is `None`.
            state: What it starts with. `app:` and `user:` keys go where they belong, `temp:` keys are dropped.

        Raises:
            SessionExists: It is there already.
            ConfigError: A name is empty.
            InvalidEvent: The state is no JSON.
        """

    @abstractmethod
    async def get(
        self, key: SessionKey, *, recent: int | None = None, after: int | None = None, limit: int | None = None
    ) -> Session | None:
        """Read a session, or `None` if there is none.

        Args:
            key: The session.
            recent: At most so many events, the latest; 0 for none. What isn't asked for isn't read.
            after: Only events with a `serial` above this.
            limit: Of those, at most so many, the earliest: a page. `events` reads page by page.

        Raises:
            ServiceError: Storage failed, or what it holds is damaged.
        """

    @abstractmethod
    async def list(
        self,
        app_name: str | None = None,
        user_id: str | None = None,
        *,
        limit: int | None = None,
        before: int | None = None,
    ) -> Sequence[SessionInfo]:
        """Sessions, the one changed last first: of all apps, of an app, or of one of its users.

        A page costs the same however many sessions there are.

        Args:
            app_name: `None` for all.
            user_id: `None` for all.
            limit: At most so many.
            before: Only those whose `changed` is below this: that of the last one on the page before.
        """

    @abstractmethod
    async def rename(self, key: SessionKey, title: str) -> None:
        """Give a session a title.

        Raises:
            SessionNotFound: There is no such session.
            ConfigError: The title is no text.
        """

    @abstractmethod
    async def delete(self, key: SessionKey, *, expected_version: int | None = None) -> None:
        """Remove a session and its events. The app's and the user's state stay. No error if there is none.

        Args:
            key: The session.
            expected_version: Remove it only if its version is this.

        Raises:
            StaleSession: The version is another.
        """

    @abstractmethod
    async def rewind(self, key: SessionKey, to: int) -> None:
        """Remove all events with a `serial` above `to`, as if they had never been; 0 removes all.

        The session's own state becomes what it was then; the app's and the user's stay as they are, and so do its
        artifacts. The numbers of what was removed are given again. Not for a session that a run is writing to; `fork`
        keeps the original.

        Raises:
            SessionNotFound: There is no such session.
            ConfigError: It has no such event.
        """

    @abstractmethod
    async def restore(self, info: SessionInfo, events: AsyncIterable[Event] | Iterable[Event]) -> None:
        """Put a whole session there exactly as it was, or nothing: names, title, times, numbers.

        Nobody sees it before all of it is there. `app:` and `user:` keys of `info.state` are set where there is none
        yet; the session's own state follows from `info.initial` and the events.

        Args:
            info: As it was read. `version` and `changed` are not looked at.
            events: Oldest first, from the first on; they needn't fit in memory.

        Raises:
            SessionExists: It is there already.
            InvalidEvent: An event is partial, or its `serial` or `seq` isn't the next one.
        """

    @abstractmethod
    async def append(self, key: SessionKey, events: Sequence[Event], *, expected_version: int | None = None) -> None:
        """Commit events, all or none, and give each its `seq` and `serial`, in the given order.

        They may be of several branches and runs; several calls may share one transaction. Calls for one session are
        committed in the order in which they are made, though they may be answered in another. When this returns, they
        are as durable as the store promises. It is not interrupted by cancellation once it has begun to write, and
        costs the same however long the session is. State deltas are applied in the same transaction, `temp:` keys
        dropped.

        Args:
            key: The session.
            events: Not partial, not committed before.
            expected_version: Commit only if the session's version is this.

        Raises:
            SessionNotFound: There is no such session.
            StaleSession: The version is another.
            ServiceError: Storage failed; nothing was written.
            CommitUnknown: Storage didn't answer in time.
        """

    def events(
        self, key: SessionKey, *, after: int = 0, until: int | None = None, page: int = 1_000
    ) -> AsyncIterator[Event]:
        """A session's events as they are when the reading begins, oldest first, a page at a time in memory.

        Args:
            key: The session.
            after: Only events with a `serial` above this.
            until: Only events with a `serial` up to this.
            page: How many are read at once.

        Raises:
            SessionNotFound: From the iteration: there is no such session, or it was deleted meanwhile.
            StaleSession: From the iteration: it was rewound meanwhile.
        """
        check_session(key)
        return _Pages(self, key, after, until, page)

    async def first_events(self, keys: Sequence[SessionKey]) -> Sequence[Event | None]:
        """The first event of each of these sessions; `None` for one that has none, or isn't there.

        A store that can reads them all at once: a list tells with them what its sessions are about.

        Args:
            keys: The sessions, in any order; the answer is in the same.

        Raises:
            ServiceError: Storage failed, or what it holds is damaged.
        """
        found = [await self.get(key, after=0, limit=1) for key in keys]
        return [session.events[0] if session is not None and session.events else None for session in found]

    async def fork(self, key: SessionKey, *, at: int | None = None, session_id: str | None = None) -> SessionKey:
        """Copy a session, up to the event with the `serial` `at`, to a new one of the same user; gives its key.

        Title, times and numbers are those of the original.

        Args:
            key: The session.
            at: `None` for all of it, 0 for none of its events.
            session_id: A new one is made up when it is `None`.

        Raises:
            SessionNotFound: There is no such session.
            SessionExists: The new one is there already.
            ConfigError: It has no such event.
        """
        check_session(key)
        info = await self.get(key, recent=0)
        if info is None:
            raise no_session(key)
        end = check_serial(info, info.version if at is None else at, "fork")
        copy = SessionKey(*check_key(key.app_name, key.user_id, session_id))
        await self.restore(replace(info, key=copy, state={}), self.events(key, until=end))
        return copy

    def append_now(self, key: SessionKey, event: Event) -> bool:
        """Commit one event of a run without waiting, and say whether that was done: for stores in memory, which can.

        A run asks this first, and awaits `append` where it gives False. A subclass that has an `append` of its own is
        asked for that alone.

        Args:
            key: The session.
            event: Not partial, and not stored yet.

        Raises:
            SessionNotFound: There is no such session.
        """
        return False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "append" in vars(cls) and "append_now" not in vars(cls):
            cls.append_now = SessionService.append_now  # type: ignore[method-assign]

    async def apps(self) -> Sequence[str]:
        """The names of the apps that have sessions, sorted."""
        return sorted({info.app_name for info in await self.list()})

    async def aclose(self) -> None:
        """Let go of what the store holds open. Called by who made it; the Runner closes only what it made."""
        return None


def check_key(app_name: str, user_id: str, session_id: str | None) -> tuple[str, str, str]:
    """The three names of a session, a new id where it is `None`.

    Raises:
        ConfigError: One is empty or no string.
    """
    if session_id is None:
        session_id = os.urandom(16).hex()
    for what, value in (("app_name", app_name), ("user_id", user_id), ("session_id", session_id)):
        if not isinstance(value, str) or not value.strip():
            raise ConfigError(f"a session needs {what}: a string that isn't empty, not {value!r}")
    return app_name, user_id, session_id


def check_session(key: object) -> None:
    """Check what a method of a service is given to name a session.

    Raises:
        ConfigError: It is no `SessionKey`.
    """
    if not isinstance(key, SessionKey):
        raise ConfigError(f"a session is named by SessionKey(app_name, user_id, session_id), not by {key!r}")


def check_serial(info: SessionInfo, serial: int, what: str) -> int:
    """`serial`, if the session has an event of that number, or 0.

    Raises:
        ConfigError: It has none.
    """
    if isinstance(serial, bool) or not isinstance(serial, int) or not 0 <= serial <= info.version:
        raise ConfigError(f"{what}: session {info.id!r} has events 0 to {info.version}, and no {serial!r}")
    return serial


def check_title(title: object) -> str:
    """`title`, safe for every store.

    Raises:
        ConfigError: It is no text.
    """
    if not isinstance(title, str):
        raise ConfigError(f"a title is text, not {title!r}")
    return clean_text(title)


def no_session(key: SessionKey) -> SessionNotFound:
    """The error for a session that isn't there."""
    return SessionNotFound(f"there is no session {key.session_id!r} of user {key.user_id!r} in {key.app_name!r}")


def session_exists(key: SessionKey) -> SessionExists:
    """The error for a session that is there already."""
    return SessionExists(f"session {key.session_id!r} of user {key.user_id!r} in {key.app_name!r} is there already")


def stale(key: SessionKey, expected: int, actual: int) -> StaleSession:
    """The error for a writer who had read another version."""
    return StaleSession(
        f"session {key.session_id!r} has version {actual}, not {expected}: read it again, then write",
        expected=expected,
        actual=actual,
    )


class InOrder:
    """Events to be restored, each one checked.

    Raises:
        InvalidEvent: From the iteration: one is partial, or its `serial` or `seq` isn't the next one.
    """

    def __init__(self, events: AsyncIterable[Event] | Iterable[Event]) -> None:
        self._events = aiter(events) if isinstance(events, AsyncIterable) else iter(events)
        self._serial = 0
        self._seqs: dict[tuple[str, str], int] = {}

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        if isinstance(self._events, AsyncIterator):
            event = await anext(self._events)
        else:
            try:
                event = next(self._events)
            except StopIteration:
                raise StopAsyncIteration from None
        serial = self._serial = self._serial + 1
        line = event.invocation_id, event.branch
        seq = self._seqs[line] = self._seqs.get(line, 0) + 1
        if event.partial or event.serial != serial or event.seq != seq:
            raise InvalidEvent(
                f"event {event.id!r} can't be restored: its serial and seq are {event.serial} and {event.seq}, "
                f"the next are {serial} and {seq}" + (", and it is partial" if event.partial else "")
            )
        return event


class _Pages:
    """Reads a session page by page. No generator: it may be dropped half-way, on any backend."""

    def __init__(self, sessions: SessionService, key: SessionKey, after: int, until: int | None, page: int) -> None:
        self._sessions = sessions
        self._key = key
        self._after = after
        self._until = until
        self._end: int | None = None
        self._size = page
        self._page: Iterator[Event] = iter(())

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        event = next(self._page, None) or await self._turn()
        if event is None or (event.serial or 0) > (self._end or 0):
            self._page, self._after = iter(()), self._end or 0
            raise StopAsyncIteration
        self._after = event.serial or 0
        return event

    async def _turn(self) -> Event | None:
        if self._end is not None and self._after >= self._end:
            return None
        session = await self._sessions.get(self._key, after=self._after, limit=self._size)
        if session is None:
            raise no_session(self._key)
        if self._end is None:
            self._end = session.version if self._until is None else min(self._until, session.version)
        elif session.version < self._end:
            raise StaleSession(
                f"session {self._key.session_id!r} was rewound while it was read",
                expected=self._end,
                actual=session.version,
            )
        self._page = iter(session.events)
        return next(self._page, None)
