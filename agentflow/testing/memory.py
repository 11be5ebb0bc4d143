"""The contract of memory, as tests."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from anyio.lowlevel import checkpoint

from agentflow.content import Data, Text
from agentflow.errors import ConfigError
from agentflow.events import AgentComplete, Event
from agentflow.services.memory import MemoryService
from agentflow.services.sessions import Session, SessionKey
from agentflow.testing._pytest import Suite
from agentflow.testing._store_suite import raises

KEY = SessionKey("app", "ada", "s1")
QUERIES = [
    "",
    " ",
    "?!",
    "'; DROP TABLE owls; --",
    "%",
    "\\",
    "*",
    "(owls",
    '"owls',
    "NOT owls",
    "a\ud800",
    "x" * 5_000,
]


class MemoryServiceSuite(Suite, ABC):
    """Every promise of `MemoryService`, as a test. Subclass it, say how to make one, and pytest runs them all.

    Each test makes a memory of its own, which must be empty, and closes it. See `SessionServiceSuite`. Where ranking
    is checked, the better text has more of the query's words, so a memory that goes by meaning passes too.
    """

    @abstractmethod
    async def make(self) -> MemoryService:
        """An empty memory."""

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[MemoryService]:
        """A new memory, closed in the end."""
        async with self._within_limit(await self.make()) as service:
            yield service

    async def test_what_was_said_is_found(self) -> None:
        async with self.opened() as memory:
            await memory.add_session(session_of("Owls hunt at night."))
            (hit,) = await memory.search("app", "ada", "owls")
            assert (hit.text, hit.author, hit.session_id, hit.timestamp) == ("Owls hunt at night.", "agent", "s1", 1.0)

    async def test_an_empty_memory_finds_nothing(self) -> None:
        async with self.opened() as memory:
            assert list(await memory.search("app", "ada", "owls")) == []
            await memory.add_session(session_of())
            assert list(await memory.search("app", "ada", "owls")) == []

    async def test_the_best_comes_first(self) -> None:
        async with self.opened() as memory:
            await memory.add_session(session_of("Owls are birds.", "Barn owls hunt mice at night.", "Owls hunt."))
            hits = await memory.search("app", "ada", "barn owls hunt mice")
            assert [hit.text for hit in hits] == ["Barn owls hunt mice at night.", "Owls hunt.", "Owls are birds."]
            scores = [hit.score for hit in hits]
            assert scores == sorted(scores, reverse=True)
            assert scores[0] > scores[-1]

    async def test_the_best_of_several_sessions_comes_first(self) -> None:
        async with self.opened() as memory:
            await memory.add_session(session_of("Owls are birds.", key=SessionKey("app", "ada", "s1")))
            await memory.add_session(session_of("Barn owls hunt mice.", key=SessionKey("app", "ada", "s2")))
            await memory.add_session(session_of("Barn owls.", key=SessionKey("app", "ada", "s3")))
            hits = await memory.search("app", "ada", "barn owls hunt mice")
            assert [hit.session_id for hit in hits] == ["s2", "s3", "s1"]

    async def test_at_most_so_many_are_found(self) -> None:
        async with self.opened() as memory:
            await memory.add_session(session_of(*(f"Owls hunt, note {n}." for n in range(15)), "Barn owls hunt mice."))
            query = "barn owls hunt mice"
            assert len(await memory.search("app", "ada", query)) == 10
            for limit in (3, 1, 0):
                assert len(await memory.search("app", "ada", query, limit=limit)) == limit
            (best,) = await memory.search("app", "ada", query, limit=1)
            assert best.text == "Barn owls hunt mice."
            assert len(await memory.search("app", "ada", query, limit=100)) <= 16

    async def test_nobody_finds_what_another_user_or_app_was_told(self) -> None:
        async with self.opened() as memory:
            for key in (KEY, SessionKey("app", "bob", "s1"), SessionKey("other", "ada", "s1")):
                await memory.add_session(session_of(f"The owls of {key.user_id} in {key.app_name}.", key=key))
            for key in (KEY, SessionKey("app", "bob", "s1"), SessionKey("other", "ada", "s1")):
                hits = await memory.search(key.app_name, key.user_id, "owls")
                assert [hit.text for hit in hits] == [f"The owls of {key.user_id} in {key.app_name}."]
            assert list(await memory.search("app", "eve", "owls")) == []
            assert list(await memory.search("nowhere", "ada", "owls")) == []

    async def test_adding_a_session_again_replaces_it(self) -> None:
        async with self.opened() as memory:
            await memory.add_session(session_of("Owls hunt at night."))
            await memory.add_session(session_of("Owls are kept.", key=SessionKey("app", "ada", "s2")))
            await memory.add_session(session_of("Owls hunt at night.", "Owls sleep by day."))
            hits = await memory.search("app", "ada", "owls")
            assert sorted(hit.text for hit in hits) == ["Owls are kept.", "Owls hunt at night.", "Owls sleep by day."]
            await memory.add_session(session_of("Owls changed."))
            hits = await memory.search("app", "ada", "owls")
            assert sorted(hit.text for hit in hits) == ["Owls are kept.", "Owls changed."]

    async def test_a_session_is_forgotten(self) -> None:
        async with self.opened() as memory:
            keys = [KEY, SessionKey("app", "ada", "s2"), SessionKey("app", "bob", "s1")]
            for key in keys:
                await memory.add_session(session_of("Owls hunt.", key=key))
            await memory.delete_session(KEY)
            await memory.delete_session(KEY)
            await memory.delete_session(SessionKey("nowhere", "eve", "s1"))
            assert [hit.session_id for hit in await memory.search("app", "ada", "owls")] == ["s2"]
            assert len(await memory.search("app", "bob", "owls")) == 1

    async def test_an_id_alone_names_no_session(self) -> None:
        """Whoever forgets the key's other two parts learns of it, instead of forgetting nothing."""
        async with self.opened() as memory:
            await memory.add_session(session_of("Owls hunt."))
            wrong: list[Any] = ["s1", None, ("app", "ada", "s1")]
            for key in wrong:
                await raises(ConfigError, memory.delete_session(key))
            assert len(await memory.search("app", "ada", "owls")) == 1

    async def test_the_same_id_of_another_user_is_not_replaced(self) -> None:
        async with self.opened() as memory:
            await memory.add_session(session_of("Owls of Ada."))
            await memory.add_session(session_of("Owls of Bob.", key=SessionKey("app", "bob", "s1")))
            assert [hit.text for hit in await memory.search("app", "ada", "owls")] == ["Owls of Ada."]

    async def test_only_what_was_said_is_remembered(self) -> None:
        """No lifecycle events, no streamed pieces, nothing without words."""
        async with self.opened() as memory:
            session = session_of("Owls.")
            done = AgentComplete("owls", "ok", result_summary="owls")
            session.events += [
                Event(id="x1", author="owls", lifecycle=done),
                Event(id="x2", author="owls", parts=(Text("owl"),), partial=True),
                Event(id="x3", author="owls", parts=(Data({"owls": 1}),)),
                Event(id="x4", author="owls"),
            ]
            await memory.add_session(session)
            assert [hit.text for hit in await memory.search("app", "ada", "owls")] == ["Owls."]

    async def test_the_user_is_remembered_too(self) -> None:
        async with self.opened() as memory:
            session = session_of("Owls, I think.")
            session.events.insert(0, Event(id="u", author="user", timestamp=0.5, parts=(Text("What about owls?"),)))
            await memory.add_session(session)
            assert {hit.author for hit in await memory.search("app", "ada", "owls")} == {"user", "agent"}

    async def test_any_query_is_a_query(self) -> None:
        async with self.opened() as memory:
            await memory.add_session(
                session_of("Owls hunt at night.", "Совы охотятся ночью.", "フクロウ", "100% of owls")
            )
            for query in QUERIES:
                for hit in await memory.search("app", "ada", query):
                    assert hit.text
            assert [hit.text for hit in await memory.search("app", "ada", "совы", limit=1)] == ["Совы охотятся ночью."]

    async def test_what_is_remembered_is_what_was_said_then(self) -> None:
        """A session that changes after it was added changes nothing."""
        async with self.opened() as memory:
            session = session_of("Owls.")
            await memory.add_session(session)
            session.events.clear()
            assert [hit.text for hit in await memory.search("app", "ada", "owls")] == ["Owls."]

    async def test_many_tasks_add_and_search_at_once(self) -> None:
        async with self.opened() as memory:

            async def add(number: int) -> None:
                await checkpoint()
                await memory.add_session(
                    session_of(f"Owls, note {number}.", key=SessionKey("app", "ada", f"s{number}"))
                )
                await memory.search("app", "ada", "owls")

            async with anyio.create_task_group() as tasks:
                for number in range(20):
                    tasks.start_soon(add, number)
            hits = await memory.search("app", "ada", "owls", limit=100)
            assert sorted(hit.session_id for hit in hits) == sorted(f"s{number}" for number in range(20))


def session_of(*texts: str, key: SessionKey = KEY) -> Session:
    """A session in which an agent said this, a second apart, from second 1."""
    events = [
        Event(
            id=f"e{n}", invocation_id="run-1", serial=n, seq=n, timestamp=float(n), author="agent", parts=(Text(text),)
        )
        for n, text in enumerate(texts, 1)
    ]
    return Session(key=key, state={}, version=len(events), created_at=0.0, updated_at=float(len(events)), events=events)
