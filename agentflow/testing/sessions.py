"""The contract of session stores, as tests."""

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import anyio
from anyio.lowlevel import checkpoint

from agentflow.content import Blob, Data, FileRef, ProviderBlock, Text, Thinking, ToolCall, ToolResult, UnknownPart
from agentflow.errors import (
    AgentflowError,
    ConfigError,
    InvalidEvent,
    SessionExists,
    SessionNotFound,
    StaleSession,
)
from agentflow.events import (
    Actions,
    AgentComplete,
    AgentParallelComplete,
    AgentParallelStart,
    AgentStart,
    ErrorInfo,
    Event,
    GatherComplete,
    LoopIteration,
    ScatterStart,
    SynthesisComplete,
    SynthesisStart,
    UnknownLifecycle,
    Usage,
)
from agentflow.services.sessions import Session, SessionKey, SessionService
from agentflow.testing._pytest import Suite

KEY = SessionKey("app", "ada", "s1")
NAMES = [
    "O'Hara",
    'say "hi"',
    "100%_\\",
    "a.b/c:d?e#f",
    "semi;colon --",
    "naïve café",
    "用户-Ω-🦉",
    " spaced ",
    "NULL",
    "x" * 255,
]
TEXTS = ["", " ", "line\nline\r\n\ttab", "quote ' \" \\ `", "{}[]%s$1?:a", "\u0085\u2028\u2029\ufeff\x1b\x7f"]
TEXTS += ["🦉👩‍👩‍👧 ß ﷽ مرحبا שלום e\u0301", "\ufffd"]

_numbers = count(1)


def event_of(
    text: str = "",
    *,
    run: str = "run-1",
    branch: str = "",
    author: str = "agent",
    partial: bool = False,
    actions: Actions | None = None,
) -> Event:
    """An event as a run hands it to the store: stamped, not yet committed."""
    return Event(
        id=f"{run}-{next(_numbers)}",
        invocation_id=run,
        timestamp=1_700_000_000.25,
        author=author,
        branch=branch,
        path=f"root.{author}",
        parts=(Text(text),) if text else (),
        partial=partial,
        actions=actions,
    )


def writing(delta: dict[str, Any] | None = None, *, removed: tuple[str, ...] = ()) -> Event:
    """An event that changes state."""
    return event_of(actions=Actions(delta or {}, list(removed)))


class SessionServiceSuite(Suite, ABC):
    """Every promise of `SessionService`, as a test. Subclass it, say how to make one, and pytest runs them all.

        class TestMine(SessionServiceSuite):
            async def make(self) -> SessionService:
                return MySessionService()

    Each test makes a store of its own, which must be empty, and closes it. They run on whatever backends your
    `anyio_backend` fixture names: by default all that are installed.
    """

    @abstractmethod
    async def make(self) -> SessionService:
        """An empty store."""

    async def reopen(self, service: SessionService) -> SessionService:
        """Close `service` and open what it stored again. A store that lives in memory is returned as it is."""
        return service

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[SessionService]:
        """A new store, closed in the end."""
        async with self._within_limit(await self.make()) as service:
            yield service

    # Making sessions

    async def test_a_new_session_is_empty(self) -> None:
        async with self.opened() as sessions:
            made = await sessions.create("app", "ada", "s1")
            assert made.key == KEY
            assert (made.id, made.app_name, made.user_id) == ("s1", "app", "ada")
            assert (made.version, made.state, list(made.events)) == (0, {}, [])
            assert made.created_at == made.updated_at
            assert await read(sessions) == made

    async def test_an_id_is_made_up_for_each_session_without_one(self) -> None:
        async with self.opened() as sessions:
            made = [await sessions.create("app", "ada") for _ in range(5)]
            assert all(one.id for one in made)
            assert len({one.id for one in made}) == 5
            assert {one.key for one in made} == {info.key for info in await sessions.list("app", "ada")}

    async def test_a_session_is_made_once(self) -> None:
        """The second attempt changes nothing, not even the app's state."""
        async with self.opened() as sessions:
            await sessions.create("app", "ada", "s1", state={"mine": 1, "app:ours": 1})
            await raises(SessionExists, sessions.create("app", "ada", "s1", state={"mine": 2, "app:ours": 2}))
            assert (await read(sessions)).state == {"mine": 1, "app:ours": 1}

    async def test_of_many_who_make_one_session_at_once_one_succeeds(self) -> None:
        async with self.opened() as sessions:
            made: list[int] = []
            refused: list[int] = []

            async def make(number: int) -> None:
                await checkpoint()
                try:
                    await sessions.create("app", "ada", "s1", state={"by": number})
                    made.append(number)
                except SessionExists:
                    refused.append(number)

            async with anyio.create_task_group() as tasks:
                for number in range(10):
                    tasks.start_soon(make, number)
            assert (len(made), len(refused)) == (1, 9)
            assert (await read(sessions)).state == {"by": made[0]}

    async def test_empty_names_are_refused(self) -> None:
        async with self.opened() as sessions:
            await raises(ConfigError, sessions.create("", "ada", "s1"))
            await raises(ConfigError, sessions.create("app", "", "s1"))
            await raises(ConfigError, sessions.create("app", "ada", ""))
            assert list(await sessions.list("app")) == []

    async def test_names_are_taken_as_they_are(self) -> None:
        """Quotes, wildcards, other scripts; upper and lower case differ."""
        async with self.opened() as sessions:
            keys = [SessionKey(name, name, name) for name in NAMES]
            keys += [SessionKey("app", "ada", "S1"), KEY]
            for number, key in enumerate(keys):
                made = await sessions.create(*key, state={"user:number": number})
                assert made.key == key
                await sessions.append(key, [event_of(str(number))])
            for number, key in enumerate(keys):
                session = await read(sessions, key)
                assert session.key == key
                assert [event.text for event in session.events] == [str(number)]
            for name in NAMES:
                assert [info.key for info in await sessions.list(name, name)] == [SessionKey(name, name, name)]
            assert list(await sessions.list("%")) == []

    # State

    async def test_first_state_goes_where_it_belongs(self) -> None:
        async with self.opened() as sessions:
            state = {"topic": "owls", "app:theme": "dark", "user:name": "Ada", "temp:draft": "x"}
            made = await sessions.create("app", "ada", "s1", state=state)
            assert made.state == {"topic": "owls", "app:theme": "dark", "user:name": "Ada"}
            assert (await sessions.create("app", "ada", "s2")).state == {"app:theme": "dark", "user:name": "Ada"}
            assert (await sessions.create("app", "bob", "s1")).state == {"app:theme": "dark"}
            assert (await sessions.create("other", "ada", "s1")).state == {}

    async def test_first_state_that_is_no_json_is_refused(self) -> None:
        async with self.opened() as sessions:
            await raises(InvalidEvent, sessions.create("app", "ada", "s1", state={"app:fine": 1, "bad": object()}))
            assert await sessions.get(KEY) is None
            assert (await sessions.create("app", "ada", "s1")).state == {}

    async def test_first_state_is_made_safe(self) -> None:
        """NUL and lone surrogates become U+FFFD, what is no number null: the same in every store."""
        async with self.opened() as sessions:
            await sessions.create("app", "ada", "s1", state={"text": "a\x00b\ud800c", "nan": float("nan")})
            assert (await read(sessions)).state == {"text": "a\ufffdb\ufffdc", "nan": None}

    async def test_state_follows_the_events(self) -> None:
        """A later event wins, within one append too."""
        async with self.opened() as sessions:
            await sessions.create("app", "ada", "s1", state={"a": 0})
            await sessions.append(KEY, [writing({"a": 1, "b": 1}), writing({"a": 2})])
            assert (await read(sessions)).state == {"a": 2, "b": 1}
            await sessions.append(KEY, [writing({"a": 3})])
            assert (await read(sessions)).state == {"a": 3, "b": 1}

    async def test_state_of_the_app_and_of_the_user_is_shared(self) -> None:
        """Sessions that were there before see it, and so do later ones."""
        async with self.opened() as sessions:
            for key in (KEY, SessionKey("app", "ada", "s2"), SessionKey("app", "bob", "s1")):
                await sessions.create(*key)
            await sessions.append(KEY, [writing({"own": 1, "user:name": "Ada", "app:theme": "dark"})])
            assert (await read(sessions)).state == {"own": 1, "user:name": "Ada", "app:theme": "dark"}
            same_user = await read(sessions, SessionKey("app", "ada", "s2"))
            assert same_user.state == {"user:name": "Ada", "app:theme": "dark"}
            assert (await read(sessions, SessionKey("app", "bob", "s1"))).state == {"app:theme": "dark"}
            assert (await sessions.create("app", "ada", "s3")).state == {"user:name": "Ada", "app:theme": "dark"}
            assert (await sessions.create("other", "ada", "s1")).state == {}

    async def test_only_the_exact_prefixes_share_state(self) -> None:
        async with self.opened() as sessions:
            own = {"application": 1, "user": 2, "App:x": 3, "users:x": 4, "x:app:": 5, "temporary": 6}
            await sessions.create("app", "ada", "s1")
            await sessions.append(KEY, [writing(own)])
            assert (await read(sessions)).state == own
            assert (await sessions.create("app", "ada", "s2")).state == {}

    async def test_what_is_deleted_is_gone_and_what_is_none_is_there(self) -> None:
        async with self.opened() as sessions:
            state = {f"{scope}{name}": 1 for scope in ("", "user:", "app:") for name in ("gone", "none")}
            await sessions.create("app", "ada", "s1", state=state)
            none = {f"{scope}none": None for scope in ("", "user:", "app:")}
            await sessions.append(KEY, [writing(none, removed=("gone", "user:gone", "app:gone"))])
            assert (await read(sessions)).state == none
            assert (await sessions.create("app", "ada", "s2")).state == {"user:none": None, "app:none": None}

    async def test_deleting_what_is_not_there_is_no_error_and_it_can_be_written_again(self) -> None:
        async with self.opened() as sessions:
            await sessions.create("app", "ada", "s1")
            await sessions.append(KEY, [writing(removed=("never", "user:never", "app:never"))])
            await sessions.append(KEY, [writing({"k": 1}), writing(removed=("k",)), writing({"k": 2})])
            assert (await read(sessions)).state == {"k": 2}

    async def test_temporary_state_is_never_stored(self) -> None:
        async with self.opened() as sessions:
            await sessions.create("app", "ada", "s1")
            await sessions.append(KEY, [writing({"temp:draft": 1, "kept": 1}), writing(removed=("temp:draft",))])
            assert (await read(sessions)).state == {"kept": 1}

    async def test_contributions_wait_for_the_join(self) -> None:
        """They are part of the event; state changes when the Parallel folds them."""
        async with self.opened() as sessions:
            await sessions.create("app", "ada", "s1")
            await sessions.append(KEY, [event_of(actions=Actions(contributions={"votes": 1}))])
            session = await read(sessions)
            assert session.state == {}
            assert session.events[0].actions == Actions(contributions={"votes": 1})

    async def test_state_that_was_read_is_a_copy(self) -> None:
        async with self.opened() as sessions:
            first = {"k": 1}
            await sessions.create("app", "ada", "s1", state=first)
            first["k"] = 2
            session = await read(sessions)
            session.state["k"] = 3
            session.state["app:k"] = 3
            (await sessions.list("app"))[0].state["k"] = 3
            assert (await read(sessions)).state == {"k": 1}

    async def test_any_json_is_state(self) -> None:
        async with self.opened() as sessions:
            deep: Any = "bottom"
            for level in range(90):
                deep = {"down": deep} if level % 2 else [deep]
            values: dict[str, Any] = {
                "none": None,
                "yes": True,
                "no": False,
                "zero": 0,
                "big": 2**100,
                "negative": -(2**63),
                "pi": 3.141592653589793,
                "tiny": 5e-324,
                "huge": 1.7976931348623157e308,
                "empty": {},
                "nothing": [],
                "deep": deep,
                "mixed": [1, "1", 1.5, None, True, {"a": [{}]}],
                "texts": TEXTS,
                "user:用户": {"ключ": "значение"},
                "a.b['c']": 1,
            }
            await sessions.create("app", "ada", "s1")
            await sessions.append(KEY, [writing(values)])
            state = (await read(sessions)).state
            assert state == values
            assert {name: type(value) for name, value in state.items()} == {
                name: type(value) for name, value in values.items()
            }

    # Committing

    async def test_events_get_their_numbers_when_they_are_committed(self) -> None:
        """`serial` counts the session's events, `seq` those of one branch of one run; neither has a gap."""
        async with self.opened() as sessions:
            await sessions.create("app", "ada", "s1")
            branches = ["r1:", "r1:p.a", "r1:p.b", "r1:p.a", "r2:p.a", "r2:", "r1:p.a.q.c"]
            places = [branch.split(":") for branch in branches]
            events = [event_of(str(n), run=run, branch=branch) for n, (run, branch) in enumerate(places * 3)]
            await sessions.append(KEY, events[:4])
            await sessions.append(KEY, events[4:5])
            await sessions.append(KEY, events[5:])
            assert [event.serial for event in events] == list(range(1, len(events) + 1))
            seqs: dict[tuple[str, str], list[int | None]] = defaultdict(list)
            for event in events:
                seqs[event.invocation_id, event.branch].append(event.seq)
            assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in seqs.values())
            session = await read(sessions)
            assert session.events == events
            assert session.version == len(events)

    async def test_numbers_are_counted_for_each_session_alone(self) -> None:
        async with self.opened() as sessions:
            other = SessionKey("app", "ada", "s2")
            for key in (KEY, other):
                await sessions.create(*key)
            await sessions.append(KEY, [event_of("a"), event_of("b")])
            late = event_of("c")
            await sessions.append(other, [late])
            assert (late.seq, late.serial) == (1, 1)

    async def test_nothing_is_appended_to_a_session_that_is_not_there(self) -> None:
        async with self.opened() as sessions:
            event = event_of("lost", actions=Actions({"app:k": 1}))
            await raises(SessionNotFound, sessions.append(KEY, [event]))
            assert (event.seq, event.serial) == (None, None)
            assert await sessions.get(KEY) is None
            assert (await sessions.create("app", "ada", "s1")).state == {}

    async def test_appending_nothing_changes_nothing(self) -> None:
        async with self.opened() as sessions:
            await sessions.create("app", "ada", "s1")
            await sessions.append(KEY, [])
            assert (await read(sessions)).version == 0

    async def test_a_batch_is_stored_whole_or_not_at_all(self) -> None:
        """Partial events and those that are stored already are refused, wherever in the batch they are."""
        async with self.opened() as sessions:
            await sessions.create("app", "ada", "s1", state={"k": 0})
            stored = event_of("stored", branch="p.a")
            await sessions.append(KEY, [stored])
            for bad in (event_of("piece", partial=True), stored):
                for place in range(3):
                    actions = Actions({"k": 1, "app:k": 1}, ["gone"])
                    good = [event_of("x", branch="p.a", actions=actions) for _ in range(2)]
                    batch = [*good[:place], bad, *good[place:]]
                    await raises(AgentflowError, sessions.append(KEY, batch))
                    assert [(event.seq, event.serial) for event in good] == [(None, None)] * 2
            session = await read(sessions)
            assert (session.version, session.state, session.events) == (1, {"k": 0}, [stored])
            later = event_of("later", branch="p.a")
            await sessions.append(KEY, [later])
            assert (later.seq, later.serial) == (2, 2)

    async def test_one_event_is_not_stored_twice_in_a_batch(self) -> None:
        async with self.opened() as sessions:
            await sessions.create("app", "ada", "s1")
            event = event_of("echo")
            await raises(AgentflowError, sessions.append(KEY, [event, event]))
            assert (await read(sessions)).version == 0
            assert (event.seq, event.serial) == (None, None)

    async def test_events_come_back_as_they_were(self) -> None:
        """All kinds of content, actions and lifecycle records."""
        async with self.opened() as sessions:
            await sessions.create("app", "ada", "s1")
            events = [*_every_kind()]
            await sessions.append(KEY, events)
            session = await read(await self.reopen(sessions))
            assert [event.to_json() for event in session.events] == [event.to_json() for event in events]
            assert session.events == events

    async def test_what_a_newer_version_wrote_is_kept(self) -> None:
        """Fields, parts, actions and lifecycle records that this version doesn't know."""
        wire = [
            '{"id":"n1","invocationId":"r","mood":{"is":["good",1.5]},"parts":[{"kind":"hologram","angle":[1,2]},{"kind":"text","text":"t","lang":"en"}]}',
            '{"id":"n2","invocationId":"r","actions":{"stateDelta":{"k":1},"dance":true},"usage":{"inputTokens":1,"waterTokens":2}}',
            '{"id":"n3","invocationId":"r","lifecycle":{"name":"agent_rested","for":3,"agentName":"a"}}',
            '{"id":"n4","invocationId":"r","lifecycle":{"name":"agent_complete","agentName":"a","outcome":"bored","why":{"not":null}}}',
        ]
        async with self.opened() as sessions:
            await sessions.create("app", "ada", "s1")
            events = [Event.from_json(line) for line in wire]
            await sessions.append(KEY, events)
            session = await read(await self.reopen(sessions))
            assert session.events == events
            assert session.events[0].model_extra == {"mood": {"is": ["good", 1.5]}}
            assert session.events[0].parts[0] == UnknownPart({"kind": "hologram", "angle": [1, 2]})
            assert session.events[2].lifecycle == UnknownLifecycle({"name": "agent_rested", "for": 3, "agentName": "a"})
            assert session.state == {"k": 1}

    async def test_any_text_is_stored(self) -> None:
        async with self.opened() as sessions:
            await sessions.create("app", "ada", "s1")
            texts = [*TEXTS, "x" * 1_000_000, "🦉" * 100_000]
            await sessions.append(KEY, [Event(id=str(n), parts=(Text(text),)) for n, text in enumerate(texts)])
            assert [event.text for event in (await read(sessions)).events] == texts

    async def test_a_store_that_is_opened_again_goes_on_where_it_was(self) -> None:
        async with self.opened() as sessions:
            await sessions.create("app", "ada", "s1", state={"user:k": 1})
            await sessions.append(KEY, [event_of("a", branch="p.a"), writing({"k": 1})])
            again = await self.reopen(sessions)
            late = event_of("b", branch="p.a")
            await again.append(KEY, [late], expected_version=2)
            assert (late.seq, late.serial) == (2, 3)
            session = await read(again)
            assert (session.version, session.state) == (3, {"k": 1, "user:k": 1})
            if again is not sessions:
                await again.aclose()

    # Several writers

    async def test_a_writer_that_knows_the_version_may_write(self) -> None:
        async with self.opened() as sessions:
            await sessions.create("app", "ada", "s1")
            await sessions.append(KEY, [event_of("a"), event_of("b")], expected_version=0)
            await sessions.append(KEY, [event_of("c")], expected_version=2)
            assert (await read(sessions)).version == 3

    async def test_a_writer_with_a_stale_version_stores_nothing(self) -> None:
        async with self.opened() as sessions:
            await sessions.create("app", "ada", "s1")
            await sessions.append(KEY, [event_of("a")])
            for expected in (0, 2):
                event = event_of("b", actions=Actions({"k": 1, "user:k": 1, "app:k": 1}))
                stale = await raises(StaleSession, sessions.append(KEY, [event], expected_version=expected))
                assert isinstance(stale, StaleSession)
                assert (stale.expected, stale.actual) == (expected, 1)
                assert (event.seq, event.serial) == (None, None)
            session = await read(sessions)
            assert (session.version, session.state, [event.text for event in session.events]) == (1, {}, ["a"])

    async def test_of_many_writers_with_one_version_one_succeeds(self) -> None:
        async with self.opened() as sessions:
            await sessions.create("app", "ada", "s1")
            written: list[str] = []

            async def write(name: str) -> None:
                await checkpoint()
                try:
                    await sessions.append(KEY, [event_of(name), event_of(name)], expected_version=0)
                    written.append(name)
                except StaleSession:
                    await checkpoint()

            async with anyio.create_task_group() as tasks:
                for number in range(10):
                    tasks.start_soon(write, str(number))
            assert len(written) == 1
            assert [event.text for event in (await read(sessions)).events] == written * 2

    async def test_many_tasks_append_at_once(self) -> None:
        """Nothing is lost, batches stay whole, each task's events keep their order, and no number has a gap."""
        async with self.opened() as sessions:
            keys = [KEY, SessionKey("app", "ada", "s2")]
            for key in keys:
                await sessions.create(*key)

            async def write(key: SessionKey, name: str) -> None:
                for step in range(8):
                    texts = [f"{name}.{step}.{n}" for n in range(1 + step % 3)]
                    batch = [event_of(text, branch=f"p.{name[0]}", author=name) for text in texts]
                    batch[-1].__dict__["actions"] = Actions({f"{name}:last": step, "app:any": name})
                    await sessions.append(key, batch)
                    await checkpoint()

            names = ["a1", "a2", "b1", "b2", "c1"]
            async with anyio.create_task_group() as tasks:
                for key in keys:
                    for name in names:
                        tasks.start_soon(write, key, name)
            expected = [f"{step}.{n}" for step in range(8) for n in range(1 + step % 3)]
            for key in keys:
                session = await read(sessions, key)
                texts = [event.text for event in session.events]
                assert [event.serial for event in session.events] == list(range(1, len(texts) + 1))
                assert session.version == len(names) * len(expected)
                for name in names:
                    assert [text[3:] for text in texts if text.startswith(name)] == expected
                for branch in ("p.a", "p.b", "p.c"):
                    seqs = [event.seq for event in session.events if event.branch == branch]
                    assert seqs == list(range(1, len(seqs) + 1))
                for first, second in zip(session.events, session.events[1:], strict=False):
                    if second.text[-1] != "0":  # not the first of its batch
                        assert second.text[:5] == first.text[:5]
                assert session.state.pop("app:any") in names
                assert session.state == {f"{name}:last": 7 for name in names}

    async def test_a_cancelled_append_is_stored_whole_or_not_at_all(self) -> None:
        async with self.opened() as sessions:
            await sessions.create("app", "ada", "s1")
            for wait in range(6):
                batch = [writing({"n": n, f"wait-{wait}": n}) for n in range(5)]
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(sessions.append, KEY, batch)
                    for _ in range(wait):
                        await checkpoint()
                    tasks.cancel_scope.cancel()
            session = await read(sessions)
            kept = [key for key in session.state if key != "n"]
            assert session.version == len(session.events) == 5 * len(kept)
            assert all(session.state[key] == 4 for key in kept)
            late = event_of("late")
            await sessions.append(KEY, [late])
            assert (late.seq, late.serial) == (session.version + 1, session.version + 1)

    async def test_a_reader_sees_whole_batches(self) -> None:
        async with self.opened() as sessions:
            await sessions.create("app", "ada", "s1")
            done = anyio.Event()

            async def write() -> None:
                for n in range(1, 21):
                    await sessions.append(KEY, [writing({"n": 3 * n - back}) for back in (2, 1, 0)])
                    await checkpoint()
                done.set()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(write)
                while not done.is_set():
                    session = await read(sessions)
                    assert session.version % 3 == 0
                    assert len(session.events) == session.version == session.state.get("n", 0)
                    await checkpoint()

    # Reading

    async def test_a_session_that_is_not_there_is_none(self) -> None:
        async with self.opened() as sessions:
            await sessions.create("app", "ada", "s1")
            for key in (("app", "ada", "s2"), ("app", "bob", "s1"), ("other", "ada", "s1")):
                assert await sessions.get(SessionKey(*key)) is None
                assert await sessions.get(SessionKey(*key), recent=0, after=0) is None

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


async def read(
    sessions: SessionService, key: SessionKey = KEY, *, recent: int | None = None, after: int | None = None
) -> Session:
    """A session that must be there."""
    session = await sessions.get(key, recent=recent, after=after)
    assert session is not None
    return session


async def raises(kind: type[Exception], work: Any) -> Exception:
    """What awaiting `work` raises, which must be of this kind."""
    try:
        await work
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was not raised")


def _every_kind() -> list[Event]:
    """An event of each kind that a run can store."""
    error = ErrorInfo("ValueError", "no", retryable=True)
    parts = (
        Text("words"),
        Thinking("hm", "sig+/=", "redacted"),
        ToolCall("c1", "search", {"q": ["owls", 1, None]}),
        ToolResult("c1", "search", {"hits": [1.5, {}]}, is_error=True),
        Blob(bytes(range(256)), "image/png", "owl.png"),
        FileRef("https://example.org/a?b=c", "text/html", "a"),
        Data({"rows": [[1, 2], []]}, "Table"),
        ProviderBlock("anthropic", {"type": "new", "x": {"y": [True]}}),
    )
    actions = Actions({"a": 1, "b": None}, ["c"], {"votes": [1]}, {"owl.png": 3}, "outer", "critic", True)
    records = [
        AgentStart("a", "FunctionAgent", 2, error, own_branch=True),
        AgentComplete("a", "error", 1.5, 2, "words", error, "because"),
        LoopIteration("l", 3, 5),
        ScatterStart("p", 2, ["a", "b"], "task", 1.5, 1),
        AgentParallelStart("a", "FunctionAgent", step_id="p.a", worker_id="w", queue_ms=0.5),
        AgentParallelComplete("a", "ok", 1.5, 1, "words"),
        GatherComplete("p", 2, 1, 1, 0, 0, 2.5, ["a"], {"a": "ok", "b": "error"}, ["p.b"], "b failed"),
        SynthesisStart("s", "merge", 2),
        SynthesisComplete("s", "merge", 2, "words", 0.5),
    ]
    full = event_of().model_copy(
        update={
            "parts": parts,
            "actions": actions,
            "usage": Usage(1, 2, 3, 4, 5, 6, 0.25),
            "error": error,
            "iteration": 2,
            "response_id": "resp-1",
            "branch": "p.a",
            "author": "critic",
        }
    )
    return [
        full,
        *(event_of().model_copy(update={"parts": (part,)}) for part in parts),
        *(event_of(branch="p.a").model_copy(update={"lifecycle": record}) for record in records),
    ]
