"""What a scatter costs beside its slowest branch: `python -m benchmarks.quality.overhead`."""

import time

import anyio

from agentflow import FunctionAgent, InvocationContext, Runner, ScatterGatherAgent, ScatterGatherResult, Voting
from agentflow.core import Agent


async def turn(ctx: InvocationContext) -> None:
    await anyio.sleep(0.05)
    await ctx.emit(ctx.text("42"))


async def measure(pattern: Agent, rounds: int) -> tuple[float, float, float, float]:
    """Of the best run: wall time of all and of its scatter, its slowest branch, and CPU time; in milliseconds."""
    found = []
    async with Runner(pattern) as runner:
        for _ in range(rounds):
            began, cpu = time.perf_counter(), time.process_time()
            async with runner.run("What is 6 x 7?") as run:
                result = await run.wait()
            wall, cost = time.perf_counter() - began, time.process_time() - cpu
            answer = ScatterGatherResult.of(result)
            slowest = max(branch.seconds for branch in answer.branches)
            found.append((wall * 1000, answer.metrics.wall_seconds * 1000, slowest * 1000, cost * 1000))
    return min(found)


async def main() -> None:
    print("| branches of 50 ms | run | scatter | slowest branch | scatter / slowest | CPU |")
    print("|---:|---:|---:|---:|---:|---:|")
    for n in (10, 100, 1000):
        pattern = ScatterGatherAgent("vote", FunctionAgent("v", turn), n=n, aggregator=Voting(), early_stop=False)
        wall, scatter, slowest, cpu = await measure(pattern, 10)
        ratio = f"{scatter / slowest:.2f} x"
        print(f"| {n} | {wall:.1f} ms | {scatter:.1f} ms | {slowest:.1f} ms | {ratio} | {cpu:.1f} ms |")


if __name__ == "__main__":
    anyio.run(main)
