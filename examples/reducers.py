"""Three jurors write the same keys at once; reducers join what they wrote. Run: `python examples/reducers.py`."""

import operator

import anyio

from agentflow import FunctionAgent, InvocationContext, ParallelAgent, Runner, SequentialAgent, agent


def juror(name: str, points: int, remark: str) -> FunctionAgent:
    async def turn(ctx: InvocationContext) -> None:
        ctx.state["points"] = points  # what it adds, not the sum
        ctx.state["best"] = points
        ctx.state["remarks"] = [f"{name}: {remark}"]

    return FunctionAgent(name, turn)


@agent
async def chair(ctx: InvocationContext) -> None:
    """Reads what has been joined."""
    state = ctx.state
    await ctx.emit(ctx.text(f"{state['points']} points in all, {state['best']} at best"))
    await ctx.emit(ctx.text("; ".join(state["remarks"])))


jury = ParallelAgent(
    "jury",
    [juror("anna", 7, "too long"), juror("ben", 9, "fresh"), juror("cleo", 4, "seen it before")],
    on_conflict={"points": operator.add, "best": max, "remarks": operator.add},
)
contest = SequentialAgent("contest", [jury, chair])


async def main() -> None:
    async with Runner(contest) as runner, runner.run("Judge this song.", state={"points": 100}) as run:
        async for event in run:
            if event.text:
                print(f"{event.author}: {event.text}")


if __name__ == "__main__":
    anyio.run(main)
