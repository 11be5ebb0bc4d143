"""The reader leaves, the run goes on, another reader takes over. Run: `python examples/detach_and_attach.py`."""

import anyio

from agentflow import InvocationContext, Runner, agent


@agent
async def baker(ctx: InvocationContext) -> None:
    for step in ("knead", "rest", "shape", "bake", "cool"):
        await anyio.sleep(0.02)
        await ctx.emit(ctx.text(step))


async def main() -> None:
    async with Runner(baker) as runner:
        async with runner.run("A loaf, please.", on_consumer_gone="detach") as run:
            async for event in run:
                if event.text:
                    print(f"first reader: {event.text}")
                if event.text == "rest":
                    break
        print(f"gone after position {run.position}; the run is {run.status}")

        await anyio.sleep(0.05)  # meanwhile it bakes

        async with runner.attach(run.id, after=run.position) as again:
            async for event in again:
                if event.text:
                    print(f"second reader: {event.text}")
        print(f"the run is {again.status}")


if __name__ == "__main__":
    anyio.run(main)
