"""Sessions as lines of JSON: all of them comes back, or nothing, and what is no export says so."""

from collections.abc import AsyncIterator

import pytest

from agentflow import Event, FunctionAgent, InvocationContext, ParallelAgent, Runner
from agentflow.archive import export_session, import_sessions
from agentflow.errors import InvalidArchive, InvalidEvent, SessionExists, SessionNotFound
from agentflow.services.inmemory import InMemoryArtifactService, InMemorySessionService
from agentflow.services.sessions import SessionKey

KEY = SessionKey("app", "ann", "s1")


class Stores:
    """Sessions and files, and what is in them as one value."""

    def __init__(self) -> None:
        self.sessions = InMemorySessionService()
        self.artifacts = InMemoryArtifactService()

    async def all(self, key: SessionKey = KEY) -> object:
        session = await self.sessions.get(key)
        if session is None:
            return None
        files = {}
        for name in await self.artifacts.list(key):
            for version in await self.artifacts.versions(key, name):
                file = await self.artifacts.load(key, name, version=version)
                assert file is not None
                files[name, version] = (file.data, file.mime_type)
        events = [event.to_json() for event in session.events]
        return events, session.state, session.title, session.created_at, session.updated_at, session.initial, files

    async def export(self, key: SessionKey = KEY) -> list[str]:
        return [line async for line in export_session(key, sessions=self.sessions, artifacts=self.artifacts)]

    async def take(self, lines: list[str], **options: object) -> list[SessionKey]:
        given = import_sessions(lines, sessions=self.sessions, artifacts=self.artifacts, **options)  # type: ignore[arg-type]
        return [info.key async for info in given]


async def filled() -> Stores:
    """A session with branches, state of all scopes, deleted keys, and files of which one version is gone."""
    stores = Stores()

    async def work(ctx: InvocationContext) -> None:
        mine = f"of {ctx.agent.name}"
        ctx.state[mine] = {"deep": [1, None, "é\u2028"]}
        if ctx.agent.name == "a":
            ctx.state["user:name"] = "Ann"
            ctx.state["app:theme"] = "dark"
        await ctx.emit(ctx.text("one\ntwo"))
        del ctx.state[mine]
        await ctx.emit(ctx.text("three"))

    pair = ParallelAgent("pair", [FunctionAgent("a", work), FunctionAgent("b", work)])
    async with Runner(pair, app_name="app", sessions=stores.sessions, artifacts=stores.artifacts) as runner:
        await stores.sessions.create(*KEY, state={"first": 1})
        async with runner.run("go", user_id="ann", session_id="s1", state={"asked": True}) as run:
            await run.wait()
    await stores.sessions.rename(KEY, "A title, “quoted”")
    for data in (b"one", b"two", b"", bytes(range(256)) * 3_000):
        await stores.artifacts.save(KEY, "report.bin", data, mime_type="application/x-report")
    await stores.artifacts.delete(KEY, "report.bin", version=2)
    await stores.artifacts.save(KEY, "user:photo", "hers")
    return stores


async def test_nothing_is_lost_on_the_way() -> None:
    before, after = await filled(), Stores()
    lines = await before.export()
    assert all("\n" not in line and max(map(len, lines)) < 300_000 for line in lines)
    assert await after.take(lines) == [KEY]
    assert await after.all() == await before.all()
    assert await after.export() == lines
    assert await after.artifacts.save(KEY, "report.bin", b"next") == 5


async def test_an_imported_session_goes_on() -> None:
    after = Stores()
    await after.take(await (await filled()).export())

    async def reads(ctx: InvocationContext) -> None:
        await ctx.emit(ctx.text(f"{ctx.state['first']} {ctx.state.get('of a')} {len(await ctx.history())}"))

    agent = FunctionAgent("reads", reads)
    runner = Runner(agent, app_name="app", sessions=after.sessions)
    async with runner, runner.run("more", user_id="ann", session_id="s1") as run:
        assert (await run.wait()).text == "1 None 6"


async def test_what_is_there_stays() -> None:
    stores = await filled()
    lines = await stores.export()
    whole = await stores.all()
    with pytest.raises(SessionExists):
        await stores.take(lines)
    assert await stores.all() == whole
    assert await stores.take(lines, if_exists="skip") == []
    assert await stores.all() == whole
    (copy,) = await stores.take(lines, if_exists="copy")
    assert copy.session_id != "s1"
    assert await stores.all(copy) == whole
    assert await stores.artifacts.versions(copy, "user:photo") == [1], "his user's file is there once"


async def test_several_sessions_one_after_the_other() -> None:
    before, after = await filled(), Stores()
    await before.sessions.create("app", "ann", "s2")
    lines = [*await before.export(), "", *await before.export(SessionKey("app", "ann", "s2"))]
    assert [key.session_id for key in await after.take(lines)] == ["s1", "s2"]
    assert [key.session_id for key in await after.take(lines, if_exists="skip")] == []


async def test_a_file_that_was_cut_short_at_any_line_leaves_nothing() -> None:
    before = await filled()
    lines = await before.export()
    for size in range(1, len(lines)):
        after = Stores()
        with pytest.raises(InvalidArchive, match="line"):
            await after.take(lines[:size])
        assert await after.all() is None
        assert await after.artifacts.list(KEY) in ([], ["user:photo"])


async def test_a_line_that_is_missing_or_damaged_anywhere_leaves_nothing() -> None:
    lines = await (await filled()).export()
    for place in range(len(lines)):
        for damaged in ([], ["{"], ["[]"], ['{"event":{"parts":7}}'], [lines[place][: len(lines[place]) // 2]]):
            after = Stores()
            with pytest.raises((InvalidArchive, InvalidEvent)):
                await after.take([*lines[:place], *damaged, *lines[place + 1 :]])
            assert await after.all() is None, (place, damaged)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("hello", "line 1: no JSON"),
        ("[1]", "line 1: these are no exported sessions"),
        ('{"id":"e1","author":"a"}', "line 1: a session should begin here"),
        ('{"session":{"format":2}}', r"newer agentflow \(format 2, this one reads 1\)"),
        ('{"session":{"format":1}}', "the session's line is damaged"),
        ('{"session":7}', "these are no exported sessions"),
    ],
)
async def test_what_is_no_export_says_so(line: str, told: str) -> None:
    with pytest.raises(InvalidArchive, match=told) as refused:
        await Stores().take([line])
    assert refused.value.line == 1


async def test_a_newer_writers_fields_come_back() -> None:
    stores = Stores()
    await stores.sessions.create(*KEY)
    event = Event.from_json('{"id":"e","author":"a","path":"a","parts":[{"kind":"hologram","x":1}],"mood":"good"}')
    await stores.sessions.append(KEY, [event])
    after = Stores()
    await after.take(await stores.export())
    assert await after.all() == await stores.all()


async def test_no_session_no_export() -> None:
    with pytest.raises(SessionNotFound):
        await Stores().export()


async def test_lines_may_come_from_a_stream_of_bytes() -> None:
    before, after = await filled(), Stores()
    lines = await before.export()

    async def stream() -> AsyncIterator[bytes]:
        for line in lines:
            yield line.encode() + b"\r\n"

    async for info in import_sessions(stream(), sessions=after.sessions):
        assert info.title == "A title, “quoted”"
    assert (await after.artifacts.list(KEY)) == []
