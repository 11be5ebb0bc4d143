"""The contract of session stores: pages, titles, rewinding, forking, and whole sessions that come and go."""

from collections import defaultdict
from collections.abc import AsyncIterator

import anyio
from anyio.lowlevel import checkpoint

from agentflow.errors import ConfigError, InvalidEvent, SessionExists, SessionNotFound, StaleSession
from agentflow.events import Actions, Event
from agentflow.services.sessions import Session, SessionInfo, SessionKey, SessionService
from agentflow.testing._store_suite import KEY, StoreSuite, event_of, raises, read, writing

COPY = SessionKey("app", "ada", "copy")


class UpkeepSuite(StoreSuite):
    """What is done with sessions besides running them."""

    # Pages

    async def test_events_are_read_page_by_page(self) -> None:
        async with self.opened() as sessions:
            await sessions.create("app", "ada", "s1")
            await sessions.append(KEY, [writing({"n": n}) for n in range(1, 11)])
            wanted: list[tuple[int | None, int | None, int, list[int]]] = [
                (None, None, 3, [1, 2, 3]),
                (None, 3, 3, [4, 5, 6]),
                (None, 8, 3, [9, 10]),
                (None, 10, 3, []),
                (None, None, 0, []),
                (None, None, 99, [*range(1, 11)]),
                (5, None, 2, [6, 7]),
                (5, 7, 2, [8, 9]),
            ]
            for recent, after, limit, serials in wanted:
                session = await sessions.get(KEY, recent=recent, after=after, limit=limit)
                assert session is not None
                assert [event.serial for event in session.events] == serials, f"{recent=} {after=} {limit=}"
                assert (session.version, session.state) == (10, {"n": 10})
            for page in (1, 3, 5, 10, 99):
                assert [event.serial async for event in sessions.events(KEY, page=page)] == [*range(1, 11)]
                assert [event.serial async for event in sessions.events(KEY, after=2, until=7, page=page)] == [
                    *range(3, 8)
                ]
                assert [event.serial async for event in sessions.events(KEY, after=10, page=page)] == []
                assert [event.serial async for event in sessions.events(KEY, until=99, page=page)] == [*range(1, 11)]
            await raises(SessionNotFound, anext(sessions.events(COPY)))

    async def test_what_is_committed_during_a_reading_is_not_part_of_it(self) -> None:
        async with self.opened() as sessions:
            await sessions.create("app", "ada", "s1")
            await sessions.append(KEY, [event_of(str(n)) for n in range(5)])
            got = []
            async for event in sessions.events(KEY, page=2):
                got.append(event.serial)
                await sessions.append(KEY, [event_of("more")])
            assert got == [1, 2, 3, 4, 5]

    async def test_a_reading_notices_that_the_session_was_rewound_or_deleted(self) -> None:
        async with self.opened() as sessions:
            for deleted in (False, True):
                await sessions.create("app", "ada", "s1")
                await sessions.append(KEY, [event_of(str(n)) for n in range(6)])
                reading = sessions.events(KEY, page=2)
                assert [(await anext(reading)).serial for _ in range(2)] == [1, 2]
                await (sessions.delete(KEY) if deleted else sessions.rewind(KEY, 3))
                await raises(SessionNotFound if deleted else StaleSession, anext(reading))
                await sessions.delete(KEY)

    async def test_sessions_are_listed_page_by_page(self) -> None:
        """Over one app, one user, or all; what changes meanwhile moves to the front and is not met twice."""
        async with self.opened() as sessions:
            for n in range(9):
                await sessions.create("app" if n % 3 else "other", "ada" if n % 2 else "bob", f"s{n}")
            whole = [info.id for info in await sessions.list()]
            assert whole == [f"s{n}" for n in reversed(range(9))]
            assert await _pages(sessions, None, None, 2) == whole
            assert await _pages(sessions, "app", None, 2) == ["s8", "s7", "s5", "s4", "s2", "s1"]
            assert await _pages(sessions, "app", "ada", 1) == ["s7", "s5", "s1"]
            assert await _pages(sessions, None, "bob", 3) == ["s8", "s6", "s4", "s2", "s0"]
            assert list(await sessions.list("app", limit=0)) == []
            first = await sessions.list(limit=4)
            await sessions.append(SessionKey("app", "bob", "s2"), [event_of("a")])
            rest = await sessions.list(before=first[-1].changed)
            assert [info.id for info in rest] == ["s4", "s3", "s1", "s0"]
            assert [info.id for info in await sessions.list(limit=2)] == ["s2", "s8"]

    async def test_the_first_events_of_many_sessions_are_read(self) -> None:
        async with self.opened() as sessions:
            for name, count in {"s1": 3, "s2": 0, "s3": 1}.items():
                await sessions.create("app", "ada", name)
                await sessions.append(KEY._replace(session_id=name), [event_of(f"{name} {n}") for n in range(count)])
            await sessions.create("app", "bob", "s1")
            keys = [KEY._replace(session_id=name) for name in ("s3", "none", "s2", "s1", "s3")]
            first = await sessions.first_events([*keys, KEY._replace(user_id="bob")])
            told = [None if event is None else (event.text, event.seq, event.serial) for event in first]
            assert told == [("s3 0", 1, 1), None, None, ("s1 0", 1, 1), ("s3 0", 1, 1), None]
            assert await sessions.first_events([]) == []

    async def test_apps_are_known_by_their_sessions(self) -> None:
        async with self.opened() as sessions:
            assert list(await sessions.apps()) == []
            for name in ("b", "a", "B", "用户"):
                await sessions.create(name, "ada", "s1")
                await sessions.create(name, "bob", "s1")
            assert list(await sessions.apps()) == ["B", "a", "b", "用户"]
            await sessions.delete(SessionKey("b", "ada", "s1"))
            assert "b" in await sessions.apps()
            await sessions.delete(SessionKey("b", "bob", "s1"))
            assert list(await sessions.apps()) == ["B", "a", "用户"]

    # Titles

    async def test_a_session_has_a_title(self) -> None:
        async with self.opened() as sessions:
            made = await sessions.create("app", "ada", "s1", state={"k": 1})
            await sessions.create("app", "ada", "s2")
            assert made.title == ""
            await sessions.append(KEY, [event_of("a")])
            await sessions.rename(KEY, "Über 🦉: 'quoted' 100%\x00")
            session = await read(sessions)
            assert session.title == "Über 🦉: 'quoted' 100%\ufffd"
            assert (session.version, session.state) == (1, {"k": 1})
            assert [(info.id, info.title) for info in await sessions.list("app")] == [("s1", session.title), ("s2", "")]
            await sessions.append(KEY, [event_of("b")])
            assert (await read(sessions)).title == session.title
            await sessions.rename(KEY, "")
            assert (await read(sessions)).title == ""
            await raises(SessionNotFound, sessions.rename(COPY, "x"))
            await raises(ConfigError, sessions.rename(KEY, None))  # type: ignore[arg-type]  # which is the point

    # Deleting what nobody changed

    async def test_a_session_is_deleted_only_if_nobody_wrote_meanwhile(self) -> None:
        async with self.opened() as sessions:
            await sessions.create("app", "ada", "s1")
            await sessions.append(KEY, [event_of("a")])
            for expected in (0, 2):
                stale = await raises(StaleSession, sessions.delete(KEY, expected_version=expected))
                assert isinstance(stale, StaleSession)
                assert (stale.expected, stale.actual) == (expected, 1)
            assert (await read(sessions)).version == 1
            await sessions.delete(KEY, expected_version=1)
            assert await sessions.get(KEY) is None
            await sessions.delete(KEY, expected_version=1)

    # Going back

    async def test_a_session_goes_back_to_any_of_its_events(self) -> None:
        """Its own state too, deletions included; what is shared stays as it is."""
        async with self.opened() as sessions:
            for to in range(6):
                await sessions.create("app", "ada", "s1", state={"a": 0, "b": 0, "app:x": to})
                await sessions.append(KEY, _story())
                before = await read(sessions)
                await sessions.rewind(KEY, to)
                session = await read(sessions)
                assert [event.serial for event in session.events] == [*range(1, to + 1)]
                assert session.events == before.events[:to]
                assert (session.version, session.state) == (to, _own(to) | {"app:x": 9, "user:y": 1})
                assert (session.initial, session.created_at) == ({"a": 0, "b": 0}, before.created_at)
                late = event_of("late", branch="p.a")
                await sessions.append(KEY, [late], expected_version=to)
                assert (late.serial, late.seq) == (to + 1, min(max(to - 1, 0), 2) + 1)
                await sessions.delete(KEY)

    async def test_what_was_never_there_is_not_gone_back_to(self) -> None:
        async with self.opened() as sessions:
            await sessions.create("app", "ada", "s1")
            await sessions.append(KEY, [event_of("a")])
            for to in (-1, 2, 99):
                await raises(ConfigError, sessions.rewind(KEY, to))
                await raises(ConfigError, sessions.fork(KEY, at=to))
            await raises(SessionNotFound, sessions.rewind(COPY, 0))
            await raises(SessionNotFound, sessions.fork(COPY))
            await sessions.rewind(KEY, 1)
            assert (await read(sessions)).version == 1

    # Copies

    async def test_a_session_is_forked_at_any_of_its_events(self) -> None:
        """The copy and the original go their own ways."""
        async with self.opened() as sessions:
            await sessions.create("app", "ada", "s1", state={"a": 0, "b": 0})
            await sessions.append(KEY, _story())
            await sessions.rename(KEY, "title")
            whole = await read(sessions)
            for at in range(6):
                key = await sessions.fork(KEY, at=at, session_id=f"fork-{at}")
                assert key == SessionKey("app", "ada", f"fork-{at}")
                fork = await read(sessions, key)
                assert fork.events == whole.events[:at]
                assert (fork.version, fork.state) == (at, _own(at) | {"app:x": 9, "user:y": 1})
                assert (fork.title, fork.initial) == ("title", whole.initial)
            fork = await read(sessions, await sessions.fork(KEY))
            assert (fork.events, fork.state) == (whole.events, whole.state)
            assert fork.id != "s1"
            late = event_of("late", branch="p.a")
            await sessions.append(SessionKey("app", "ada", "fork-4"), [late])
            assert (late.serial, late.seq) == (5, 3)
            assert (await read(sessions)).events == whole.events
            await raises(SessionExists, sessions.fork(KEY, session_id="fork-4"))
            await sessions.delete(KEY)
            assert (await read(sessions, SessionKey("app", "ada", "fork-5"))).version == 5

    async def test_a_session_that_was_read_whole_can_be_put_back_whole(self) -> None:
        """Here, or in another store: names, times, title, numbers, state."""
        async with self.opened() as sessions, self.opened() as others:
            await sessions.create("app", "ada", "s1", state={"a": 0, "b": 0, "user:z": 1})
            await sessions.append(KEY, _story())
            await sessions.rename(KEY, "title")
            whole = await read(sessions)
            for store in (sessions, others):
                await raises(SessionExists, sessions.restore(whole, whole.events))
                await sessions.delete(KEY)
                await store.restore(whole, whole.events)
                again = await read(store)
                again.changed = whole.changed
                assert again == whole
                assert again.updated_at == whole.updated_at
                late = event_of("late", branch="p.a")
                await store.append(KEY, [late])
                assert (late.serial, late.seq) == (6, 3)
                await store.delete(KEY)
                await sessions.restore(whole, whole.events)

    async def test_what_is_put_back_does_not_overwrite_what_is_shared(self) -> None:
        async with self.opened() as sessions:
            await sessions.create("app", "ada", "other", state={"app:x": "mine"})
            info = Session(
                key=KEY, state={"app:x": 1, "user:y": 2, "own": 3}, version=0, created_at=1.5, updated_at=1.5,
                initial={"own": 4},
            )  # fmt: skip
            event = writing({"app:x": 5, "user:y": 6, "k": 7})
            vars(event).update(serial=1, seq=1)
            await sessions.restore(info, [event])
            session = await read(sessions)
            assert session.state == {"app:x": "mine", "user:y": 2, "own": 4, "k": 7}
            assert (session.version, session.created_at, session.updated_at) == (1, 1.5, event.timestamp)

    async def test_what_does_not_count_from_one_is_not_put_back(self) -> None:
        """Nothing of it is, and the name stays free."""
        async with self.opened() as sessions:
            info = SessionInfo(key=KEY, state={"app:k": 1}, version=0, created_at=0.0, updated_at=0.0)
            for numbers in ([(2, 1)], [(1, 2)], [(1, 1), (1, 2)], [(1, 1), (3, 2)], [(1, 1), (2, 1)], [(None, None)]):
                events = []
                for serial, seq in numbers:
                    events.append(event_of("a"))
                    vars(events[-1]).update(serial=serial, seq=seq)
                await raises(InvalidEvent, sessions.restore(info, events))
                assert await sessions.get(KEY) is None
            assert (await sessions.create("app", "ada", "s1")).state == {}

    async def test_nobody_sees_half_of_what_is_put_back(self) -> None:
        """And when its source breaks, or who puts it back is cancelled, nothing is there."""
        async with self.opened() as sessions:
            await sessions.create("app", "ada", "s1")
            await sessions.append(KEY, [event_of(str(n)) for n in range(2_500)])
            whole = await read(sessions)
            reached = anyio.Event()

            async def broken() -> AsyncIterator[Event]:
                for event in whole.events[:-1]:
                    yield event
                assert await sessions.get(COPY) is None
                assert [info.key for info in await sessions.list()] == [KEY]
                raise OSError("the wire was cut")

            async def endless() -> AsyncIterator[Event]:
                for event in whole.events[:-1]:
                    yield event
                reached.set()
                await anyio.sleep_forever()

            copy = Session(key=COPY, state={}, version=0, created_at=0.0, updated_at=0.0)
            await raises(OSError, sessions.restore(copy, broken()))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(sessions.restore, copy, endless())
                await reached.wait()
                tasks.cancel_scope.cancel()
            assert await sessions.get(COPY) is None
            await sessions.restore(copy, whole.events)
            assert (await read(sessions, COPY)).events == whole.events

    async def test_of_many_who_put_one_session_back_one_succeeds(self) -> None:
        async with self.opened() as sessions:
            ended: dict[str, int] = defaultdict(int)

            async def restore(number: int) -> None:
                event = event_of(str(number))
                vars(event).update(serial=1, seq=1)
                info = Session(key=KEY, state={}, version=1, created_at=0.0, updated_at=0.0, initial={"by": number})
                await checkpoint()
                try:
                    await sessions.restore(info, [event])
                    ended[str(number)] += 1
                except SessionExists:
                    ended["refused"] += 1

            async with anyio.create_task_group() as tasks:
                for number in range(6):
                    tasks.start_soon(restore, number)
            assert ended.pop("refused") == 5
            (winner,) = ended
            session = await read(sessions)
            assert ([event.text for event in session.events], session.state) == ([winner], {"by": int(winner)})


def _story() -> list[Event]:
    """Five events that write and delete; `_own` says what the session's own state is after each."""
    return [
        event_of("one", actions=Actions({"a": 1, "user:y": 1, "app:x": 1})),
        event_of("two", branch="p.a", actions=Actions({"c": [1]}, ["b"])),
        event_of("three", branch="p.a"),
        event_of("four", run="run-2", branch="p.a", actions=Actions({"b": 4}, ["a", "c"])),
        event_of("five", run="run-2", actions=Actions({"a": None, "app:x": 9})),
    ]


def _own(at: int) -> dict[str, object]:
    states: list[dict[str, object]] = [
        {"a": 0, "b": 0}, {"a": 1, "b": 0}, {"a": 1, "c": [1]}, {"a": 1, "c": [1]}, {"b": 4}, {"a": None, "b": 4},
    ]  # fmt: skip
    return states[at]


async def _pages(sessions: SessionService, app: str | None, user: str | None, size: int) -> list[str]:
    """The ids of all sessions, listed so many at a time."""
    ids: list[str] = []
    before = None
    while page := await sessions.list(app, user, limit=size, before=before):
        assert len(page) <= size
        ids += [info.id for info in page]
        before = page[-1].changed
    return ids
