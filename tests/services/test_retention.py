"""Sessions go with all that belongs to them, by age and by number; what is still written to stays."""

import pytest

from agentflow import (
    ConfigError,
    InMemoryArtifactService,
    InMemoryMemoryService,
    InMemorySessionService,
    SessionKey,
    StaleSession,
)
from agentflow.services.retention import delete_session, prune
from agentflow.testing import FakeClock
from agentflow.testing._store_suite import event_of


async def filled(time: FakeClock | None = None) -> InMemorySessionService:
    """Three apps' worth of sessions; number n was made at second n."""
    sessions = InMemorySessionService(time=time or FakeClock(1, tick=1))
    for n, place in enumerate(["a ada", "a ada", "a bob", "b ada", "a ada", "b ada"], 1):
        await sessions.create(*place.split(), f"s{n}")
    return sessions


def ids(keys) -> list[str]:
    return [key.session_id for key in keys]


async def test_a_session_goes_with_what_belongs_to_it() -> None:
    sessions, artifacts, memory = await filled(), InMemoryArtifactService(), InMemoryMemoryService()
    key, other = SessionKey("a", "ada", "s1"), SessionKey("a", "ada", "s2")
    for one in (key, other):
        await sessions.append(one, [event_of("owls")])
        await artifacts.save(one, "a.txt", "x")
        session = await sessions.get(one)
        assert session is not None
        await memory.add_session(session)
    await artifacts.save(key, "user:a.txt", "x")
    with pytest.raises(StaleSession):
        await delete_session(key, sessions=sessions, artifacts=artifacts, memory=memory, expected_version=0)
    assert await artifacts.list(key) == ["a.txt", "user:a.txt"]
    for _ in range(2):
        await delete_session(key, sessions=sessions, artifacts=artifacts, memory=memory)
        assert await sessions.get(key) is None
        assert await artifacts.list(key) == ["user:a.txt"]
        assert await artifacts.list(other) == ["a.txt", "user:a.txt"]
        assert [hit.session_id for hit in await memory.search("a", "ada", "owls")] == ["s2"]


@pytest.mark.parametrize(
    ("settings", "gone"),
    [
        ({"before": 4.0}, ["s3", "s2", "s1"]),
        ({"before": 4.0, "app_name": "a", "user_id": "ada"}, ["s2", "s1"]),
        ({"before": 0.0}, []),
        ({"keep": 1}, ["s4", "s2", "s1"]),
        ({"keep": 0, "app_name": "b"}, ["s6", "s4"]),
        ({"keep": 2}, ["s1"]),
        ({"keep": 1, "before": 3.0}, ["s2", "s1"]),
    ],
)
async def test_what_is_old_or_too_much_goes(settings, gone) -> None:
    sessions, artifacts = await filled(), InMemoryArtifactService()
    for info in await sessions.list():
        await artifacts.save(info.key, "a.txt", "x")
    assert ids(await prune(sessions, dry_run=True, **settings)) == gone
    assert len(await sessions.list()) == 6
    keys = await prune(sessions, artifacts=artifacts, **settings)
    assert ids(keys) == gone
    assert ids(info.key for info in await sessions.list()) == [f"s{n}" for n in range(6, 0, -1) if f"s{n}" not in gone]
    assert [await artifacts.list(key) for key in keys] == [[]] * len(keys)


async def test_more_than_a_page_goes() -> None:
    sessions = InMemorySessionService()
    for n in range(450):
        await sessions.create("a", "ada", f"s{n}")
    assert len(await prune(sessions, keep=10)) == 440
    assert ids(info.key for info in await sessions.list()) == [f"s{n}" for n in range(449, 439, -1)]


async def test_what_someone_writes_to_meanwhile_stays() -> None:
    class Busy(InMemorySessionService):
        async def list(self, *args, **options):
            page = await super().list(*args, **options)
            await self.append(SessionKey("a", "ada", "s2"), [event_of("still here")])
            return page

    sessions = Busy(time=FakeClock(1, tick=1))
    for n in (1, 2, 3):
        await sessions.create("a", "ada", f"s{n}")
    assert ids(await prune(sessions, keep=0)) == ["s3", "s1"]
    assert ids(info.key for info in await InMemorySessionService.list(sessions)) == ["s2"]


@pytest.mark.parametrize("settings", [{}, {"keep": -1}, {"keep": True}, {"keep": 1.5}])
async def test_what_makes_no_sense_is_refused(settings) -> None:
    with pytest.raises(ConfigError):
        await prune(await filled(), **settings)
