"""A plugin sees every agent of every run: it masks addresses and keeps time. Run: `python examples/plugin.py`."""

import re

import anyio

from agentflow import Event, InvocationContext, ParallelAgent, Plugin, Runner, Text, agent


class Discreet(Plugin):
    """No mail address gets into the session."""

    def __init__(self) -> None:
        self.masked = 0

    async def on_event(self, ctx: InvocationContext, event: Event) -> Event | None:
        text, count = re.subn(r"\S+@\S+", "<address>", event.text)
        if not count:
            return None  # as it is
        self.masked += count
        return event.model_copy(update={"parts": (Text(text),)})

    async def after_run(self, ctx: InvocationContext) -> None:
        print(f"plugin: {self.masked} masked in run of {ctx.agent.name!r}")

    async def close(self) -> None:
        print("plugin: closed with the Runner")


@agent
async def sales(ctx: InvocationContext) -> None:
    await ctx.emit(ctx.text("Write to sales@example.com."))


@agent
async def support(ctx: InvocationContext) -> None:
    await ctx.emit(ctx.text("Or to help@example.com or it@example.com."))


desks = ParallelAgent("desks", [sales, support])


async def main() -> None:
    async with Runner(desks, plugins=[Discreet()]) as runner, runner.run("Whom do I ask?") as run:
        async for event in run:
            if event.text:
                print(f"{event.author}: {event.text}")


if __name__ == "__main__":
    anyio.run(main)
