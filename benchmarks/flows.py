"""What graphs and map-reduce cost. Run: `python -m benchmarks.flows [--nodes 10000] [--chunks 10000]`.

- overhead: CPU of a node of a graph (chain, fan, random) next to a branch of a `ParallelAgent`, interleaved, as ratios;
- makespan: random graphs of 50 ms nodes, priorities and a cap, next to an event-by-event simulation of the same rules;
- memory: what a map-reduce holds at its highest, beyond its results, with a tenth of the chunks and with all of them.
"""

import argparse
import gc
import random
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import anyio

from agentflow import Agent, FunctionAgent, GraphAgent, InvocationContext, MapReduceAgent, Node, ParallelAgent, Runner
from agentflow.patterns._plan import Vertex
from agentflow.services.inmemory import InMemorySessionService
from agentflow.services.sessions import SessionService
from agentflow.services.sqlite import SQLiteStore
from tests.patterns.simulation import simulate


async def word() -> str:
    return "word"


async def say(ctx: InvocationContext) -> None:
    await ctx.emit(ctx.text("word"))


def parallel(count: int) -> Agent:
    return ParallelAgent("p", [FunctionAgent(f"n{number}", say) for number in range(count)])


def chain(count: int) -> Agent:
    return GraphAgent("g", [Node(word, name=f"n{n}", after=f"n{n - 1}" if n else ()) for n in range(count)])


def fan(count: int) -> Agent:
    names = [f"n{number}" for number in range(count - 1)]
    return GraphAgent("g", [*(Node(word, name=name) for name in names), Node(word, name="last", after=names)])


def scattered(count: int) -> Agent:
    return GraphAgent("g", [Node(word, name=v.name, after=v.after, priority=v.priority) for v in vertices(count, 1)])


def vertices(count: int, seed: int) -> list[Vertex]:
    """A random graph: up to three dependencies each, three priorities."""
    rng = random.Random(seed)
    return [
        Vertex(
            name=f"n{number}",
            after=tuple(sorted({f"n{rng.randrange(number)}" for _ in range(rng.randrange(4))} if number else set())),
            priority=rng.randrange(3),
        )
        for number in range(count)
    ]


async def cpu(make: Callable[[int], Agent], count: int) -> float:
    """Microseconds of processor time for each node of a run."""
    async with Runner(make(count)) as runner, runner.run("go") as run:
        gc.collect()
        began = time.process_time()
        async for _ in run:
            pass
        return (time.process_time() - began) / count * 1e6


async def overhead(count: int, rounds: int) -> None:
    shapes = {"chain": chain, "fan": fan, "random": scattered}
    for at in (count // 10, count):
        ratios: dict[str, list[float]] = {name: [] for name in shapes}
        for number in range(rounds + 1):
            base = await cpu(parallel, at)
            for name, make in shapes.items():
                ratio = await cpu(make, at) / base
                if number:  # the first round warms up
                    ratios[name].append(ratio)
        shown = ", ".join(
            f"{name} {median(found):.2f} ({min(found):.2f}-{max(found):.2f})" for name, found in ratios.items()
        )
        print(f"overhead, {at:,} nodes, of a ParallelAgent's branch ({base:.0f} us): {shown}")


async def makespan(count: int) -> None:
    async def nap() -> None:
        await anyio.sleep(0.05)

    for seed in range(3):
        plan = vertices(count, seed)
        nodes = [Node(nap, name=v.name, after=v.after, priority=v.priority) for v in plan]
        wanted = simulate(plan, dict.fromkeys([v.name for v in plan], 0.05), cap=10).makespan
        async with Runner(GraphAgent("g", nodes, max_concurrency=10)) as runner, runner.run("go") as run:
            began = time.perf_counter()
            await run.wait()
            took = time.perf_counter() - began
        print(
            f"makespan, {count} nodes of 50 ms, 10 at once: {took:.2f} s, simulated {wanted:.2f} s: {took / wanted:.3f}"
        )


async def held(sessions: SessionService, chunks: int) -> int:
    """KiB that are held at the highest, as sampled every 500 events."""

    def pieces(source: str) -> Iterator[str]:
        return (f"piece {number}" for number in range(chunks))

    async def mapper(piece: str) -> str:
        return piece[-4:]

    async def reducer(results: list[str]) -> str:
        return str(len(results))

    work = MapReduceAgent("m", mapper=mapper, reducer=reducer, splitter=pieces, fan_in=10)
    async with Runner(work, sessions=sessions) as runner:
        async with runner.run("warm up") as run:
            async for _ in run:
                break
        gc.collect()
        tracemalloc.start()
        most = 0
        async with runner.run("go") as run:
            number = 0
            async for _ in run:
                number += 1
                if number % 500 == 0:
                    gc.collect()
                    most = max(most, tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
    return most // 1024


async def memory(chunks: int) -> None:
    for name in ("memory", "sqlite"):
        found = []
        for count in (chunks // 10, chunks):
            with tempfile.TemporaryDirectory() as folder:
                if name == "memory":
                    found.append(await held(InMemorySessionService(), count))
                else:
                    async with SQLiteStore(Path(folder) / "flows.db") as store:
                        found.append(await held(store.sessions, count))
        note = " (which keeps every event)" if name == "memory" else ""
        print(f"map-reduce, {chunks // 10:,} and {chunks:,} chunks, {name}{note}: {found[0]:,} and {found[1]:,} KiB")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=10_000)
    parser.add_argument("--chunks", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    await overhead(options.nodes, options.rounds)
    await makespan(200)
    await memory(options.chunks)


if __name__ == "__main__":
    anyio.run(main)
