"""The contract of session stores: where a run's events are committed and read back."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from agentflow.events import Event


class SessionKey(NamedTuple):
    """What names a session: the same id may be used by other apps and users."""

    app_name: str
    user_id: str
    session_id: str


@dataclass(slots=True, kw_only=True)
class SessionInfo:
    """A session without its events.

    Attributes:
        state: Its committed state, with the app's (`app:`) and the user's (`user:`) merged in. A copy.
        version: How many events were ever committed to it; the last one's `serial`.
        created_at: Seconds since the epoch; `updated_at` likewise. For people: nothing is decided by them.
    """

    key: SessionKey
    state: dict[str, Any]
    version: int
    created_at: float
    updated_at: float

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
    async def get(self, key: SessionKey, *, recent: int | None = None, after: int | None = None) -> Session | None:
        """Read a session, or `None` if there is none.

        Args:
            key: The session.
            recent: At most so many events, the latest; 0 for none. What isn't asked for isn't read.
            after: Only events with a `serial` above this.
        """

    @abstractmethod
    async def list(self, app_name: str, user_id: str | None = None) -> Sequence[SessionInfo]:
        """The sessions of an app, or of one of its users, the one changed last first."""

    @abstractmethod
    async def delete(self, key: SessionKey) -> None:
        """Remove a session and its events. The app's and the user's state stay. No error if there is none."""

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

    async def aclose(self) -> None:
        """Let go of what the store holds open. Called by who made it; the Runner closes only what it made."""
        return None
