"""An agent of your own that yields: pieces as they come, then the whole. Run: `python examples/custom_generator.py`."""

from collections.abc import AsyncIterator

import anyio

from agentflow import Agent, Event, InvocationContext, Runner


class Typist(Agent):
    """Repeats what the user said, word by word."""

    async def run(self, ctx: InvocationContext) -> AsyncIterator[Event]:
        try:
            with anyio.fail_after(5):
                for word in ctx.user_text.split():
                    await anyio.sleep(0.01)
                    yield ctx.text(f"{word} ", partial=True, response_id="r1")  # noqa: ASYNC101, ASYNC119 - safe here
            yield ctx.text(ctx.user_text, response_id="r1")
        finally:
            print("\n[the typist puts the pen down]")


typist = Typist("typist")


async def main() -> None:
    async with Runner(typist) as runner:
        async with runner.run("Piece by piece it comes.") as run:
            async for event in run:
                if event.partial:
                    print(event.text, end="", flush=True)
                elif event.text:
                    print(f"\nwhole: {event.text!r}")

        async with runner.run("Nobody will hear the end of this.") as run:
            async for event in run:
                if event.partial:
                    print(event.text, end="", flush=True)
                if event.text.startswith("hear"):
                    break  # the generator is closed before the block is left
        print(f"status: {run.status}")


if __name__ == "__main__":
    anyio.run(main)
