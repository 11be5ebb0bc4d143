"""Processes that end in the middle of a run: at each commit, or when they are killed. Run by `test_sqlite_crashes.py`.

`python -m tests.services.crashes kills 100` kills a hundred, one after the other, at random moments; `commits` ends one
right before and one right after each commit of a run. Both print what was lost. All of it runs in forked children: this
process itself has no threads, so that it can be forked.
"""

import argparse
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import anyio

import agentflow.services._sqlite  # noqa: F401 - before the forks, or children spend their lives importing it
from agentflow import (
    Agent,
    InvocationContext,
    LoopAgent,
    ParallelAgent,
    Runner,
    SequentialAgent,
    SQLiteStore,
    agent,
)
from agentflow.services.sqlite import Durability
from tests.core.actors import says, writes, yields
from tests.faults.checks import log_problems, state_problems

Problems = list[str]


@agent
async def saves(ctx: InvocationContext) -> None:
    await ctx.save_artifact("notes.txt", b"x" * 300_000)
    await ctx.emit(ctx.text("saved"))


@agent
async def writer(ctx: InvocationContext) -> None:
    for n in range(200):
        ctx.state[ctx.agent.name] = n
        await ctx.emit(ctx.text(f"{n} " + "word " * 50))


MIXED = SequentialAgent(
    "mixed",
    [
        ParallelAgent("p", [yields("a", "one"), ParallelAgent("q", [says("b", "x"), writes("c", v=1, user_v=2)])]),
        saves,
        LoopAgent("l", [writes("d", n=[1])], max_iterations=2),
    ],
)
CROWD = ParallelAgent("crowd", [writer.clone(name=f"w{n}") for n in range(8)])


class Connection(sqlite3.Connection):
    """Ends its process right before or right after the k-th commit."""

    at = 0
    after = False
    count = 0

    def commit(self) -> None:
        Connection.count += 1
        if Connection.count == self.at and not self.after:
            os._exit(3)
        super().commit()
        if Connection.count == self.at and self.after:
            os._exit(3)


async def play(root: Agent, path: Path, acknowledged: Path, durability: Durability) -> None:
    """A run of which each event that was delivered is noted at once, in a file that outlives the process."""
    note = os.open(acknowledged, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    async with SQLiteStore(path, durability=durability) as store:
        store._driver.factory = Connection
        services = {"sessions": store.sessions, "artifacts": store.artifacts, "memory": store.memory}
        async with Runner(root, **services) as runner, runner.run("go", session_id="s") as run:
            async for event in run:
                if event.serial is not None:
                    os.write(note, f"{event.serial} {event.id}\n".encode())


async def look(root: Agent, path: Path, told: list[str]) -> Problems:
    """What is wrong with what is left, and with the session's next turn."""
    async with SQLiteStore(path) as store:
        problems = await store.check()
        sessions = await store.sessions.list(root.name)
        if not sessions:
            return [*problems, *(["the session is gone"] if told else [])]
        session = await store.sessions.get(sessions[0].key)
        stored = {f"{event.serial} {event.id}" for event in session.events}
        problems += [f"event {line} was acknowledged and is lost" for line in told if line not in stored]
        # Turns that were under way have no end: all else must be as ever.
        problems += [problem for problem in log_problems(session.events) if " has no " not in problem]
        problems += state_problems(session, {})
        for name in await store.artifacts.list(session.key):
            if (await store.artifacts.load(session.key, name)).size_bytes != 300_000:
                problems.append(f"file {name!r} is cut short")
        next_root = SequentialAgent(root.name, [says("again", "next turn"), remembers])
        async with Runner(next_root, sessions=store.sessions) as runner, runner.run("again", session_id="s") as run:
            result = await run.wait()
        heard = [event.text for event in session.events if event.author == "user"] + ["again", "next turn"]
        if not result.text.startswith(heard[0]) or not result.text.endswith("again next turn"):
            problems.append(f"the next turn sees {result.text!r}")
        problems += await store.check()
        return problems


@agent
async def remembers(ctx: InvocationContext) -> None:
    """Says what it sees of what was said before."""
    await ctx.emit(ctx.text(" ".join(event.text for event in await ctx.history())))


def forked(work: Callable[[], Problems | None], wait: Callable[[int], None] = lambda pid: None) -> int:
    """Do `work` in a child; gives its exit code, or minus the signal that ended it."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            problems = work() or []
            for problem in problems[:10]:
                print(problem, flush=True)
            code = 2 if problems else 0
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", flush=True)
        finally:
            os._exit(code)
    wait(pid)
    status = os.waitpid(pid, 0)[1]
    return os.waitstatus_to_exitcode(status)


def one(
    root: Agent,
    backend: str,
    folder: Path,
    empty: Path,
    begin: Callable[[], None],
    wait: Callable[[int], None],
    durability: Durability = "process",
):
    """One run that is ended, and a look at what is left: how it ended, and whether all is well."""
    path, acknowledged = folder / "one.db", folder / "acknowledged"
    for file in folder.glob("one.db*"):
        file.unlink()
    acknowledged.unlink(missing_ok=True)
    shutil.copy(empty, path)

    def run() -> None:
        begin()
        anyio.run(partial(play, root, path, acknowledged, durability), backend=backend)

    ended = forked(run, wait)
    told = acknowledged.read_text().splitlines() if acknowledged.exists() else []
    well = forked(lambda: anyio.run(partial(look, root, path, told), backend=backend)) == 0
    return ended, well, len(told)


def commits(backend: str, folder: Path, empty: Path, step: int) -> int:
    """End a process before and after every commit of a run, or every so many; gives how often something was wrong."""
    wrong = points = 0
    ended = 3
    while ended == 3:
        points += step
        for after in (False, True):

            def begin(after=after, at=points) -> None:
                Connection.at, Connection.after = at, after

            ended, well, told = one(MIXED, backend, folder, empty, begin, lambda pid: None)
            wrong += not well
            if not well or ended not in (0, 3):
                when = "after" if after else "before"
                print(f"^ {backend}: ended {when} commit {points} ({ended}), {told} delivered")
                wrong += ended not in (0, 3)
    print(f"{backend}: {points // step - 1} commits, each ended before and after: {wrong} wrong")
    return wrong


def kills(backend: str, folder: Path, empty: Path, count: int, seed: int) -> int:
    """Kill so many processes at random moments, of either durability; gives how often something was wrong."""
    wrong = done = delivered = 0
    chance, longest = random.Random(seed), 0.6
    while done < count or (not delivered and done < 5 * count):

        def wait(pid: int, longest: float) -> None:
            time.sleep(chance.uniform(0.02, longest))
            os.kill(pid, signal.SIGKILL)

        durability: Durability = "power" if done % 2 else "process"
        ended, well, told = one(CROWD, backend, folder, empty, lambda: None, partial(wait, longest=longest), durability)
        done += ended == -signal.SIGKILL
        delivered += told
        if not delivered:  # the machine is busy: the next may come further
            longest = min(longest * 1.5, 10.0)
        if not well or ended not in (0, -signal.SIGKILL):
            print(f"^ {backend}: kill {done} ({ended}), {told} delivered")
            wrong += 1
    wrong += not delivered
    print(f"{backend}: {done} killed, {delivered} events delivered before: {wrong} wrong")
    return wrong


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.services.crashes", description=__doc__)
    parser.add_argument("what", choices=["commits", "kills"])
    parser.add_argument("count", type=int, nargs="?", default=100)
    parser.add_argument("--backend", choices=["asyncio", "trio"], action="append")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--step", type=int, default=1, help="only every so many commits")
    options = parser.parse_args(arguments)
    wrong = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        empty = folder / "empty.db"

        async def make() -> None:
            async with SQLiteStore(empty) as store:
                await store.upgrade()

        forked(lambda: anyio.run(make))
        for backend in options.backend or ["asyncio", "trio"]:
            if options.what == "commits":
                wrong += commits(backend, folder, empty, options.step)
            else:
                wrong += kills(backend, folder, empty, options.count, options.seed)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
