"""agentflow doing the work that the floors and the peers do."""

import gc
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Literal

import anyio

from agentflow import (
    Agent,
    Event,
    FunctionAgent,
    InMemorySessionService,
    InvocationContext,
    LlmAgent,
    ParallelAgent,
    Runner,
    SequentialAgent,
    SessionKey,
)
from benchmarks.backends import run_on
from benchmarks.measure import Sample, StopWatch, median_stop, sample, sample_sync, settle
from benchmarks.memory import Meter

Style = Literal["emit", "yield"]
Way = Literal["break", "close", "cancel", "outer"]


def _speaker(name: str, events: int = 1, *, pause: float = 0, style: Style = "emit") -> Agent:
    async def emits(ctx: InvocationContext) -> None:
        if pause:
            await anyio.sleep(pause)
        for _ in range(events):
            await ctx.emit(ctx.text("hello"))

    async def yields(ctx: InvocationContext) -> AsyncIterator[Event]:
        for _ in range(events):
            yield ctx.text("hello")

    return FunctionAgent(name, emits if style == "emit" else yields)


def _fan(branches: int, events: int, *, pause: float = 0, style: Style = "emit") -> ParallelAgent:
    return ParallelAgent("fan", [_speaker(f"s{n}", events, pause=pause, style=style) for n in range(branches)])


async def _run(runner: Runner, *, session: str = "s", lookahead: int = 0) -> int:
    delivered = 0
    async with runner.run("go", session_id=session, lookahead=lookahead) as run:
        async for _ in run:
            delivered += 1
    return delivered


def merge(*, branches: int, events: int, lookahead: int, style: Style, backend: str) -> Sample:
    """W1 through a Runner with its in-memory session; per delivered event, lifecycle events too."""

    async def once(runner: Runner) -> int:
        async with runner:
            delivered = await _run(runner, lookahead=lookahead)
        assert delivered >= branches * events
        return delivered

    async def main() -> Sample:
        return await sample(lambda: Runner(_fan(branches, events, style=style)), once)

    return run_on(backend, main)


def sequence(*, runs: int, backend: str) -> Sample:
    """W2, a fresh session each; per run."""

    def build() -> Runner:
        middle = ParallelAgent("middle", [_speaker(name) for name in "bcd"])
        return Runner(SequentialAgent("line", [_speaker("a"), middle, _speaker("e")]))

    async def many(runner: Runner) -> int:
        async with runner:
            for n in range(runs):
                await _run(runner, session=f"s{n}")
        return runs

    async def main() -> Sample:
        return await sample(build, many)

    return run_on(backend, main)


def wait(*, branches: int, seconds: float, backend: str) -> Sample:
    """One sleep in every branch, then one event; per run."""

    async def once(runner: Runner) -> int:
        async with runner:
            await _run(runner)
        return 1

    async def main() -> Sample:
        return await sample(lambda: Runner(_fan(branches, 1, pause=seconds)), once, most=5)

    return run_on(backend, main)


def nested(*, depth: int, events: int, backend: str) -> Sample:
    """One agent that speaks at the bottom of `depth` Parallels and Sequentials in turn; per delivered event."""

    def build() -> Runner:
        agent = _speaker("leaf", events)
        for level in range(depth, 0, -1):
            workflow = ParallelAgent if level % 2 else SequentialAgent
            agent = workflow(f"level{level}", [agent])
        return Runner(agent)

    async def once(runner: Runner) -> int:
        async with runner:
            return await _run(runner)

    async def main() -> Sample:
        return await sample(build, once)

    return run_on(backend, main)


def long(*, events: int, collector: bool, backend: str) -> Sample:
    """One run of so many events from ten branches, with Python's cyclic collector or without; per delivered event."""
    if not collector:
        gc.disable()
    return merge(branches=10, events=events // 10, lookahead=0, style="emit", backend=backend)


def stored(*, stored: int, part: Literal["events", "turn"], backend: str) -> Sample:
    """A turn of a session that holds `stored` events already: per event of a long turn, or per instant turn."""

    async def main() -> Sample:
        sessions = InMemorySessionService()
        async with Runner(_fan(10, stored // 10), sessions=sessions) as runner:
            await _run(runner, lookahead=64)
        async with Runner(_fan(10, 100) if part == "events" else _speaker("one"), sessions=sessions) as runner:

            async def turns(_: None) -> int:
                if part == "events":
                    return await _run(runner)
                for _turn in range(20):
                    await _run(runner)
                return 20

            return await sample(lambda: None, turns, budget=0.2)

    return run_on(backend, main)


class _WatchedSessions(InMemorySessionService):
    """Notes when something was committed last."""

    def __init__(self, watch: StopWatch) -> None:
        super().__init__()
        self.watch = watch

    async def append(self, key: SessionKey, events: Sequence[Event], *, expected_version: int | None = None) -> None:
        await super().append(key, events, expected_version=expected_version)
        self.watch.ended()


def stop(*, branches: int, busy: bool, way: Way, backend: str) -> Sample:
    """From stopping a run to the end of its last branch's body; `committed_cpu` to the last commit.

    Each branch emits one event and waits; `busy` ones emit for ever instead.
    """

    async def once() -> Sample:
        bodies, commits = StopWatch(), StopWatch()

        async def body(ctx: InvocationContext) -> None:
            try:
                await ctx.emit(ctx.text("hello"))
                while busy:
                    await ctx.emit(ctx.text("hello"))
                await anyio.sleep_forever()
            finally:
                bodies.ended()

        def start() -> None:
            bodies.start()
            commits.start()

        fan = ParallelAgent("fan", [FunctionAgent(f"s{n}", body) for n in range(branches)])
        sessions = _WatchedSessions(commits)
        async with Runner(fan, sessions=sessions) as runner:
            await _STOPS[way](runner, branches, start)
            closed = bodies.reading()
            listed = await sessions.list(runner.app_name)
            session = await sessions.get(listed[0].key)
            assert session is not None
            ends = [event for event in session.events if getattr(event.lifecycle, "outcome", None)]
            assert bodies.count == branches, f"{bodies.count} of {branches} bodies ended"
            assert len(ends) > branches, f"{len(ends)} terminal events for {branches} branches"
            last = commits.reading()
        return {**closed, "committed_cpu": last["cpu"], "committed_wall": last["wall"]}

    return run_on(backend, lambda: median_stop(once))


async def _all_spoke(run: AsyncIterator[Event], branches: int) -> None:
    """Until each branch has spoken, and all bodies wait."""
    authors: set[str] = set()
    async for event in run:
        if event.lifecycle is None and event.author != "user":
            authors.add(event.author)
            if len(authors) == branches:
                break
    await settle(anyio.lowlevel.checkpoint)


async def _stop_by_break(runner: Runner, branches: int, start: Callable[[], None]) -> None:
    async with runner.run("go") as run:
        await _all_spoke(run, branches)
        start()


async def _stop_by_close(runner: Runner, branches: int, start: Callable[[], None]) -> None:
    async with runner.run("go") as run:
        await _all_spoke(run, branches)
        start()
        await run.aclose()


async def _stop_by_cancel(runner: Runner, branches: int, start: Callable[[], None]) -> None:
    async with runner.run("go") as run:
        await _all_spoke(run, branches)
        start()
        run.cancel("enough")
        await run.wait()


async def _stop_from_outside(runner: Runner, branches: int, start: Callable[[], None]) -> None:
    with anyio.CancelScope() as scope:
        async with runner.run("go") as run:
            await _all_spoke(run, branches)
            start()
            scope.cancel()
            await anyio.sleep_forever()


_STOPS: dict[Way, Callable[[Runner, int, Callable[[], None]], Awaitable[None]]] = {
    "break": _stop_by_break,
    "close": _stop_by_close,
    "cancel": _stop_by_cancel,
    "outer": _stop_from_outside,
}


def live(*, branches: int, how: Literal["traced", "rss"], backend: str) -> Sample:
    """Memory of `branches` waiting branches, bytes each, without what the session holds (`stored`, traced only)."""

    async def main() -> Sample:
        gate, all_here = anyio.Event(), anyio.Event()
        arrived = 0

        async def body(ctx: InvocationContext) -> None:
            nonlocal arrived
            arrived += 1
            if arrived == branches:
                all_here.set()
            await gate.wait()

        sessions = InMemorySessionService()
        async with Runner(_speaker("warm")) as runner:
            await _run(runner)
        fan = ParallelAgent("fan", [FunctionAgent(f"s{n}", body) for n in range(branches)])
        async with Runner(fan, sessions=sessions) as runner, anyio.create_task_group() as tasks:
            meter = Meter(how)
            meter.start()
            tasks.start_soon(_run, runner)
            await all_here.wait()
            for _ in range(10):
                await anyio.lowlevel.checkpoint()
            used = meter.used()
            listed = await sessions.list(runner.app_name)
            session = await sessions.get(listed[0].key)
            assert session is not None
            events = session.events
            kept = _weight(events)
            gate.set()
        return {
            "bytes": (used - kept) / branches,
            "stored": kept / branches,
            "events": len(events) / branches,
        }

    return run_on(backend, main)


def _weight(roots: Iterable[object]) -> int:
    """Bytes of the objects and of all that only data leads to from them: no classes, functions, modules."""
    seen: set[int] = set()
    total = 0
    waiting = list(roots)
    while waiting:
        item = waiting.pop()
        if id(item) in seen or isinstance(item, type | FunctionType | BuiltinFunctionType | ModuleType):
            continue
        seen.add(id(item))
        total += sys.getsizeof(item)
        waiting.extend(gc.get_referents(item))
    return total


def build(*, kind: Literal["custom", "tree", "llm"], count: int) -> Sample:
    """Construct agents; per agent."""

    async def body(ctx: InvocationContext) -> None:
        await ctx.emit(ctx.text("hello"))

    def custom() -> int:
        agents = [FunctionAgent(f"a{n}", body) for n in range(count)]
        return len(agents)

    def tree() -> int:
        for n in range(count // 11):
            _ = ParallelAgent(f"fan{n}", [FunctionAgent(f"a{leaf}", body) for leaf in range(10)])
        return count // 11 * 11

    def llm() -> int:
        agents = [LlmAgent(f"a{n}", model="claude-opus-5-5", instruction="Be brief.") for n in range(count)]
        return len(agents)

    return sample_sync({"custom": custom, "tree": tree, "llm": llm}[kind])
