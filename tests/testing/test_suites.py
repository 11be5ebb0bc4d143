"""The suites notice: each promise that a service breaks fails a test. And pytest collects them as they are."""

import inspect
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from agentflow import (
    Event,
    InMemoryArtifactService,
    InMemoryMemoryService,
    InMemorySessionService,
    SessionKey,
)
from agentflow.services.sessions import InOrder, _Pages
from agentflow.testing import ArtifactServiceSuite, MemoryServiceSuite, SessionServiceSuite


def stores_none_for_deleted(store: InMemorySessionService) -> None:
    def append(events: Any) -> None:
        for event in events:
            if event.actions:
                event.actions.state_delta.update(dict.fromkeys(event.actions.state_removed))
                event.actions.state_removed = []

    before(store, "append", lambda key, events, **_: append(events))


def forgets_at_once(store: InMemorySessionService) -> None:
    store.append_now = lambda key, event: True


def commits_to_nowhere_at_once(store: InMemorySessionService) -> None:
    store.append_now = lambda key, event: key not in store._records or type(store).append_now(store, key, event)


def stores_temporary_state(store: InMemorySessionService) -> None:
    real = store._apply

    def apply(key, record, delta, removed):
        real(key, record, {name.replace("temp:", "tmp."): value for name, value in delta.items()}, removed)

    store._apply = apply


def forgets_prefixes(store: InMemorySessionService) -> None:
    store._home = lambda key, record, name: (record.state, name)


def shares_by_a_loose_prefix(store: InMemorySessionService) -> None:
    real = store._home
    store._home = lambda key, record, name: real(key, record, f"app:{name}" if name.startswith("app") else name)


def overwrites_on_create(store: InMemorySessionService) -> None:
    before(store, "create", lambda app, user, id=None, **_: store._records.pop(SessionKey(app, user, id), None))


def reads_all(store: InMemorySessionService) -> None:
    real = store.get

    async def get(key, *, recent=None, after=None, limit=None):
        return await real(key, limit=limit)

    store.get = get


def reads_the_first(store: InMemorySessionService) -> None:
    real = store.get

    async def get(key, *, recent=None, after=None, limit=None):
        session = await real(key, after=after, limit=limit)
        if session is not None and recent is not None:
            session.events = session.events[:recent]
        return session

    store.get = get


def ignores_after_with_recent(store: InMemorySessionService) -> None:
    real = store.get

    async def get(key, *, recent=None, after=None, limit=None):
        return await real(key, recent=recent, after=None if recent is not None else after, limit=limit)

    store.get = get


def ignores_the_version(store: InMemorySessionService) -> None:
    real = store.append
    store.append = lambda key, events, *, expected_version=None: real(key, events)


def stores_one_by_one(store: InMemorySessionService) -> None:
    real = store.append

    async def append(key, events, *, expected_version=None):
        if not events:
            await real(key, events, expected_version=expected_version)
        for number, event in enumerate(events):
            await real(key, [event], expected_version=None if number else expected_version)
            await checkpoint()

    store.append = append


def loses_updates(store: InMemorySessionService) -> None:
    """Reads, lets others go first, writes what it had read."""
    real = store.append

    async def append(key, events, *, expected_version=None):
        record = store._records.get(key)
        log = list(record.events) if record else []
        await checkpoint()
        if record:
            record.events[:] = log
        await real(key, events, expected_version=expected_version)

    store.append = append


def stores_what_is_small_first(store: InMemorySessionService) -> None:
    """As a pool of connections would."""

    async def dawdle(key, events, **_):
        for _ in events:
            await checkpoint()

    before(store, "append", dawdle)


def counts_serials_per_run(store: InMemorySessionService) -> None:
    async def renumber(key, events):
        for number, event in enumerate(events, 1):
            event.__dict__["serial"] = number

    after(store, "append", renumber)


def counts_seq_per_session(store: InMemorySessionService) -> None:
    async def renumber(key, events):
        for event in events:
            event.__dict__["seq"] = event.serial

    after(store, "append", renumber)


def drops_what_is_new(store: InMemorySessionService) -> None:
    real = store.get

    async def get(key, **options):
        session = await real(key, **options)
        if session is not None:
            session.events = [Event(**event.__dict__) for event in session.events]
        return session

    store.get = get


def deletes_shared_state(store: InMemorySessionService) -> None:
    before(store, "delete", lambda key: (store._app_state.clear(), store._user_state.clear()))


def deletes_by_id(store: InMemorySessionService) -> None:
    def drop(key):
        for other in [other for other in store._records if other.session_id == key.session_id]:
            del store._records[other]

    before(store, "delete", drop)


def lists_in_the_order_of_making(store: InMemorySessionService) -> None:
    real = store.list

    async def list_them(app_name=None, user_id=None, *, limit=None, before=None):
        page = await real(app_name, user_id, before=before)
        return sorted(page, key=lambda info: info.created_at)[:limit]

    store.list = list_them


def takes_events_of_nowhere(store: InMemorySessionService) -> None:
    async def make(key, events, **_):
        if key not in store._records:
            await store.create(*key)

    before(store, "append", make)


def numbers_what_it_refuses(store: InMemorySessionService) -> None:
    real = store.append

    async def append(key, events, *, expected_version=None):
        try:
            await real(key, events, expected_version=expected_version)
        except Exception:
            for event in events:
                event.__dict__["serial"] = event.serial or 99
            raise

    store.append = append


def ignores_case(store: InMemorySessionService) -> None:
    for name in ("get", "append", "delete"):
        real = getattr(store, name)

        def call(key, *args, real=real, **options):
            return real(SessionKey(*map(str.lower, key)), *args, **options)

        setattr(store, name, call)
    make = store.create
    store.create = lambda app, user, id=None, **options: make(app.lower(), user.lower(), id and id.lower(), **options)


def hands_out_its_own_state(store: InMemorySessionService) -> None:
    store._state = lambda key, record: record.state


def keeps_state_when_it_goes_back(store: InMemorySessionService) -> None:
    real = store.rewind

    async def rewind(key, to):
        state = dict(store._records[key].state) if key in store._records else {}
        await real(key, to)
        store._records[key].state = state

    store.rewind = rewind


def goes_back_in_shared_state_too(store: InMemorySessionService) -> None:
    before(store, "rewind", lambda key, to: (store._app_state.clear(), store._user_state.clear()))


def counts_on_when_it_has_gone_back(store: InMemorySessionService) -> None:
    real = store.rewind

    async def rewind(key, to):
        seqs = store._records[key].seqs if key in store._records else {}
        await real(key, to)
        store._records[key].seqs = seqs

    store.rewind = rewind


def goes_back_to_anything(store: InMemorySessionService) -> None:
    real = store.rewind

    async def rewind(key, to):
        session = await store.get(key, recent=0)
        await real(key, min(max(to, 0), session.version) if session else to)

    store.rewind = rewind


def puts_back_event_by_event(store: InMemorySessionService) -> None:
    async def restore(info, events):
        await store.create(*info.key, state=info.initial)
        record = store._records[info.key]
        record.title, record.created_at = info.title, info.created_at
        for name, value in info.state.items():
            if name.startswith(("app:", "user:")):
                home, short = store._home(info.key, record, name)
                home.setdefault(short, value)
        async for event in InOrder(events):
            store._add(info.key, record, event)

    store.restore = restore


def overwrites_what_is_shared(store: InMemorySessionService) -> None:
    real = store.restore

    async def restore(info, events):
        await real(info, events)
        for name, value in info.state.items():
            home, short = store._home(info.key, store._records[info.key], name)
            home[short] = value

    store.restore = restore


def renumbers_what_it_puts_back(store: InMemorySessionService) -> None:
    real = store.restore

    async def restore(info, events):
        every = [event async for event in events] if hasattr(events, "__aiter__") else list(events)
        for serial, event in enumerate(every, 1):
            event.__dict__["serial"] = event.serial or serial
            event.__dict__["seq"] = event.seq or serial
        await real(info, every)

    store.restore = restore


def forgets_times_and_titles(store: InMemorySessionService) -> None:
    real = store.restore
    store.restore = lambda info, events: real(replace(info, title="", created_at=0.0), events)


def has_no_pages(store: InMemorySessionService) -> None:
    real = store.list
    store.list = lambda app_name=None, user_id=None, *, limit=None, before=None: real(app_name, user_id)


def pages_by_number(store: InMemorySessionService) -> None:
    """Counts from the front, where what changed meanwhile has come in."""
    real = store.list
    seen: list[int] = []

    async def list_them(app_name=None, user_id=None, *, limit=None, before=None):
        if before is None:
            seen.clear()
        page = (await real(app_name, user_id))[len(seen) :][:limit]
        seen.extend(info.changed for info in page)
        return page

    store.list = list_them


def reads_the_last_page_first(store: InMemorySessionService) -> None:
    real = store.get

    async def get(key, *, recent=None, after=None, limit=None):
        session = await real(key, recent=recent, after=after)
        if session is not None and limit is not None:
            session.events = session.events[-limit:] if limit else []
        return session

    store.get = get


def reads_what_comes_meanwhile(store: InMemorySessionService) -> None:
    class Reading(_Pages):
        async def _turn(self):
            self._end = None
            return await super()._turn() if self._after < 50 else None

    store.events = lambda key, *, after=0, until=None, page=1_000: Reading(store, key, after, until, page)


def deletes_what_has_changed(store: InMemorySessionService) -> None:
    real = store.delete
    store.delete = lambda key, *, expected_version=None: real(key)


def has_one_title(store: InMemorySessionService) -> None:
    real = store.rename

    async def rename(key, title):
        await real(key, title)
        for record in store._records.values():
            record.title = title

    store.rename = rename


def forks_the_whole(store: InMemorySessionService) -> None:
    real = store.fork
    store.fork = lambda key, *, at=None, session_id=None: real(key, session_id=session_id)


def reuses_numbers(store: InMemoryArtifactService) -> None:
    after(store, "delete", lambda *_, **__: store._last.clear())


def keeps_user_files_to_the_session(store: InMemoryArtifactService) -> None:
    real = store.save, store.load, store.list

    def named(name: str) -> str:
        return name.replace("user:", "own.")

    store.save = lambda key, name, data, **options: real[0](key, named(name), data, **options)
    store.load = lambda key, name, **options: real[1](key, named(name), **options)


def takes_any_name(store: InMemoryArtifactService) -> None:
    real = store.save
    store.save = lambda key, name, data, **options: real(key, name.replace("/", "_") or "x", data, **options)


def takes_a_number_before_the_stream(store: InMemoryArtifactService) -> None:
    real = store.save

    async def save(key, name, data, **options):
        if not isinstance(data, (bytes, str)):
            await real(key, name, b"")
        return await real(key, name, data, **options)

    store.save = save


def lists_as_it_comes(store: InMemoryArtifactService) -> None:
    real = store.list

    async def list_them(key):
        return list(reversed(await real(key)))

    store.list = list_them


def hashes_nothing(store: InMemoryArtifactService) -> None:
    real = store.load

    async def load(*args, **options):
        found = await real(*args, **options)
        return found and replace(found, sha256="")

    store.load = load


def remembers_numbers_of_the_gone(store: InMemoryArtifactService) -> None:
    real = store.delete_session

    async def delete_session(key):
        last = dict(store._last)
        await real(key)
        store._last = last

    store.delete_session = delete_session


def deletes_the_users_files_too(store: InMemoryArtifactService) -> None:
    after(store, "delete_session", lambda key: store._files.pop((key.app_name, key.user_id, None), None))


def opens_the_latest_only(store: InMemoryArtifactService) -> None:
    real = store.open
    store.open = lambda key, name, *, version=None: real(key, name)


def never_forgets(memory: InMemoryMemoryService) -> None:
    async def delete_session(key):
        return None

    memory.delete_session = delete_session


def adds_again(memory: InMemoryMemoryService) -> None:
    real = memory.add_session
    before(memory, "add_session", lambda session: None)
    kept: dict[Any, list[Event]] = {}

    async def add(session):
        kept.setdefault(session.key, []).extend(session.events)
        await real(replace(session, events=kept[session.key]))

    memory.add_session = add


def finds_everybody(memory: InMemoryMemoryService) -> None:
    real_add, real_search = memory.add_session, memory.search
    memory.add_session = lambda session: real_add(replace(session, key=SessionKey("app", "all", "/".join(session.key))))
    memory.search = lambda app, user, query, **options: real_search("app", "all", query, **options)


def ranks_backwards(memory: InMemoryMemoryService) -> None:
    real = memory.search

    async def search(app, user, query, *, limit=10):
        return list(reversed(await real(app, user, query, limit=1_000)))[:limit]

    memory.search = search


def has_no_limit(memory: InMemoryMemoryService) -> None:
    real = memory.search
    memory.search = lambda app, user, query, *, limit=10: real(app, user, query, limit=1_000)


def before(service: Any, name: str, act: Callable[..., Any]) -> None:
    real = getattr(service, name)

    async def call(*args, **options):
        done = act(*args, **options)
        if inspect.isawaitable(done):
            await done
        return await real(*args, **options)

    setattr(service, name, call)


def after(service: Any, name: str, act: Callable[..., Any]) -> None:
    real = getattr(service, name)

    async def call(*args, **options):
        result = await real(*args, **options)
        done = act(*args)
        if inspect.isawaitable(done):
            await done
        return result

    setattr(service, name, call)


SESSIONS = [
    forgets_at_once, commits_to_nowhere_at_once, stores_none_for_deleted, stores_temporary_state, forgets_prefixes,
    shares_by_a_loose_prefix, overwrites_on_create, reads_all, reads_the_first, ignores_after_with_recent,
    ignores_the_version, stores_one_by_one, loses_updates, stores_what_is_small_first, counts_serials_per_run,
    counts_seq_per_session, drops_what_is_new, deletes_shared_state, deletes_by_id, lists_in_the_order_of_making,
    takes_events_of_nowhere, numbers_what_it_refuses, ignores_case, hands_out_its_own_state,
    keeps_state_when_it_goes_back, goes_back_in_shared_state_too, counts_on_when_it_has_gone_back,
    goes_back_to_anything, puts_back_event_by_event, overwrites_what_is_shared, renumbers_what_it_puts_back,
    forgets_times_and_titles, has_no_pages, pages_by_number, reads_the_last_page_first, reads_what_comes_meanwhile,
    deletes_what_has_changed, has_one_title, forks_the_whole,
]  # fmt: skip
ARTIFACTS = [
    reuses_numbers, keeps_user_files_to_the_session, takes_any_name, takes_a_number_before_the_stream,
    lists_as_it_comes, hashes_nothing, remembers_numbers_of_the_gone, deletes_the_users_files_too,
    opens_the_latest_only,
]  # fmt: skip
MEMORY = [never_forgets, adds_again, finds_everybody, ranks_backwards, has_no_limit]
CASES = [
    *((SessionServiceSuite, InMemorySessionService, fault) for fault in SESSIONS),
    *((ArtifactServiceSuite, InMemoryArtifactService, fault) for fault in ARTIFACTS),
    *((MemoryServiceSuite, InMemoryMemoryService, fault) for fault in MEMORY),
]


@pytest.mark.parametrize(("suite", "service", "fault"), CASES, ids=[case[2].__name__ for case in CASES])
async def test_a_broken_promise_is_noticed(suite, service, fault):
    class Mine(suite):
        async def make(self):
            made = service()
            fault(made)
            return made

    for name in [name for name in dir(Mine) if name.startswith("test_")]:
        try:
            await getattr(Mine(), name)()
        except Exception:
            return
    pytest.fail("no test of the suite failed")


def test_pytest_collects_a_suite_on_every_backend(tmp_path: Path):
    """In a project that has no settings, and shows what a failed assertion compared."""
    (tmp_path / "test_mine.py").write_text(
        "from agentflow import InMemoryMemoryService\n"
        "from agentflow.testing import MemoryServiceSuite\n\n\n"
        "class Forgetful(InMemoryMemoryService):\n"
        "    async def search(self, app_name, user_id, query, *, limit=10):\n"
        "        return []\n\n\n"
        "class TestMine(MemoryServiceSuite):\n"
        "    async def make(self):\n"
        "        return InMemoryMemoryService()\n\n\n"
        "class TestForgetful(MemoryServiceSuite):\n"
        "    async def make(self):\n"
        "        return Forgetful()\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", ".", "-c", "none.ini", "."]
    (tmp_path / "none.ini").write_text("[pytest]\n", encoding="utf-8")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    tests = [name for name in dir(MemoryServiceSuite) if name.startswith("test_")]
    for backend in ("asyncio", "trio"):
        assert f"TestForgetful::test_what_was_said_is_found[{backend}]" in done.stdout
    assert "TestMine" not in done.stdout
    assert "where" in done.stdout or "assert 0 ==" in done.stdout or "assert [] ==" in done.stdout
    passed, failed = (int(done.stdout.rsplit(f" {word}", 1)[0].split()[-1]) for word in ("passed", "failed"))
    assert passed + failed == 4 * len(tests)


def test_suites_need_no_pytest():
    code = (
        "import sys; sys.modules['pytest'] = None; import agentflow.testing as t; print(t.MemoryServiceSuite.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "MemoryServiceSuite"


async def test_a_suite_that_hangs_is_ended():
    class Mine(MemoryServiceSuite):
        time_limit = 0.01

        async def make(self):
            memory = InMemoryMemoryService()
            before(memory, "search", lambda *_, **__: hang())
            return memory

    async def hang() -> None:
        await anyio.sleep_forever()

    with pytest.raises(TimeoutError):
        await Mine().test_what_was_said_is_found()


async def test_a_suite_closes_what_it_made():
    closed = []

    class Mine(SessionServiceSuite):
        async def make(self):
            store = InMemorySessionService()
            before(store, "aclose", lambda: closed.append(1))
            return store

    await Mine().test_a_new_session_is_empty()
    assert closed == [1]
