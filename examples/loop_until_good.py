"""A writer and an editor take turns until the editor is content. Run: `python examples/loop_until_good.py`."""

import anyio

from agentflow import Actions, InvocationContext, LoopAgent, Runner, agent

FILLERS = ("very ", "really ", "quite ", "just ")


@agent
async def writer(ctx: InvocationContext) -> None:
    """Takes out one filler a turn."""
    draft = ctx.state.get("draft", ctx.user_text)
    filler = next((word for word in FILLERS if word in draft), "")
    ctx.state["draft"] = draft.replace(filler, "", 1)
    await ctx.emit(ctx.text(ctx.state["draft"]))


@agent
async def editor(ctx: InvocationContext) -> None:
    """Ends the loop when no filler is left."""
    left = sum(ctx.state["draft"].count(word) for word in FILLERS)
    verdict = f"{left} left, again" if left else "good"
    await ctx.emit(ctx.event(verdict, actions=Actions(escalate=not left)))


drafting = LoopAgent("drafting", [writer, editor], max_iterations=10)


async def main() -> None:
    async with Runner(drafting) as runner, runner.run("It is really just a very good idea.") as run:
        async for event in run:
            if event.text:
                print(f"{event.iteration}. {event.author}: {event.text}")


if __name__ == "__main__":
    anyio.run(main)
