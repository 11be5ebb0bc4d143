"""Small agents to trace."""

import anyio

from agentflow import Agent, FunctionAgent, InvocationContext, Runner


def speaker(name: str, **settings) -> FunctionAgent:
    async def run(ctx: InvocationContext) -> None:
        await ctx.emit(ctx.text(name))

    return FunctionAgent(name, run, **settings)


def sleeper(name: str, awake: anyio.Event | None = None, **settings) -> FunctionAgent:
    async def run(ctx: InvocationContext) -> None:
        if awake is not None:
            awake.set()
        await anyio.sleep_forever()

    return FunctionAgent(name, run, **settings)


def failing(name: str, *errors: Exception, **settings) -> FunctionAgent:
    left = list(errors)

    async def run(ctx: InvocationContext) -> None:
        await ctx.emit(ctx.text(name))
        if left:
            raise left.pop(0)

    return FunctionAgent(name, run, **settings)


async def run_of(root: Agent, **settings) -> None:
    """Run it to its end."""
    with anyio.fail_after(5):
        async with Runner(root, app_name="app", **settings) as runner, runner.run("go") as run:
            async for _ in run:
                pass
