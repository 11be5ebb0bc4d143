"""The contract of session stores, as tests. Those about state, commits and upkeep have modules of their own."""

from collections.abc import Awaitable, Callable
from typing import Any

from agentflow.errors import ConfigError, SessionNotFound
from agentflow.events import Actions
from agentflow.services.sessions import SessionKey
from agentflow.testing._commit_suite import CommitSuite
from agentflow.testing._state_suite import StateSuite
from agentflow.testing._store_suite import KEY, event_of, raises, read, writing
from agentflow.testing._upkeep_suite import UpkeepSuite


class SessionServiceSuite(StateSuite, CommitSuite, UpkeepSuite):
    """Every promise of `SessionService`, as a test. Subclass it, say how to make one, and pytest runs them all.

        class TestMine(SessionServiceSuite):
            async def make(self) -> SessionService:
                return MySessionService()

    Each test makes a store of its own, which must be empty, and closes it. They run on whatever backends your
    `anyio_backend` fixture names: by default all that are installed.
    """

    # Reading

    async def test_a_session_that_is_not_there_is_none(self) -> None:
        async with self.opened() as sessions:
            await sessions.create("app", "ada", "s1")
            for key in (("app", "ada", "s2"), ("app", "bob", "s1"), ("other", "ada", "s1")):
                assert await sessions.get(SessionKey(*key)) is None
                assert await sessions.get(SessionKey(*key), recent=0, after=0) is None

    async def test_an_id_alone_names_no_session(self) -> None:
        """Whoever forgets the key's other two parts learns of it, instead of finding nothing."""

        async def events(key: Any) -> None:
            async for _ in sessions.events(key):
                pass

        async with self.opened() as sessions:
            await sessions.create("app", "ada", "s1")
            calls: list[Callable[[Any], Awaitable[object]]] = [
                sessions.get,
                sessions.delete,
                sessions.fork,
                events,
                lambda key: sessions.get(key, recent=0),
                lambda key: sessions.rename(key, "title"),
                lambda key: sessions.rewind(key, 0),
                lambda key: sessions.append(key, [event_of("lost")]),
            ]
            for key in ("s1", None, ("app", "ada", "s1"), ["app", "ada", "s1"], b"s1"):
                for call in calls:
                    await raises(ConfigError, call(key))
            session = await read(sessions)
            assert (session.title, session.version) == ("", 0)

    async def test_as_many_events_are_read_as_are_asked_for(self) -> None:
        """The latest, oldest first. State and version are those of the whole session all the same."""
        async with self.opened() as sessions:
            await sessions.create("app", "ada", "s1")
            await sessions.append(KEY, [writing({"n": n}) for n in range(1, 11)])
            wanted: list[tuple[int | None, int | None, list[int]]] = [
                (None, None, [*range(1, 11)]),
                (3, None, [8, 9, 10]),
                (1, None, [10]),
                (0, None, []),
                (10, None, [*range(1, 11)]),
                (99, None, [*range(1, 11)]),
                (None, 0, [*range(1, 11)]),
                (None, 7, [8, 9, 10]),
                (None, 10, []),
                (None, 99, []),
                (2, 7, [9, 10]),
                (5, 7, [8, 9, 10]),
                (0, 7, []),
                (99, 0, [*range(1, 11)]),
                (3, 99, []),
            ]
            for recent, after, serials in wanted:
                session = await read(sessions, recent=recent, after=after)
                assert [event.serial for event in session.events] == serials, f"{recent=} {after=}"
                assert (session.version, session.state) == (10, {"n": 10})

    async def test_the_end_of_a_long_session_is_read_alone(self) -> None:
        async with self.opened() as sessions:
            await sessions.create("app", "ada", "s1")
            for start in range(0, 5_000, 1_000):
                await sessions.append(KEY, [event_of(str(start + n)) for n in range(1_000)])
            for session in (
                await read(sessions, recent=3),
                await read(sessions, after=4_997),
                await read(sessions, recent=3, after=10),
            ):
                assert [event.text for event in session.events] == ["4997", "4998", "4999"]
                assert session.version == 5_000

    async def test_events_that_were_read_are_a_list_of_ones_own(self) -> None:
        async with self.opened() as sessions:
            await sessions.create("app", "ada", "s1")
            await sessions.append(KEY, [event_of("a")])
            (await read(sessions)).events.clear()
            batch = [event_of("b")]
            await sessions.append(KEY, batch)
            batch.append(event_of("c"))
            assert [event.text for event in (await read(sessions)).events] == ["a", "b"]

    async def test_a_session_that_was_read_stays_as_it_was(self) -> None:
        async with self.opened() as sessions:
            await sessions.create("app", "ada", "s1", state={"k": 1, "app:k": 1})
            before = await read(sessions)
            await sessions.append(KEY, [writing({"k": 2, "app:k": 2})])
            assert (before.version, before.state, list(before.events)) == (0, {"k": 1, "app:k": 1}, [])

    # Listing and deleting

    async def test_sessions_are_listed_by_app_and_by_user(self) -> None:
        async with self.opened() as sessions:
            second, bobs, others = (SessionKey(*key.split()) for key in ("app ada s2", "app bob s1", "other ada s1"))
            for key in (KEY, second, bobs, others):
                await sessions.create(*key, state={"id": "/".join(key), "user:of": key.user_id})
            await sessions.append(KEY, [event_of("a")])
            listed = {info.key: info for info in await sessions.list("app")}
            assert set(listed) == {KEY, second, bobs}
            assert {info.key for info in await sessions.list("app", "ada")} == {KEY, second}
            assert list(await sessions.list("app", "eve")) == []
            assert list(await sessions.list("nowhere")) == []
            assert listed[KEY].state == {"id": "app/ada/s1", "user:of": "ada"}
            assert (listed[KEY].version, listed[bobs].version) == (1, 0)

    async def test_the_newest_session_is_listed_first(self) -> None:
        async with self.opened() as sessions:
            for n, user in enumerate(["ada", "bob", "ada"]):
                await sessions.create("app", user, f"s{n}")
            assert [info.id for info in await sessions.list("app")] == ["s2", "s1", "s0"]
            assert [info.id for info in await sessions.list("app", "ada")] == ["s2", "s0"]

    async def test_the_session_that_was_changed_last_is_listed_first(self) -> None:
        """Whatever time its events say: those were stamped before they were committed, perhaps on another machine."""
        async with self.opened() as sessions:
            keys = [SessionKey("app", user, f"s{n}") for n, user in enumerate(["ada", "bob", "ada"])]
            for key in keys:
                await sessions.create(*key)
            await sessions.append(keys[1], [event_of("a")])
            assert [info.id for info in await sessions.list("app")] == ["s1", "s2", "s0"]
            await sessions.append(keys[0], [event_of("b")])
            await sessions.append(keys[2], [event_of("c")])
            await sessions.append(keys[0], [event_of("d")])
            assert [info.id for info in await sessions.list("app")] == ["s0", "s2", "s1"]
            assert [info.id for info in await sessions.list("app", "ada")] == ["s0", "s2"]

    async def test_a_deleted_session_is_gone_and_the_shared_state_stays(self) -> None:
        async with self.opened() as sessions:
            other = SessionKey("app", "bob", "s1")
            await sessions.create("app", "ada", "s1", state={"k": 1, "user:k": 1, "app:k": 1})
            await sessions.create(*other)
            await sessions.append(KEY, [event_of("a", branch="p.a")])
            await sessions.append(other, [event_of("b")])
            await sessions.delete(KEY)
            assert await sessions.get(KEY) is None
            assert [info.key for info in await sessions.list("app")] == [other]
            assert (await read(sessions, other)).version == 1
            await raises(SessionNotFound, sessions.append(KEY, [event_of("c")]))
            again = await sessions.create("app", "ada", "s1")
            assert (again.version, again.state, list(again.events)) == (0, {"user:k": 1, "app:k": 1}, [])
            fresh = event_of("d", branch="p.a")
            await sessions.append(KEY, [fresh])
            assert (fresh.seq, fresh.serial) == (1, 1)

    async def test_deleting_a_session_that_is_not_there_is_no_error(self) -> None:
        async with self.opened() as sessions:
            await sessions.delete(KEY)
            await sessions.create("app", "ada", "s1")
            await sessions.delete(SessionKey("app", "bob", "s1"))
            await sessions.delete(KEY)
            await sessions.delete(KEY)
            assert await sessions.get(KEY) is None

    async def test_the_same_id_in_other_apps_and_of_other_users_is_another_session(self) -> None:
        async with self.opened() as sessions:
            keys = [KEY, SessionKey("app", "bob", "s1"), SessionKey("other", "ada", "s1")]
            for key in keys:
                await sessions.create(*key)
                await sessions.append(key, [event_of("/".join(key), actions=Actions({"is": list(key)}))])
            await sessions.delete(keys[1])
            for key in (keys[0], keys[2]):
                session = await read(sessions, key)
                assert [event.text for event in session.events] == ["/".join(key)]
                assert (session.version, session.state) == (1, {"is": list(key)})
