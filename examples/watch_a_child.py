"""A parent sees its child's events before they are stored. Run: `python examples/watch_a_child.py`."""

import re

import anyio

from agentflow import InvocationContext, Runner, Text, agent


@agent
async def caller(ctx: InvocationContext) -> None:
    """Reports what it hears."""
    for line in ("Ring 555-0142 for details.", "Um.", "It opens at nine.", "That is all.", "One more thing."):
        await ctx.emit(ctx.text(line))


@agent(sub_agents=[caller])
async def desk(ctx: InvocationContext) -> None:
    """Masks numbers, drops noise, hangs up at the end."""
    async with ctx.open(caller) as events:
        async for event in events:
            if len(event.text) < 5:
                continue  # dropped: it was never stored
            masked = re.sub(r"\d{3}-\d{4}", "xxx-xxxx", event.text)
            await ctx.emit(event.model_copy(update={"parts": (Text(masked),)}))
            if event.text == "That is all.":
                break  # stops the caller
    await ctx.emit(ctx.text("(hangs up)"))


async def main() -> None:
    async with Runner(desk) as runner:
        async with runner.run("What is new?") as run:
            await run.wait()
        session = await runner.sessions.get(run.session)
        for event in session.events if session else ():
            if event.text:
                print(f"{event.author}: {event.text}")


if __name__ == "__main__":
    anyio.run(main)
