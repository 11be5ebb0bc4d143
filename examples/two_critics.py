"""Two critics read one line at the same time. Run: `python examples/two_critics.py`."""

import anyio

from agentflow import FunctionAgent, InvocationContext, ParallelAgent, Runner


async def strict(ctx: InvocationContext) -> None:
    """Counts words."""
    words = ctx.user_text.split()
    await ctx.emit(ctx.text(f"{len(words)} words; {len(words) // 2} would do."))


async def kind(ctx: InvocationContext) -> None:
    """Finds something to praise."""
    longest = max(ctx.user_text.split(), key=len)
    await ctx.emit(ctx.text(f"{longest!r} is well chosen."))


critics = ParallelAgent("critics", [FunctionAgent("strict", strict), FunctionAgent("kind", kind)])


async def main() -> None:
    async with Runner(critics) as runner, runner.run("Roses are red, violets are blue.") as run:
        async for event in run:
            if event.text:
                print(f"{event.author}: {event.text}")


if __name__ == "__main__":
    anyio.run(main)
