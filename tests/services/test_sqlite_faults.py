"""The disk fails, is full, or is locked, at every call in turn: a typed error, nothing half-known, and on it goes."""

import asyncio
import gc
import os
import sqlite3
import threading
from collections.abc import Callable

import anyio
import pytest
from anyio.lowlevel import checkpoint

from agentflow import (
    AgentflowError,
    CommitUnknown,
    Event,
    Runner,
    ServiceError,
    SessionKey,
    SQLiteStore,
)
from agentflow.testing._store_suite import event_of
from tests.faults.checks import log_problems, state_problems
from tests.services.crashes import MIXED
from tests.services.threads import until

KEY = SessionKey("app", "ada", "s1")
STEP = int(os.environ.get("AGENTFLOW_STEP", "11"))
"""Every so many points are tried; 1 is every one."""


class Faults:
    """Lets the n-th call of the database fail, on whatever connection."""

    def __init__(self, at: int, name: str, told: str) -> None:
        self.at = at
        self.name = name
        self.told = told
        self.count = 0
        self.lock = threading.Lock()

    def call(self) -> None:
        with self.lock:
            self.count += 1
            if self.count != self.at:
                return
        error = sqlite3.OperationalError(self.told)
        error.sqlite_errorname = self.name
        raise error

    def connections(self) -> type[sqlite3.Connection]:
        faults = self

        class Cursor(sqlite3.Cursor):
            def execute(self, *args):
                faults.call()
                return super().execute(*args)

            def executemany(self, *args):
                faults.call()
                return super().executemany(*args)

        class Connection(sqlite3.Connection):
            def cursor(self):
                return super().cursor(Cursor)

            def execute(self, *args):
                faults.call()
                return super().execute(*args)

            def commit(self) -> None:
                faults.call()
                super().commit()

        return Connection


def only_ours(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(only_ours(one) for one in error.exceptions)
    return isinstance(error, AgentflowError)


async def play(store: SQLiteStore) -> tuple[list[Event], BaseException | None]:
    """A mixed run: what it delivered, and how it failed if it did."""
    delivered: list[Event] = []
    try:
        async with Runner(MIXED, sessions=store.sessions, artifacts=store.artifacts, memory=store.memory) as runner:
            async with runner.run("go", session_id="s") as run:
                async for event in run:
                    delivered.append(event)  # noqa: PERF401 - what came before an error counts
            session = await store.sessions.get(run.session)
            await store.memory.add_session(session)
            await store.memory.search("mixed", "user", "go")
    except Exception as error:
        return delivered, error
    return delivered, None


async def problems_after(store: SQLiteStore, delivered: list[Event]) -> list[str]:
    """What is wrong with the store, now that it works again."""
    problems = await store.check()
    key = SessionKey("mixed", "user", "s")
    session = await store.sessions.get(key)
    if session is None:
        return [*problems, *(["the session is gone"] if delivered else [])]
    places = {(event.id, event.serial, event.seq) for event in session.events}
    problems += [
        f"{event.id} was delivered and is lost"
        for event in delivered
        if not event.partial and (event.id, event.serial, event.seq) not in places
    ]
    _, error = await play(store)
    if error is not None:
        problems.append(f"the next turn failed: {error!r}")
    session = await store.sessions.get(key)
    # The store failed while it was told of ends: turns may be left without one. All else must be as ever.
    problems += [problem for problem in log_problems(session.events) if " has no " not in problem]
    return problems + state_problems(session, {}) + await store.check()


FAULTS = {
    "I/O error": ("SQLITE_IOERR_WRITE", "disk I/O error", "the disk failed"),
    "disk full": ("SQLITE_FULL", "database or disk is full", "the disk is full"),
    "locked": ("SQLITE_BUSY", "database is locked", "another process has it locked"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_call_that_fails_is_a_typed_error_and_leaves_nothing_half_known(fault: str, new_store) -> None:
    name, told, explained = FAULTS[fault]
    wrong: list[str] = []
    failed = 0
    for at in range(1 + list(FAULTS).index(fault), 10_000, STEP):
        faults = Faults(at, name, told)
        with anyio.fail_after(60):
            async with new_store() as store:
                store._driver.factory = faults.connections()
                delivered, error = await play(store)
                hit, faults.at = faults.count >= at, 0
                if error is not None:
                    failed += 1
                    if not only_ours(error):
                        wrong.append(f"call {at}: it raised {error!r}")
                    elif explained not in _texts(error):
                        wrong.append(f"call {at}: it says {_texts(error)!r}")
                wrong += [f"call {at}: {problem}" for problem in await problems_after(store, delivered)]
        if not hit:
            break
    assert failed > 150 / STEP
    assert not wrong, "\n".join(wrong[:10])


@pytest.mark.parametrize("fault", FAULTS)
async def test_opening_for_power_fails_cleanly_or_not_at_all(fault: str, new_store) -> None:
    """At each call of the first write; making the log long is worth no error."""
    name, told, explained = FAULTS[fault]
    failed = passed = 0
    for at in range(1, 10_000):
        faults = Faults(at, name, told)
        with anyio.fail_after(60):
            async with new_store(durability="power") as store:
                store._driver.factory = faults.connections()
                raised: Exception | None = None
                try:
                    await store.sessions.create(*KEY)
                except ServiceError as error:
                    raised = error
                hit, faults.at = faults.count >= at, 0
                if raised is None:
                    passed += 1
                else:
                    failed += 1
                    assert explained in str(raised)
                    assert await store.sessions.get(KEY) is None
                    await store.sessions.create(*KEY)
                await store.sessions.append(KEY, [event_of("a")])
                assert (await store.sessions.get(KEY)).version == 1
                assert await store.check() == []
        if not hit:
            break
    assert failed > 10
    assert passed == 3 + 1  # BEGIN, CREATE, INSERT; and when no call failed


def _texts(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return " ".join(_texts(one) for one in error.exceptions)
    return str(error)


async def test_a_file_that_may_not_grow_any_more_keeps_what_is_in_it(new_store) -> None:
    """SQLite itself finds no page for what is to be written, at every size in turn."""
    wrong: list[str] = []
    failed = 0
    for pages in range(0, 2_000, 2 * STEP):
        with anyio.fail_after(60):
            async with new_store() as store:
                limit = _pages(store, pages)
                delivered, error = await play(store)
                limit(0x7FFFFFFF)
                if error is None:
                    break
                failed += 1
                if not only_ours(error) or "the disk is full" not in _texts(error):
                    wrong.append(f"{pages} pages: it raised {error!r}")
                wrong += [f"{pages} pages: {problem}" for problem in await problems_after(store, delivered)]
    assert failed > 1
    assert not wrong, "\n".join(wrong[:10])


def _pages(store: SQLiteStore, more: int) -> Callable[[int], object]:
    """Let the store's file grow by so many pages; gives what sets the limit anew."""
    connect, connections = store._driver.connect, []

    def limited(*, writes: bool) -> sqlite3.Connection:
        connection = connect(writes=writes)
        if writes:
            (now,) = connection.execute("PRAGMA page_count").fetchone()
            connection.execute(f"PRAGMA max_page_count = {now + more}")
            connections.append(connection)
        return connection

    store._driver.connect = limited
    return lambda most: [connection.execute(f"PRAGMA max_page_count = {most}") for connection in connections]


class Stuck(sqlite3.Connection):
    """Commits when it is let to."""

    gate = threading.Event()

    def commit(self) -> None:
        self.gate.wait(30)
        super().commit()


@pytest.fixture
def stuck(new_store):
    """A store that doesn't answer within its time, once it is told to be so."""
    Stuck.gate = threading.Event()
    Stuck.gate.set()
    store = new_store(lock_timeout=0.01, commit_timeout=0.05)
    store._driver.factory = Stuck
    yield store
    Stuck.gate.set()


async def test_who_waits_too_long_is_told_that_nobody_knows(stuck: SQLiteStore) -> None:
    """And who waits behind that one, that nothing was written. Later, the store goes on where it was."""
    async with stuck as store:
        writer = store._database._writer._loop
        writer.timeout = 60.0  # but for now: opening the file may take longer than what is tried here
        await store.sessions.create(*KEY)
        writer.timeout = 0.05
        Stuck.gate.clear()
        told: dict[str, Exception] = {}

        async def append(name: str, event: Event) -> None:
            try:
                await store.sessions.append(KEY, [event])
            except ServiceError as error:
                told[name] = error

        events = [event_of(name) for name in ("first", "second")]
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(append, "first", events[0])
                await until(lambda: writer.began)
                tasks.start_soon(append, "second", events[1])
        assert type(told["first"]) is CommitUnknown
        assert type(told["second"]) is ServiceError
        with anyio.fail_after(30):
            await append("third", event_of("third"))
        assert type(told["third"]) is ServiceError
        writer.timeout = 60.0
        Stuck.gate.set()
        late = event_of("late")
        await store.sessions.append(KEY, [late])
        assert (late.serial, events[0].serial, events[1].serial) == (2, 1, None)
        session = await store.sessions.get(KEY)
        assert [event.text for event in session.events] == ["first", "late"]


async def test_what_is_kept_in_mind_is_bounded_and_changes_no_number(
    new_store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More sessions and branches than are kept, in one transaction."""
    monkeypatch.setattr("agentflow.services.sql.log._SESSIONS", 3)
    monkeypatch.setattr("agentflow.services.sql.log._LINES", 4)
    async with new_store() as store:
        keys = [SessionKey("app", "ada", f"s{n}") for n in range(6)]
        for key in keys:
            await store.sessions.create(*key)
        async with anyio.create_task_group() as tasks:
            for n in range(60):
                tasks.start_soon(store.sessions.append, keys[n % 6], [event_of(str(n), branch=f"p.b{n % 7}")])
        await store.sessions.append(keys[0], [event_of("x", branch=f"p.b{n % 9}") for n in range(40)])
        log = store.sessions._log
        assert len(log._known) <= 3
        assert all(len(known.lines) <= 4 for known in log._known.values())
        for key in keys:
            session = await store.sessions.get(key)
            assert [event.serial for event in session.events] == list(range(1, session.version + 1))
        assert [(await store.sessions.get(key)).version for key in keys] == [50, 10, 10, 10, 10, 10]
        assert await store.check() == []


async def test_an_append_outlasts_the_cancellation_of_its_task(new_store) -> None:
    """What was asked for is committed, its numbers are known, and the cancellation comes after."""
    async with new_store() as store:
        await store.sessions.create(*KEY)
        reached = []
        for steps in range(12):
            event = event_of(str(steps))

            async def append(event: Event = event) -> None:
                await store.sessions.append(KEY, [event])
                reached.append(event.text)
                await checkpoint()
                reached.append("went on")

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(append)
                for _ in range(steps):
                    await checkpoint()
                tasks.cancel_scope.cancel()
            if event.serial is None:
                assert steps == 0, "it had begun"
        session = await store.sessions.get(KEY)
        assert [event.text for event in session.events] == [text for text in reached if text != "went on"]
        assert [event.serial for event in session.events] == list(range(1, len(session.events) + 1))


async def test_a_task_that_asyncio_itself_cancels_is_cancelled_and_its_append_stored(
    new_store, anyio_backend_name
) -> None:
    if anyio_backend_name != "asyncio":
        return
    async with new_store() as store:
        await store.sessions.create(*KEY)
        event = event_of("a")
        task = asyncio.ensure_future(store.sessions.append(KEY, [event]))
        await checkpoint()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert event.serial == 1
        assert (await store.sessions.get(KEY)).version == 1


async def test_one_that_cannot_be_stored_takes_none_of_the_others_with_it(new_store) -> None:
    """They share a transaction; it fails because of one, and each gets one of its own."""
    async with new_store() as store:
        await store.sessions.create(*KEY)
        good = [event_of(str(n)) for n in range(6)]
        bad = event_of("bad")
        bad.__dict__["branch"] = "a\ud800"  # which no boundary of ours lets through
        errors: list[Exception] = []

        async def append(event: Event) -> None:
            try:
                await store.sessions.append(KEY, [event])
            except AgentflowError as error:
                errors.append(error)

        async with anyio.create_task_group() as tasks:
            for event in [*good[:3], bad, *good[3:]]:
                tasks.start_soon(append, event)
        assert len(errors) == 1
        assert sorted(event.serial for event in good) == [1, 2, 3, 4, 5, 6]
        assert bad.serial is None
        assert (await store.sessions.get(KEY)).version == 6


async def test_a_store_that_was_dropped_ends_its_threads_and_lets_go_of_its_file(new_store) -> None:
    store = new_store()
    await store.sessions.create(*KEY)
    await store.sessions.get(KEY)
    path = store.path
    threads = [thread for thread in threading.enumerate() if path.name in thread.name]
    assert len(threads) == 2
    del store
    gc.collect()
    for thread in threads:
        await anyio.to_thread.run_sync(thread.join, 10)
        assert not thread.is_alive()
