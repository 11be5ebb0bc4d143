"""`python -m benchmarks.looking`: what it costs to look at what is stored, and whether it stays linear. CPU time.

A timeline and its pictures, per event, of runs of 2,000 and 20,000 events; a page of 20 sessions among 100 and 10,000.
"""

import gc
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import anyio

from agentflow import Event, FunctionAgent, InvocationContext, ParallelAgent, Runner, SQLiteStore
from agentflow.timeline import Timeline, gantt, runs, to_chrome, to_html, to_jsonl, to_svg

ROUNDS = 5


async def say(ctx: InvocationContext) -> None:
    await ctx.emit(ctx.text("Twelve words, as an agent might say them in a run like this."))


async def log(branches: int) -> list[Event]:
    wide = ParallelAgent("wide", [FunctionAgent(f"a{number}", say) for number in range(branches)])
    async with Runner(wide) as runner, runner.run("go", lookahead=64) as run:
        return [event async for event in run]


def best(work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(ROUNDS):
        gc.collect()
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    return min(seconds)


def pictures(timeline: Timeline) -> dict[str, Callable[[], object]]:
    return {
        "text": lambda: gantt(timeline),
        "svg": lambda: to_svg(timeline),
        "page": lambda: to_html([timeline]),
        "chrome": lambda: list(to_chrome([timeline])),
        "jsonl": lambda: list(to_jsonl([timeline])),
    }


async def page(path: Path, count: int) -> float:
    async with SQLiteStore(path) as store:
        for number in range(count):
            await store.sessions.create("app", "user", f"s{number}")
        await store.sessions.list(limit=20)
        began = time.process_time()
        for _ in range(100):
            await store.sessions.list(limit=20)
        return (time.process_time() - began) / 100


def main() -> None:
    costs: dict[str, list[float]] = {}
    for branches in (666, 6_666):
        events = anyio.run(log, branches)
        (timeline,) = runs(events)
        for name, work in {"timeline": lambda events=events: list(runs(events)), **pictures(timeline)}.items():
            costs.setdefault(name, []).append(best(work) / len(events) * 1e6)
    print("µs an event         2,000  20,000  ratio")
    for name, (small, large) in costs.items():
        print(f"{name:<18} {small:>6.1f}  {large:>6.1f}  {large / small:>5.2f}")
    with tempfile.TemporaryDirectory() as folder:
        few, many = (anyio.run(page, Path(folder) / f"{count}.db", count) for count in (100, 10_000))
    print(f"\na page of 20 sessions: {few * 1e3:.2f} ms among 100, {many * 1e3:.2f} ms among 10,000: {many / few:.2f}")


if __name__ == "__main__":
    main()
