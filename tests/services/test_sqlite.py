"""The SQLite store keeps every promise of the three contracts."""

from itertools import count

import pytest

from agentflow.services.sqlite import SQLiteStore
from agentflow.testing import ArtifactServiceSuite, MemoryServiceSuite, SessionServiceSuite

_files = count(1)


@pytest.fixture(autouse=True)
def folder(tmp_path, request):
    request.instance.folder = tmp_path


class TestSessions(SessionServiceSuite):
    async def make(self):
        return SQLiteStore(self.folder / f"{next(_files)}.db").sessions

    async def reopen(self, service):
        path = service._database.driver._path
        await service.aclose()
        return SQLiteStore(path).sessions


class TestArtifacts(ArtifactServiceSuite):
    async def make(self):
        return SQLiteStore(self.folder / f"{next(_files)}.db").artifacts


class TestMemory(MemoryServiceSuite):
    async def make(self):
        return SQLiteStore(self.folder / f"{next(_files)}.db").memory
