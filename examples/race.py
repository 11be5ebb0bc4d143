"""Ask three mirrors, take the first answer, stop the others. Run: `python examples/race.py`."""

import anyio

from agentflow import FunctionAgent, InvocationContext, ParallelAgent, Runner


def mirror(name: str, delay: float) -> FunctionAgent:
    async def turn(ctx: InvocationContext) -> None:
        try:
            await anyio.sleep(delay)
            await ctx.emit(ctx.text(f"the file, from {name}"))
        finally:
            print(f"{name} has let go of its connection")

    return FunctionAgent(name, turn)


mirrors = ParallelAgent(
    "mirrors", [mirror("far", 30), mirror("near", 0.05), mirror("farther", 60)], stop_when="first_success"
)


async def main() -> None:
    async with Runner(mirrors) as runner, runner.run("file.zip") as run:
        result = await run.wait()
    print(f"got {result.text!r} after {result.duration:.1f} s")
    for branch, outcome in sorted(result.outcomes.items()):
        print(f"{branch}: {outcome.status}")


if __name__ == "__main__":
    anyio.run(main)
