"""What the store keeps in mind of branches: those that are alive, and it counts on where the others were."""

import sqlite3
from collections.abc import Callable

import pytest
from hypothesis import given, settings, strategies as st

from agentflow import Event, FunctionAgent, InvocationContext, ParallelAgent, Runner, SessionKey, SQLiteStore
from agentflow.content import Text
from agentflow.events import AgentComplete, AgentParallelComplete

KEY = SessionKey("app", "ada", "s1")


def word(branch: str, run: str = "r") -> Event:
    return Event(author="a", branch=branch, path=branch or "a", invocation_id=run, parts=(Text("word"),))


def end(branch: str, run: str = "r") -> Event:
    done = (AgentParallelComplete if branch else AgentComplete)("a", "ok")
    return Event(author="a", branch=branch, path=branch or "a", invocation_id=run, lifecycle=done)


async def test_branches_that_have_ended_are_forgotten(new_store: Callable[..., SQLiteStore]) -> None:
    async def say(ctx: InvocationContext) -> None:
        await ctx.emit(ctx.text("word"))

    crowd = ParallelAgent("crowd", [FunctionAgent(f"w{number}", say) for number in range(100)])
    async with new_store() as store, Runner(crowd, sessions=store.sessions) as runner:
        async with runner.run("go") as run:
            await run.wait()
        (known,) = store.sessions._log._known.values()
        assert (known.lines, known.runs) == ({}, {})


async def test_a_branch_that_is_written_to_again_counts_on(new_store: Callable[..., SQLiteStore]) -> None:
    """Also in the commit that ended it, and where the others are far ahead or behind."""
    async with new_store() as store:
        await store.sessions.create(*KEY)
        batch = [word(""), *(word("p.a") for _ in range(3)), end("p.a"), word("p.a"), word("p.b")]
        await store.sessions.append(KEY, batch)
        await store.sessions.append(KEY, [word("") for _ in range(40)])
        await store.sessions.append(KEY, [word("p.a"), word("p.b"), end(""), word(""), word("p.c")])
        await store.sessions.append(KEY, [word(""), word("p.a"), word("p.c"), word("p.c", run="r2")])
        session = await store.sessions.get(KEY)
        assert session is not None
        seqs: dict[tuple[str, str], list[int]] = {}
        for event in session.events:
            seqs.setdefault((event.invocation_id, event.branch), []).append(event.seq or 0)
        lengths = {("r", ""): 44, ("r", "p.a"): 7, ("r", "p.b"): 2, ("r", "p.c"): 2, ("r2", "p.c"): 1}
        assert seqs == {line: list(range(1, length + 1)) for line, length in lengths.items()}
        assert await store.check() == []


@settings(max_examples=40)
@given(counts=st.lists(st.integers(0, 40), min_size=1, max_size=5))
def test_the_last_number_of_a_line_is_found_however_far_the_others_are(counts: list[int]) -> None:
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE af_events (id INTEGER PRIMARY KEY, run, line, seq, UNIQUE (run, seq, line))")
    rows = [(1, line, seq) for line, count in enumerate(counts) for seq in range(1, count + 1)]
    database.executemany("INSERT INTO af_events (run, line, seq) VALUES (?, ?, ?)", [*rows, (2, 0, 99)])
    log = SQLiteStore("unused.db").sessions._log
    assert [log._last_seq(database, 1, line) for line in range(len(counts))] == counts
    database.close()


@pytest.mark.parametrize("again", [False, True], ids=["new branches", "branches that had ended"])
async def test_a_branch_costs_the_same_however_many_there_were(
    new_store: Callable[..., SQLiteStore], again: bool
) -> None:
    """In steps of SQLite's machine."""
    steps = 0

    class Counted(sqlite3.Connection):
        def __init__(self, *args: object, **settings: object) -> None:
            super().__init__(*args, **settings)  # type: ignore[arg-type]
            self.set_progress_handler(self.count, 10)

        def count(self) -> int:
            nonlocal steps
            steps += 1
            return 0

    async with new_store() as store:
        store._driver.factory = Counted
        await store.sessions.create(*KEY)
        costs = []
        for size in (10, 2_000):
            await store.sessions.append(KEY, [end(f"p.w{size}-{number}") for number in range(size)])
            steps = 0
            for number in range(10):
                name = f"p.w{size}-{number}" if again else f"p.v{size}-{number}"
                await store.sessions.append(KEY, [end(name)])
            costs.append(steps)
        assert costs[1] < 2 * costs[0]


async def test_the_first_events_of_many_sessions_are_read_in_one_transaction_however_long_they_are(
    new_store: Callable[..., SQLiteStore],
) -> None:
    """Each in one statement."""
    told: list[str] = []

    class Heard(sqlite3.Connection):
        def __init__(self, *args: object, **settings: object) -> None:
            super().__init__(*args, **settings)  # type: ignore[arg-type]
            self.set_trace_callback(told.append)

    async with new_store() as store:
        store._driver.factory = Heard
        keys = [KEY._replace(session_id=f"s{number}") for number in range(20)]
        for number, key in enumerate(keys):
            await store.sessions.create(*key)
            await store.sessions.append(key, [end(f"p.w{place}") for place in range(number)])
        await store.sessions.first_events(keys)
        told.clear()
        found = await store.sessions.first_events(keys)
        assert [event is None for event in found] == [True] + [False] * 19
        assert len([words for words in told if words.startswith("BEGIN")]) == 1
        assert len([words for words in told if words.startswith("SELECT")]) == 20
