"""A Parallel in a Parallel, and who sees what. Run: `python examples/nested_agents.py`."""

import anyio

from agentflow import FunctionAgent, InvocationContext, ParallelAgent, Runner, SequentialAgent


def analyst(name: str, finding: str) -> FunctionAgent:
    async def turn(ctx: InvocationContext) -> None:
        await anyio.sleep(0.05)  # here a real one works
        await ctx.emit(ctx.text(finding))

    return FunctionAgent(name, turn)


def reader(name: str) -> FunctionAgent:
    """Says whose words it sees."""

    async def turn(ctx: InvocationContext) -> None:
        authors = sorted(event.author for event in await ctx.history())
        await ctx.emit(ctx.text(f"I see {', '.join(authors)}"))

    return FunctionAgent(name, turn)


rivals = ParallelAgent("rivals", [analyst("local", "two shops"), analyst("online", "nine shops")])
market = SequentialAgent("market", [rivals, reader("market_summary")])
money = SequentialAgent("money", [analyst("cost", "4 a piece"), analyst("price", "9 a piece")])
study = SequentialAgent("study", [ParallelAgent("research", [market, money]), reader("report")])


async def main() -> None:
    async with Runner(study) as runner, runner.run("Shall we sell umbrellas?") as run:
        async for event in run:
            if event.text:
                print(f"{event.branch or '(root)':28} {event.author}: {event.text}")


if __name__ == "__main__":
    anyio.run(main)
