"""The SQLite store keeps every promise of the three contracts."""

import pytest

from agentflow import SQLiteStore
from agentflow.testing import ArtifactServiceSuite, MemoryServiceSuite, SessionServiceSuite


@pytest.fixture(autouse=True)
def new(request, new_store) -> None:
    request.instance.new = new_store


class TestSessions(SessionServiceSuite):
    async def make(self):
        return self.new().sessions

    async def reopen(self, service):
        path = service._database.driver._path
        await service.aclose()
        return SQLiteStore(path).sessions


class TestArtifacts(ArtifactServiceSuite):
    async def make(self):
        return self.new().artifacts


class TestMemory(MemoryServiceSuite):
    async def make(self):
        return self.new().memory
