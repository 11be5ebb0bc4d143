"""The SQLite store keeps every promise of the three contracts."""

import shutil
from itertools import count
from pathlib import Path

import anyio
import pytest

from agentflow.services.sqlite import SQLiteStore
from agentflow.testing import ArtifactServiceSuite, MemoryServiceSuite, SessionServiceSuite


@pytest.fixture(scope="module")
def empty(tmp_path_factory) -> Path:
    """A store that is new: making one takes longer than most tests."""
    path = tmp_path_factory.mktemp("stores") / "empty.db"

    async def make() -> None:
        async with SQLiteStore(path) as store:
            await store.upgrade()

    anyio.run(make)
    return path


@pytest.fixture(autouse=True)
def new(tmp_path, request, empty) -> None:
    numbers = count(1)

    def new_store() -> SQLiteStore:
        return SQLiteStore(shutil.copy(empty, tmp_path / f"{next(numbers)}.db"))

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
