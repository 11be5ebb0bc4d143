"""The SQLite store keeps every promise of the three contracts."""

import pytest

from agentflow import SQLiteStore
from agentflow.testing import ArtifactServiceSuite, MemoryServiceSuite, SessionServiceSuite
from agentflow.testing.memory import session_of


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

    async def test_accents_and_case_make_no_difference_and_rare_words_count_for_more(self):
        async with self.opened() as memory:
            said = ["Café in Łódź", "the weather", "the weather again", "the weather, and an owl"]
            await memory.add_session(session_of(*said))
            assert [hit.text for hit in await memory.search("app", "ada", "CAFE")] == ["Café in Łódź"]
            hits = await memory.search("app", "ada", "the weather or the owl")
            assert hits[0].text == "the weather, and an owl"
            assert hits[0].score > 2 * hits[1].score
