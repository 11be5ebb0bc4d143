"""What a session store does with events: numbers, batches, what comes back, and several writers."""

from collections import defaultdict
from contextlib import suppress

import anyio
from anyio.lowlevel import checkpoint

from agentflow.content import Blob, Data, FileRef, ProviderBlock, Text, Thinking, ToolCall, ToolResult, UnknownPart
from agentflow.errors import AgentflowError, SessionNotFound, StaleSession
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
from agentflow.services.sessions import SessionKey
from agentflow.testing._store_suite import KEY, TEXTS, StoreSuite, event_of, raises, read, writing


class CommitSuite(StoreSuite):
    """Committing events, and several writers."""

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

    async def test_what_is_committed_at_once_is_as_if_it_had_been_appended(self) -> None:
        """For stores that can; the others say that they can't, and have done nothing."""
        async with self.opened() as sessions:
            await sessions.create("app", "ada", "s1")
            events = [event_of(str(n), branch=branch) for n, branch in enumerate(["", "p.a", "", "p.b", "p.a"])]
            events.append(writing({"k": 1, "user:k": 2, "temp:k": 3}))
            events.append(writing({"other": [1]}, removed=("k",)))
            for number, event in enumerate(events):
                if number % 3 == 2 or not sessions.append_now(KEY, event):
                    await sessions.append(KEY, [event])
            assert [(event.serial, event.seq) for event in events] == [
                (1, 1), (2, 1), (3, 2), (4, 1), (5, 2), (6, 3), (7, 4),
            ]  # fmt: skip
            session = await read(sessions)
            assert (session.events, session.state) == (events, {"user:k": 2, "other": [1]})

    async def test_nothing_is_committed_at_once_to_a_session_that_is_not_there(self) -> None:
        async with self.opened() as sessions:
            event = event_of("lost", actions=Actions({"app:k": 1}))
            with suppress(SessionNotFound):
                assert not sessions.append_now(KEY, event)
            assert (event.seq, event.serial) == (None, None)
            assert (await sessions.create("app", "ada", "s1")).state == {}

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

    async def test_appends_are_committed_in_the_order_in_which_they_are_called(self) -> None:
        """Of several tasks, though some bring much and others little. They may be answered in another order."""
        async with self.opened() as sessions:
            await sessions.create("app", "ada", "s1")
            called: list[str] = []

            async def write(number: int) -> None:
                for _ in range(number % 3):
                    await checkpoint()
                texts = [f"{number}.{n}" for n in range((40, 1, 9, 1)[number % 4])]
                batch = [event_of(text, branch=f"p.{number % 5}") for text in texts]
                called.extend(texts)
                await sessions.append(KEY, batch)

            for _ in range(3):
                async with anyio.create_task_group() as tasks:
                    for number in range(12):
                        tasks.start_soon(write, number)
            assert [event.text for event in (await read(sessions)).events] == called

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
