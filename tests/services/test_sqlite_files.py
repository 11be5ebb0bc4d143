"""Files that aren't what they should be, and files that others use too: a clear error or correct work."""

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
import trio

from agentflow import (
    Actions,
    ConfigError,
    Event,
    ParallelAgent,
    Runner,
    ServiceError,
    SessionKey,
    SQLiteStore,
)
from agentflow.content import Text
from agentflow.testing._store_suite import event_of, writing
from tests.core.actors import says
from tests.services.threads import until

KEY = SessionKey("app", "ada", "s1")
ROOT = Path(__file__).parents[2]


def change(path: Path, *statements: str) -> None:
    """Do something to a file behind its store's back."""
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


async def filled(store: SQLiteStore, count: int = 5) -> None:
    await store.sessions.create(*KEY, state={"k": 1})
    await store.sessions.append(KEY, [writing({"n": n}) for n in range(count)])
    await store.artifacts.save(KEY, "a.bin", b"x" * 600_000)


async def file_of(new_store: Callable[..., SQLiteStore]) -> Path:
    """The file of a store that was filled and is closed."""
    async with new_store() as store:
        await filled(store)
    return store.path


# What a file may be


@pytest.mark.parametrize("path", ["", ":memory:", "file:x.db"])
def test_what_is_no_file_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match="path of a file"):
        SQLiteStore(path)


@pytest.mark.parametrize(
    "settings", [{"durability": "disk"}, {"lock_timeout": -1}, {"lock_timeout": 9, "commit_timeout": 9}]
)
def test_settings_that_cannot_work_are_refused(settings) -> None:
    with pytest.raises(ConfigError):
        SQLiteStore("x.db", **settings)


async def test_a_new_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    async with SQLiteStore(tmp_path / "new.db") as store:
        assert not store.path.exists()  # nothing is done before it is used
        assert await store.upgrade() == (None, "0001")
        await filled(store)
        for file in tmp_path.iterdir():  # noqa: ASYNC240
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
    async with SQLiteStore(str(tmp_path / "new.db")) as store:
        assert await store.upgrade() == ("0001", "0001")
        assert await store.check() == []


async def test_a_folder_that_is_not_there_is_an_error_that_says_so(tmp_path: Path) -> None:
    async with SQLiteStore(tmp_path / "nowhere" / "x.db") as store:
        with pytest.raises(ServiceError, match="nowhere"):
            await store.sessions.get(KEY)
        with pytest.raises(ServiceError, match="nowhere"):
            await store.sessions.create(*KEY)


@pytest.mark.parametrize(
    "content", [b"not a database, but long enough to be one" * 100, b"SQLite format 3\0" + b"x" * 5000]
)
async def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    async with SQLiteStore(path) as store:
        for work in (store.sessions.create(*KEY), store.sessions.list(), store.artifacts.save(KEY, "a", "x")):
            with pytest.raises(ServiceError, match=r"notes\.txt"):
                await work
    assert path.read_bytes() == content


async def test_a_database_of_something_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    change(path, "CREATE TABLE notes (text TEXT)")
    before = path.read_bytes()
    async with SQLiteStore(path) as store:
        with pytest.raises(ServiceError, match="something else"):
            await store.sessions.create(*KEY)
    assert path.read_bytes() == before


async def test_an_empty_file_becomes_a_store(tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()
    async with SQLiteStore(tmp_path / "empty.db") as store:
        await filled(store)


async def test_a_file_of_a_newer_version_is_refused_and_left_alone(new_store) -> None:
    path = await file_of(new_store)
    change(path, "UPDATE af_version SET version_num = '9999'")
    before = path.read_bytes()
    async with SQLiteStore(path) as store:
        with pytest.raises(ServiceError, match=r"newer version of agentflow.*9999.*update agentflow"):
            await store.sessions.get(KEY)
        with pytest.raises(ServiceError, match="newer version"):
            await store.sessions.append(KEY, [event_of("a")])
    assert path.read_bytes() == before


async def test_a_file_that_is_opened_to_read_is_read_and_never_written(new_store) -> None:
    path = await file_of(new_store)
    async with SQLiteStore(path, read_only=True) as store:
        session = await store.sessions.get(KEY)
        assert session.version == 5
        assert (await store.artifacts.load(KEY, "a.bin")).size_bytes == 600_000
        event = event_of("a")
        for work in (
            store.sessions.append(KEY, [event]),
            store.sessions.create("app", "ada"),
            store.sessions.delete(KEY),
        ):
            with pytest.raises(ServiceError, match="can't be written to; nothing was written"):
                await work
        assert event.serial is None
    async with SQLiteStore(path.with_name("none.db"), read_only=True) as store:
        with pytest.raises(ServiceError, match=r"none\.db"):
            await store.sessions.get(KEY)
    assert not path.with_name("none.db").exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become somebody else")
async def test_a_file_that_may_not_be_written_says_so(new_store) -> None:
    path = await file_of(new_store)
    code = (
        "import os, sys, anyio\n"
        "from agentflow import *\n"
        "async def main():\n"
        "    async with SQLiteStore(sys.argv[1] + '.other') as store:\n"
        "        session = await store.sessions.create('app', 'ada')\n"
        "        await store.sessions.append(session.key, [Event(id='x')])\n"
        "        await store.sessions.get(session.key)\n"
        "    os.setgid(65534); os.setuid(65534)\n"  # all is imported: from now on it may be out of reach
        "    async with SQLiteStore(sys.argv[1]) as store:\n"
        "        key = SessionKey('app', 'ada', 's1')\n"
        "        try: print((await store.sessions.get(key)).version)\n"
        "        except ServiceError as error: print(error)\n"
        "        try: await store.sessions.append(key, [Event(id='x')])\n"
        "        except ServiceError as error: print(error)\n"
        "anyio.run(main)\n"
    )
    path.chmod(0o444)
    for folder in list(path.parents)[:-2]:
        folder.chmod(0o755)
    done = await anyio.run_process([sys.executable, "-c", code, str(path)], cwd=ROOT, check=False)
    lines = done.stdout.decode().splitlines()
    assert len(lines) == 2, done.stderr.decode()
    assert lines[0] == "5" or path.name in lines[0]
    assert path.name in lines[1]


READER = """
import os, sys, anyio
from agentflow import *

async def look(path, read_only):
    async with SQLiteStore(path, read_only=read_only) as store:
        try:
            session = await store.sessions.get(SessionKey("app", "ada", "s1"))
            artifact = await store.artifacts.load(session.key, "a.bin")
            print(session.version, artifact.size_bytes)
            print(await store.check())
            await store.sessions.append(session.key, [Event(id="x")])
        except ServiceError as error:
            print(error)

async def main():
    await look(sys.argv[1], False)  # all is imported now: from here on it may be out of reach
    os.setgid(65534); os.setuid(65534)
    for path in sys.argv[2:]:
        for read_only in (True, False):
            await look(path, read_only)

anyio.run(main)
"""


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become somebody else")
async def test_a_folder_that_may_not_be_written_to_can_be_read(new_store) -> None:
    """Closed, in use, and left by a process that was killed; what is in the log is never left out."""
    async with new_store() as store:
        await filled(store)
        closed, own = store.path, store.path.with_name("own.db")
    own.write_bytes(closed.read_bytes())
    used, cut = closed.with_name("used.db"), closed.with_name("cut.db")
    used.write_bytes(closed.read_bytes())
    for folder in list(closed.parents)[:-2]:
        folder.chmod(0o755)
    async with SQLiteStore(used) as store:
        await store.sessions.append(KEY, [event_of("in the log")])
        cut.write_bytes(used.read_bytes())
        cut.with_name("cut.db-wal").write_bytes(used.with_name("used.db-wal").read_bytes())
        for file in closed.parent.iterdir():
            file.chmod(0o644)
        there = {file.name: file.stat().st_size for file in closed.parent.iterdir() if not file.name.startswith("own")}
        done = await anyio.run_process([sys.executable, "-c", READER, *map(str, (own, closed, used, cut))], cwd=ROOT)
        assert there == {
            file.name: file.stat().st_size for file in closed.parent.iterdir() if not file.name.startswith("own")
        }
    lines = done.stdout.decode().splitlines()
    assert lines[0] == "5 600000", done.stderr.decode()
    lines = lines[2:]
    assert [lines[0], lines[3], lines[6], lines[9]] == ["5 600000", "5 600000", "6 600000", "6 600000"]
    assert [lines[n] for n in (1, 4, 7, 10)] == ["[]"] * 4
    assert all("nothing was written" in lines[n] or "can't be opened" in lines[n] for n in (2, 5, 8, 11))
    assert [f"copy {cut.name}* to a folder of yours" in line for line in lines[12:]] == [True, True]


async def test_what_is_opened_to_read_leaves_its_folder_as_it_is(new_store) -> None:
    path = await file_of(new_store)

    def there() -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in path.parent.iterdir()}

    before = there()
    async with SQLiteStore(path, read_only=True) as store:
        assert (await store.sessions.get(KEY)).version == 5
        assert await store.check() == []
        assert there() == before
        async with SQLiteStore(path) as other:  # whose log is read too
            await other.sessions.append(KEY, [event_of("a")])
            assert (await store.sessions.get(KEY)).version == 6
        assert (await store.sessions.get(KEY)).version == 6


async def test_a_file_that_changes_while_it_is_read_is_read_again(new_store) -> None:
    """Its pages may be of two states, or of none: neither what was read nor what failed then counts."""
    path = await file_of(new_store)
    title = "SELECT title FROM af_sessions"
    seen = []

    def work(connection: Any) -> str:
        (first,) = connection.execute(title).fetchone()
        seen.append(first)
        if len(seen) < 3:
            change(path, f"UPDATE af_sessions SET title = '{len(seen)}'")
        if len(seen) == 2:
            raise sqlite3.DatabaseError("a page of another state")
        return first

    async with SQLiteStore(path, read_only=True) as store:
        assert await store._database.read(work) == "2"
        assert seen == ["", "1", "2"]
        assert await store._database.read(lambda connection: connection.execute(title).fetchone()) == ("2",)


async def test_a_file_that_never_stays_the_same_is_an_error(new_store) -> None:
    path = await file_of(new_store)

    def work(connection: Any) -> None:
        os.utime(path)

    async with SQLiteStore(path, read_only=True) as store:
        with pytest.raises(ServiceError, match="others kept writing"):
            await store._database.read(work)


async def test_what_cannot_be_read_as_it_is_is_told_to_who_only_reads(new_store) -> None:
    path = await file_of(new_store)
    newer, empty = path.with_name("newer.db"), path.with_name("empty.db")
    newer.write_bytes(path.read_bytes())
    empty.touch()
    change(newer, "UPDATE af_version SET version_num = '9999'")
    for file, told in ((newer, "newer version of agentflow"), (empty, "nothing was ever stored")):
        before = file.read_bytes()
        async with SQLiteStore(file, read_only=True) as store:
            with pytest.raises(ServiceError, match=told):
                await store.sessions.get(KEY)
        assert file.read_bytes() == before


async def test_a_store_that_is_closed_says_so(new_store) -> None:
    store = new_store()
    await filled(store)
    await store.aclose()
    await store.aclose()
    for work in (store.sessions.get(KEY), store.sessions.append(KEY, [event_of("a")]), store.artifacts.list(KEY)):
        with pytest.raises(ServiceError, match="closed"):
            await work


# Damage


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("UPDATE af_events SET body = substr(body, 1, 20) WHERE id & 15 = 3", "event 3 of session 's1' is damaged"),
        ("UPDATE af_events SET body = '[1]' WHERE id & 15 = 3", "event 3 of session 's1' is damaged"),
        ("UPDATE af_events SET body = x'ff00' WHERE id & 15 = 3", "event 3 of session 's1' is damaged"),
        ("DELETE FROM af_events WHERE id & 15 = 3", "event 3 of session 's1' is missing"),
        ("DELETE FROM af_events WHERE id & 15 = 1", "event 1 of session 's1' is missing"),
        ("UPDATE af_state SET value = '{' WHERE name = 'k'", "state 'k' of session 's1' is damaged"),
        ("UPDATE af_sessions SET initial = 'x'", "first state of session 's1' is damaged"),
    ],
)
async def test_a_damaged_row_is_an_error_and_never_skipped(new_store, damage: str, told: str) -> None:
    path = await file_of(new_store)
    change(path, damage)
    async with SQLiteStore(path) as store:
        with pytest.raises(ServiceError, match=told):
            await store.sessions.get(KEY)
        assert await store.check() or "initial" in damage or "[1]" in damage


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("UPDATE af_events SET body = '[1]' WHERE id & 15 = 1", "event 1 of session 's1' is damaged"),
        ("DELETE FROM af_events WHERE id & 15 = 1", "event 1 of session 's1' is missing"),
    ],
)
async def test_a_damaged_first_event_is_an_error_where_many_are_read(new_store, damage: str, told: str) -> None:
    path = await file_of(new_store)
    change(path, damage)
    async with SQLiteStore(path) as store:
        with pytest.raises(ServiceError, match=told):
            await store.sessions.first_events([KEY])


async def test_damaged_content_of_a_file_is_noticed(new_store) -> None:
    damages = [
        ("UPDATE af_chunks SET data = zeroblob(length(data)) WHERE place = 1", "isn't what was saved", False),
        ("DELETE FROM af_chunks WHERE place = 1", "is damaged", True),
    ]
    for damage, told, checked in damages:
        path = await file_of(new_store)
        change(path, damage)
        async with SQLiteStore(path) as store:
            with pytest.raises(ServiceError, match=told):
                await store.artifacts.load(KEY, "a.bin")
            assert bool(await store.check()) == checked


async def test_a_file_of_which_a_page_was_overwritten_is_an_error(new_store) -> None:
    async with new_store() as store:
        await store.sessions.create(*KEY)
        for _ in range(20):
            await store.sessions.append(KEY, [event_of("x" * 1000) for _ in range(20)])
        path = store.path
    content = bytearray(path.read_bytes())
    for page in range(40, len(content) // 4096, 3):
        content[page * 4096 : page * 4096 + 2000] = b"\xa5" * 2000
    path.write_bytes(content)
    async with SQLiteStore(path) as store:
        with pytest.raises(ServiceError, match=r"damaged|missing"):
            await store.sessions.get(KEY)
        assert await store.check()


async def test_with_power_the_log_is_as_long_as_it_gets_from_the_first_write(new_store) -> None:
    """Or each sync would make it longer, which takes a disk half as long again."""
    async with new_store(durability="power") as store:
        log = store.path.with_name(store.path.name + "-wal")
        await store.sessions.create(*KEY)
        size = log.stat().st_size
        assert size > 4000 * 4096
        await store.sessions.append(KEY, [event_of("a")])
        assert log.stat().st_size == size
        assert store.path.stat().st_size < 1_000_000
        assert await store.check() == []
    async with new_store(durability="process") as store:
        await store.sessions.create(*KEY)
        assert store.path.with_name(store.path.name + "-wal").stat().st_size < 1_000_000


# Several users


async def test_who_is_locked_out_for_too_long_is_told_so_and_nothing_is_written(new_store) -> None:
    async with new_store(lock_timeout=0.05) as store:
        await filled(store)
        other = sqlite3.connect(store.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        event = event_of("a")
        with pytest.raises(ServiceError, match=r"another process has it locked for longer than 0.05 s; nothing was"):
            await store.sessions.append(KEY, [event])
        assert event.serial is None
        assert (await store.sessions.get(KEY)).version == 5  # reading needs no lock
        other.execute("ROLLBACK")
        other.close()
        await store.sessions.append(KEY, [event])
        assert event.serial == 6


async def test_who_is_locked_out_for_a_while_waits(new_store) -> None:
    async with new_store(lock_timeout=30) as store:
        await filled(store)
        other = sqlite3.connect(store.path, isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        event = event_of("a")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(store.sessions.append, KEY, [event])
            await until(lambda: store._database._writer._loop.batch)
            assert event.serial is None
            other.execute("ROLLBACK")
        other.close()
        assert event.serial == 6


async def test_who_opens_with_power_while_another_writes_waits_once(new_store) -> None:
    async with new_store(durability="power", lock_timeout=30) as store, SQLiteStore(store.path) as first:
        await filled(first)
        other = sqlite3.connect(store.path, isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        event = event_of("a")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(store.sessions.append, KEY, [event])
            await until(lambda: store._database._writer._loop.connection)
            assert event.serial is None
            other.execute("ROLLBACK")
        other.close()
        assert event.serial == 6


async def test_two_stores_on_one_file_see_each_others_writes(new_store) -> None:
    """Numbers go on, whatever the other has added, rewound or deleted; state too."""
    async with new_store() as one, SQLiteStore(one.path) as other:
        await one.sessions.create(*KEY)
        for n in range(10):
            store = (one, other)[n % 2]
            event = event_of(str(n), branch="p.a", actions=Actions({"n": n}))
            await store.sessions.append(KEY, [event])
            assert (event.serial, event.seq) == (n + 1, n + 1)
        await one.sessions.rewind(KEY, 4)
        event = event_of("after", branch="p.a")
        await other.sessions.append(KEY, [event])
        assert (event.serial, event.seq) == (5, 5)
        assert (await one.sessions.get(KEY)).state == {"n": 3}
        await one.sessions.delete(KEY)
        await one.sessions.create(*KEY)
        event = event_of("anew", branch="p.a")
        await other.sessions.append(KEY, [event])
        assert (event.serial, event.seq) == (1, 1)
        assert await one.check() == []


PROGRAM = """
import sys, anyio
from agentflow import Actions, SessionKey, SQLiteStore
from agentflow.testing._store_suite import event_of

async def main(path, name):
    async with SQLiteStore(path, lock_timeout=50) as store:
        async def branch(number):
            for n in range(40):
                event = event_of(f"{name}.{number}.{n}", run=name, branch=f"p.b{number}")
                await store.sessions.append(SessionKey("app", "ada", "s1"), [event])
        async with anyio.create_task_group() as tasks:
            for number in range(3):
                tasks.start_soon(branch, number)

anyio.run(main, *sys.argv[1:3], backend=sys.argv[3])
"""


async def test_several_processes_write_to_one_session(new_store) -> None:
    """Every number is given once, and each branch's events are in their order."""
    async with new_store() as store:
        await store.sessions.create(*KEY)
        programs = [
            subprocess.Popen([sys.executable, "-c", PROGRAM, str(store.path), f"run-{n}", backend], cwd=ROOT)  # noqa: ASYNC220 - starts at once
            for n, backend in enumerate(["asyncio", "trio", "asyncio"])
        ]
        for program in programs:
            assert await anyio.to_thread.run_sync(program.wait, 60) == 0
        session = await store.sessions.get(KEY)
        assert [event.serial for event in session.events] == list(range(1, 361))
        for run in range(3):
            for branch in range(3):
                line = [event for event in session.events
                        if event.invocation_id == f"run-{run}" and event.branch == f"p.b{branch}"]  # fmt: skip
                assert [event.text for event in line] == [f"run-{run}.{branch}.{n}" for n in range(40)]
                assert [event.seq for event in line] == list(range(1, 41))
        assert await store.check() == []


async def test_several_processes_make_one_file_at_once(tmp_path: Path) -> None:
    """One brings the tables up to date, the others wait for it."""
    path = tmp_path / "new.db"
    code = (
        "import sys, anyio\nfrom agentflow import SQLiteStore\n"
        "async def main():\n"
        "    async with SQLiteStore(sys.argv[1], lock_timeout=50) as store:\n"
        "        await store.sessions.create('app', 'ada', sys.argv[2])\n"
        "anyio.run(main)\n"
    )
    programs = [subprocess.Popen([sys.executable, "-c", code, str(path), f"s{n}"], cwd=ROOT) for n in range(4)]  # noqa: ASYNC220 - starts at once
    for program in programs:
        assert await anyio.to_thread.run_sync(program.wait, 60) == 0
    async with SQLiteStore(path) as store:
        assert sorted(info.id for info in await store.sessions.list()) == ["s0", "s1", "s2", "s3"]
        assert await store.check() == []


async def test_a_store_is_of_one_process(new_store) -> None:
    async with new_store() as store:
        await filled(store)
        store._database._writer._pid += 1  # as after a fork
        with pytest.raises(ServiceError, match="before a fork"):
            await store.sessions.append(KEY, [event_of("a")])
        store._database._writer._pid -= 1


def test_one_store_serves_several_event_loops(new_store) -> None:
    """One after the other, and at the same time in several threads, whatever their kind."""
    store = new_store()
    anyio.run(filled, store)

    async def append(name: str) -> None:
        for n in range(30):
            await store.sessions.append(KEY, [event_of(f"{name}.{n}")])
            await store.sessions.get(KEY, recent=1)

    threads = [
        threading.Thread(target=anyio.run, args=(append, str(n)), kwargs={"backend": backend})
        for n, backend in enumerate(["asyncio", "trio", "asyncio", "trio"])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    async def look() -> None:
        session = await store.sessions.get(KEY)
        assert session.version == 5 + 120
        await store.aclose()

    anyio.run(look, backend="trio")


async def test_two_event_loops_in_one_thread_are_told_apart(new_store, anyio_backend_name: str) -> None:
    """trio as asyncio's guest: the store wakes each in its own."""
    if anyio_backend_name == "trio":
        return  # it is the guest here, not the host
    async with new_store() as store:
        await store.sessions.create(*KEY)

        async def append(name: str) -> None:
            for n in range(5):
                await store.sessions.append(KEY, [event_of(f"{name}.{n}")])

        host = asyncio.get_running_loop()
        ended: asyncio.Future[Any] = host.create_future()
        with anyio.fail_after(30):
            trio.lowlevel.start_guest_run(
                append,
                "guest",
                run_sync_soon_threadsafe=host.call_soon_threadsafe,
                done_callback=ended.set_result,
            )
            await append("host")
            (await ended).unwrap()
        assert (await store.sessions.get(KEY, recent=0)).version == 10


# Sizes


async def test_a_run_stores_events_up_to_the_limit_it_is_given(new_store) -> None:
    """64 MiB, here; nothing else is raised for it."""
    text = "ä" * (31 * 1024 * 1024)
    async with new_store() as store:
        async with (
            Runner(says("big", text), sessions=store.sessions, max_event_bytes=64 * 1024 * 1024) as runner,
            runner.run("go", session_id="s") as run,
        ):
            assert (await run.wait()).text == text
        session = await store.sessions.get(run.session)
        assert [len(event.text) for event in session.events if event.text] == [2, len(text)]
        assert await store.check() == []


async def test_a_thousand_branches_are_stored_together(new_store) -> None:
    root = ParallelAgent("p", [says(f"a{n}", "one", "two") for n in range(1_000)])
    async with new_store() as store, Runner(root, sessions=store.sessions) as runner:
        async with runner.run("go") as run:
            delivered = [event.serial async for event in run]
        session = await store.sessions.get(run.session)
        assert [event.serial for event in session.events] == list(range(1, session.version + 1))
        assert delivered == [event.serial for event in session.events if event.author != "user"]
        assert len({event.branch for event in session.events}) == 1_001
        await store.sessions.rewind(run.session, 1_500)
        copy = await store.sessions.fork(run.session, at=1_200)
        assert (await store.sessions.get(copy)).version == 1_200
        assert await store.check() == []


async def test_what_was_never_finished_is_removed_in_time(new_store) -> None:
    """A restore and a save whose process ended half-way: nobody sees them; a vacuum a day later removes them."""
    now = [1_000_000.0]
    async with new_store(time=lambda: now[0]) as store:
        await filled(store)
        whole = await store.sessions.get(KEY)
        reached = anyio.Event()

        async def events():
            for event in whole.events:
                yield event
            reached.set()
            await anyio.sleep_forever()

        async def chunks():
            yield b"x" * 600_000
            await reached.wait()
            raise OSError("cut")

        database = store._database
        drops, store.sessions._drop, store.artifacts._drop = [], lambda *_: None, lambda *_: None
        copy = SessionKey("app", "ada", "copy")
        whole.key = copy
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(store.sessions.restore, whole, events())
            with pytest.raises(OSError, match="cut"):
                await store.artifacts.save(KEY, "half.bin", chunks())
            tasks.cancel_scope.cancel()
        assert drops == []
        del store.sessions._drop, store.artifacts._drop
        asked = "SELECT (SELECT count(*) FROM af_sessions) || ' ' || (SELECT count(*) FROM af_files)"
        assert [info.key for info in await store.sessions.list()] == [KEY]
        assert await store.artifacts.list(KEY) == ["a.bin"]
        for later, left in ((0, "2 2"), (25 * 3600, "1 1")):
            now[0] += later
            await store.vacuum()
            assert await database.read(lambda connection: connection.execute(asked).fetchone()[0]) == left
        assert await store.check() == []


async def test_a_vacuum_gives_space_back(new_store) -> None:
    async with new_store() as store:
        await filled(store)
        await store.artifacts.save(KEY, "big.bin", b"x" * 5_000_000)
        await store.artifacts.delete(KEY, "big.bin")
        assert await store.vacuum() > 4_000_000
        assert await store.vacuum() < 100_000
        assert (await store.sessions.get(KEY)).version == 5
        event = Event(id="x", parts=(Text("after"),))
        await store.sessions.append(KEY, [event])
        assert event.serial == 6
