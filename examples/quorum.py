"""Two answers of five are enough; one source fails, one is too slow. Run: `python examples/quorum.py`."""

import anyio

from agentflow import FunctionAgent, InvocationContext, ParallelAgent, Runner


def thermometer(name: str, celsius: float | None, *, delay: float, timeout: float | None = None) -> FunctionAgent:
    async def turn(ctx: InvocationContext) -> None:
        await anyio.sleep(delay)
        if celsius is None:
            raise ConnectionError(f"{name} doesn't answer")
        await ctx.emit(ctx.text(f"{celsius} °C"))

    return FunctionAgent(name, turn, timeout=timeout)


readings = ParallelAgent(
    "readings",
    [
        thermometer("roof", 18.5, delay=0.2),
        thermometer("cellar", None, delay=0.01),
        thermometer("attic", 21.0, delay=30, timeout=0.05),
        thermometer("garden", 17.0, delay=0.1),
        thermometer("lake", 15.5, delay=60),
    ],
    stop_when=2,
    on_error="collect",
)


async def main() -> None:
    async with Runner(readings) as runner, runner.run("How warm is it?") as run:
        result = await run.wait()
    for branch, outcome in sorted(result.outcomes.items()):
        print(f"{branch:16} {outcome.status:10} {outcome.text or outcome.error or ''}")
    print(f"answers: {result.output}")


if __name__ == "__main__":
    anyio.run(main)
