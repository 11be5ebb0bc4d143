"""`python -m benchmarks.stores`: what a stored event costs, next to SQLite itself doing the same inserts.

A floor is Python's `sqlite3`, write-ahead logging, and one ready-made line of JSON inserted again and again: into a
table of nothing else (*bare*), or into one with agentflow's columns and its two keys (*same table*). Each row is
measured next to its floor, in interleaved rounds; ratios are medians over them. There are enough events for SQLite to
move its log into the file now and then, on either side.
"""

import argparse
import gc
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path

import anyio

from agentflow import Event, InvocationContext, ParallelAgent, Runner, SessionKey, SQLiteStore, agent
from agentflow.content import Text
from benchmarks.backends import BACKENDS

KEY = SessionKey("app", "ada", "s1")
TEXT = "word " * 60
BARE = "CREATE TABLE e (id INTEGER PRIMARY KEY, body TEXT)"
SAME = (
    "CREATE TABLE e (id INTEGER PRIMARY KEY, run INTEGER, line INTEGER, seq INTEGER, epoch INTEGER DEFAULT 0, "
    "timestamp DOUBLE, body TEXT, UNIQUE (run, seq, line))"
)
_numbers = count(1)


def event_of(branch: str) -> Event:
    """An event as a run hands it to its store."""
    return Event(
        id=f"e-0123456789abcdef0123456789abcdef-{next(_numbers)}", invocation_id="e-0123456789abcdef0123456789abcdef",
        timestamp=1_700_000_000.25, author="writer", branch=branch, path="crowd.writer", parts=(Text(TEXT),),
    )  # fmt: skip


def floor(path: Path, table: str, batch: int, events: int, *, power: bool = False) -> float:
    """Microseconds of wall time for each event, so many in a transaction."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {'FULL' if power else 'NORMAL'}")
    connection.execute(table)
    body = event_of("crowd.writer").to_json()
    serial = 0
    began = time.perf_counter()
    for seq in range(events // batch):
        connection.execute("BEGIN IMMEDIATE")
        if table is BARE:
            connection.executemany("INSERT INTO e (body) VALUES (?)", [(body,)] * batch)
        else:
            rows = [(serial + line, 1, line, seq, 1.5, body) for line in range(batch)]
            serial += batch
            connection.executemany(
                "INSERT INTO e (id, run, line, seq, timestamp, body) VALUES (?, ?, ?, ?, ?, ?)", rows
            )
        connection.execute("COMMIT")
    took = time.perf_counter() - began
    connection.close()
    return took / events * 1e6


async def appending(path: Path, branches: int, events: int, *, power: bool = False) -> float:
    """The same for `append`, each of so many branches waiting for its own commit."""
    async with SQLiteStore(path, durability="power" if power else "process") as store:
        await store.sessions.create(*KEY)
        ready = [[event_of(f"crowd.w{branch}") for _ in range(events // branches)] for branch in range(branches)]

        async def branch(mine: list[Event]) -> None:
            for event in mine:
                await store.sessions.append(KEY, (event,))

        gc.collect()  # looking through what was made ready is no part of storing it
        began = time.perf_counter()
        async with anyio.create_task_group() as tasks:
            for mine in ready:
                tasks.start_soon(branch, mine)
        return (time.perf_counter() - began) / events * 1e6


async def running(path: Path, branches: int, events: int) -> float:
    """The same for a whole run: agents that speak, a Runner that stores, a reader who reads."""

    @agent
    async def writer(ctx: InvocationContext) -> None:
        for _ in range(events // branches):
            await ctx.emit(ctx.text(TEXT))

    crowd = ParallelAgent("crowd", [writer.clone(name=f"w{n}") for n in range(branches)])
    async with SQLiteStore(path) as store, Runner(crowd, sessions=store.sessions) as runner:
        await store.upgrade()
        began = time.perf_counter()
        async with runner.run("go") as run:
            delivered = [event async for event in run]
        return (time.perf_counter() - began) / len(delivered) * 1e6


async def opening(path: Path, events: int) -> float:
    """Microseconds to read the last 50 events of a session that has so many."""
    async with SQLiteStore(path) as store:
        await store.sessions.create(*KEY)
        for start in range(0, events, 500):
            await store.sessions.append(KEY, [event_of("") for _ in range(min(500, events - start))])
        return await _quickest(lambda: store.sessions.get(KEY, recent=50))


async def listing(path: Path, sessions: int) -> float:
    """Microseconds to read a page of 50 sessions, where there are so many."""
    async with SQLiteStore(path) as store:
        async with anyio.create_task_group() as tasks:
            for n in range(sessions):
                tasks.start_soon(partial(store.sessions.create, "app", f"user {n % 7}", f"s{n}", state={"n": n}))
        return await _quickest(lambda: store.sessions.list("app", limit=50))


async def _quickest(work: Callable[[], Awaitable[object]], times: int = 60) -> float:
    readings = []
    for _ in range(times):
        began = time.perf_counter()
        await work()
        readings.append(time.perf_counter() - began)
    return min(readings) * 1e6  # what it takes when nobody else is at work


async def growing(path: Path, events: int) -> Iterator[tuple[int, float]]:
    """What an event costs as the file grows: events so far, microseconds for each of the last tenth."""
    step = events // 10
    readings = []
    async with SQLiteStore(path) as store:
        await store.sessions.create(*KEY)
        for done in range(step, events + 1, step):
            began = time.perf_counter()

            async def branch(name: str) -> None:
                for _ in range(step // 100):
                    await store.sessions.append(KEY, (event_of(name),))

            async with anyio.create_task_group() as tasks:
                for n in range(100):
                    tasks.start_soon(branch, f"crowd.w{n}")
            readings.append((done, (time.perf_counter() - began) / step * 1e6))
    return iter(readings)


Measured = Callable[[Path], float]


def rows(run: Callable[..., float]) -> list[tuple[str, Measured, str, Measured]]:
    """What is measured: its name, how, what it is compared with, and how that is measured."""
    return [
        (
            "append, one branch", lambda path: run(appending, path, 1, 6_000),
            "bare, an event a commit", lambda path: floor(path, BARE, 1, 6_000),
        ),
        (
            "run, one branch", lambda path: run(running, path, 1, 3_000),
            "bare, an event a commit", lambda path: floor(path, BARE, 1, 6_000),
        ),
        (
            "append, 100 branches", lambda path: run(appending, path, 100, 60_000),
            "bare, 100 a commit", lambda path: floor(path, BARE, 100, 60_000),
        ),
        (
            "append, 100 branches", lambda path: run(appending, path, 100, 60_000),
            "same table, 100 a commit", lambda path: floor(path, SAME, 100, 60_000),
        ),
        (
            "run, 100 branches", lambda path: run(running, path, 100, 30_000),
            "same table, 100 a commit", lambda path: floor(path, SAME, 100, 60_000),
        ),
        (
            "append, power, one branch", lambda path: run(partial(appending, power=True), path, 1, 1_000),
            "bare, power, an event a commit", lambda path: floor(path, BARE, 1, 1_000, power=True),
        ),
        (
            "append, power, 10 branches", lambda path: run(partial(appending, power=True), path, 10, 5_000),
            "bare, power, 10 a commit", lambda path: floor(path, BARE, 10, 5_000, power=True),
        ),
        (
            "append, power, 100 branches", lambda path: run(partial(appending, power=True), path, 100, 30_000),
            "bare, power, 100 a commit", lambda path: floor(path, BARE, 100, 30_000, power=True),
        ),
        (
            "open 20,000 events, the last 50", lambda path: run(opening, path, 20_000),
            "open 100 events, the last 50", lambda path: run(opening, path, 100),
        ),
        (
            "a page of 10,000 sessions", lambda path: run(listing, path, 10_000),
            "a page of 100 sessions", lambda path: run(listing, path, 100),
        ),
    ]  # fmt: skip


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stores", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--backend", choices=BACKENDS, default="asyncio")
    parser.add_argument("--dir", help="a folder on the disk to measure; by default the system's temporary one")
    parser.add_argument("--million", action="store_true", help="also the cost of an event as a file grows to 1,000,000")
    options = parser.parse_args(arguments)
    settings = {"uvloop": {"backend": "asyncio", "backend_options": {"use_uvloop": True}}}

    def run(work: Callable[..., Awaitable[float]], *values: object) -> float:
        return anyio.run(work, *values, **settings.get(options.backend, {"backend": options.backend}))

    with tempfile.TemporaryDirectory(dir=options.dir) as folder:
        files = (Path(folder) / f"{n}.db" for n in count())
        table = rows(run)
        readings: list[list[tuple[float, float]]] = [[] for _ in table]
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
            for row, (_, ours, _, theirs) in enumerate(table):
                readings[row].append((ours(next(files)), theirs(next(files))))
        print(f"| {options.backend} | µs | compared with | µs | ratio | spread |\n|---|---|---|---|---|---|")
        for (name, _, against, _), pairs in zip(table, readings, strict=True):
            ratios = [mine / other for mine, other in pairs]
            mine, other = (statistics.median(pair[side] for pair in pairs) for side in (0, 1))
            spread = f"{min(ratios):.2f}..{max(ratios):.2f}"
            print(f"| {name} | {mine:,.1f} | {against} | {other:,.1f} | {statistics.median(ratios):.2f} | {spread} |")
        if options.million:
            print("\n| events in the file | µs an event, 100 branches |\n|---|---|")
            for done, cost in run(growing, next(files), 1_000_000):
                print(f"| {done:,} | {cost:.1f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
