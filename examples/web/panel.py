"""The agents: two groups at once, one of them in the other, each saying its words piece by piece."""

import anyio

from agentflow import Agent, FunctionAgent, InvocationContext, ParallelAgent, SequentialAgent

PAUSE = 0.15
"""Seconds between two pieces."""


def speaker(name: str, words: str) -> FunctionAgent:
    async def run(ctx: InvocationContext) -> None:
        for word in words.split(" "):
            await anyio.sleep(PAUSE)
            await ctx.emit(ctx.text(word + " ", partial=True, response_id=ctx.path))
        await ctx.emit(ctx.text(words))

    return FunctionAgent(name, run)


def panel() -> Agent:
    sources = ParallelAgent(
        "sources",
        [
            speaker("news", "Three launches this quarter, none of them in Europe."),
            speaker("prices", "From 19 to 49 euros, and falling since March."),
            speaker("filings", "Nothing has been filed."),
        ],
    )
    views = ParallelAgent(
        "views",
        [
            speaker("optimist", "It will sell: nobody else is there yet."),
            SequentialAgent("research", [speaker("search", "Three sources are worth reading."), sources]),
            speaker("critic", "Who asked for it? Nobody that I know."),
        ],
    )
    return SequentialAgent("panel", [views, speaker("editor", "Go, but small.")])
