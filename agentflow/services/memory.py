"""The contract of memory: what is found again across sessions."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from agentflow.content import Record
from agentflow.services.sessions import Session, SessionKey


@dataclass(slots=True, eq=False, repr=False)
class MemoryHit(Record):
    """Something remembered.

    Attributes:
        text: What was said.
        author: Who said it.
        session_id: Where.
        timestamp: When, seconds since the epoch.
        score: How well it fits, higher is better; comparable within one search only.
    """

    text: str
    author: str
    session_id: str
    timestamp: float
    score: float


class MemoryService(ABC):
    """Remembers sessions, by app and user. The suite `agentflow.testing.MemoryServiceSuite` holds every promise.

    Source: adk-go `memory/service.go`.
    """

    @abstractmethod
    async def add_session(self, session: Session) -> None:
        """Remember what was said in a session. Adding it again replaces what was remembered of it."""

    @abstractmethod
    async def delete_session(self, key: SessionKey) -> None:
        """Forget what was remembered of a session. No error if that is nothing."""

    @abstractmethod
    async def search(self, app_name: str, user_id: str, query: str, *, limit: int = 10) -> Sequence[MemoryHit]:
        """What fits `query`, best first, at most `limit`; of this user in this app only."""

    async def aclose(self) -> None:
        """Let go of what the store holds open."""
        return None
