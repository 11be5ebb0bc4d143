"""The in-memory services keep every promise of their contracts."""

from agentflow import InMemoryArtifactService, InMemoryMemoryService, InMemorySessionService
from agentflow.testing import (
    ArtifactServiceSuite,
    FakeClock,
    MemoryServiceSuite,
    SessionServiceSuite,
)


class TestSessions(SessionServiceSuite):
    async def make(self):
        return InMemorySessionService()


class TestSessionsWhenTheClockRunsBackwards(SessionServiceSuite):
    """Times are for people: nothing is decided by them."""

    async def make(self):
        return InMemorySessionService(time=FakeClock(tick=-1.0))


class TestArtifacts(ArtifactServiceSuite):
    async def make(self):
        return InMemoryArtifactService()


class TestMemory(MemoryServiceSuite):
    async def make(self):
        return InMemoryMemoryService()
