"""A run in a plain script: no `await`, and its events stream. Run: `python examples/sync_script.py`."""

from agentflow import InvocationContext, Runner, SequentialAgent, agent


@agent
async def counter(ctx: InvocationContext) -> None:
    ctx.state["words"] = len(ctx.user_text.split())
    await ctx.emit(ctx.text(f"{ctx.state['words']} words"))


@agent
async def judge(ctx: InvocationContext) -> None:
    await ctx.emit(ctx.text("short enough" if ctx.state["words"] < 10 else "too long"))


check = SequentialAgent("check", [counter, judge])

if __name__ == "__main__":
    runner = Runner(check)

    for event in runner.run_sync("A sentence of six plain words."):
        if event.text:
            print(f"{event.author}: {event.text}")

    print(runner.run_sync("Another one.").result.text)
