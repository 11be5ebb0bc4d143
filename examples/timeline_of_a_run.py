"""When was each agent at work? Run: `python examples/timeline_of_a_run.py`, or with a file to write: `... run.html`."""

import sys

import anyio

from agentflow import FunctionAgent, InvocationContext, ParallelAgent, Retry, Runner, SequentialAgent
from agentflow.timeline import gantt, runs, to_html


def worker(name: str, seconds: float, *, fails: int = 0) -> FunctionAgent:
    tries = 0

    async def run(ctx: InvocationContext) -> None:
        nonlocal tries
        tries += 1
        await anyio.sleep(seconds)
        if tries <= fails:
            raise ConnectionError("busy")
        await ctx.emit(ctx.text(f"{name} is done"))

    return FunctionAgent(name, run, retry=Retry(attempts=3, delay=0.05) if fails else None)


views = ParallelAgent(
    "views", [worker("a", 0.1), worker("b", 0.05, fails=1), worker("c", 0.15), worker("d", 0.1)], max_concurrency=2
)
team = SequentialAgent("team", [worker("planner", 0.05), views, worker("editor", 0.05)])


async def main() -> None:
    async with Runner(team) as runner, runner.run("Go.") as run:
        await run.wait()
        session = await runner.sessions.get(run.session)
    assert session is not None
    (timeline,) = runs(session.events)
    print(gantt(timeline, width=90))
    if len(sys.argv) > 1:
        await anyio.Path(sys.argv[1]).write_text(to_html([timeline]), encoding="utf-8")
        print(f"\nOpen {sys.argv[1]} in a browser.")


if __name__ == "__main__":
    anyio.run(main)
