"""Draws `docs/timeline.svg`: a real run on a clock that jumps. Run it from anywhere."""

import sys
from collections.abc import Sequence
from pathlib import Path

import anyio
import trio
from trio.testing import MockClock

from agentflow import FunctionAgent, InvocationContext, LoopAgent, ParallelAgent, Retry, Runner, SequentialAgent
from agentflow.timeline import runs, to_svg

PICTURE = Path(__file__).with_name("timeline.svg")


def worker(name: str, seconds: Sequence[float], *, fails: str = "", times: int = 9, retry: int = 1) -> FunctionAgent:
    """Says something after each while; then fails, the first `times` times."""
    tries = 0

    async def run(ctx: InvocationContext) -> None:
        nonlocal tries
        tries += 1
        for pause in seconds:
            await anyio.sleep(pause)
            await ctx.emit(ctx.text("…"))
        if fails and tries <= times:
            raise ConnectionError(fails)

    return FunctionAgent(name, run, retry=Retry(attempts=retry, delay=0.6))


def panel() -> SequentialAgent:
    """A plan, then seven views, four at a time; five are enough."""
    sources = ParallelAgent(
        "sources",
        [worker("news", [1.0, 1.4]), worker("prices", [3.5]), worker("filings", [0.4], fails="closed on Sundays")],
        on_error="collect",
    )
    views = ParallelAgent(
        "views",
        [
            worker("optimist", [2.1]),
            LoopAgent("critic", [worker("objection", [0.9]), worker("answer", [0.4])], max_iterations=3),
            SequentialAgent("research", [worker("search", [1.6]), sources]),
            worker("lawyer", [1.0], fails="the line was busy", times=2, retry=3),
            worker("accountant", [1.5]),
            worker("translator", [6.0]),
            worker("printer", [6.0]),
        ],
        max_concurrency=4,
        stop_when=5,
    )
    return SequentialAgent("panel", [worker("planner", [0.8]), views, worker("editor", [1.0])])


async def draw(picture: Path) -> None:
    """Run the panel and save its timeline."""
    async with Runner(panel(), time=trio.current_time) as runner, runner.run("Should we enter the market?") as run:
        await run.wait()
        session = await runner.sessions.get(run.session)
    assert session is not None
    (timeline,) = runs(session.events)
    await anyio.Path(picture).write_text(to_svg(timeline), encoding="utf-8")


def main() -> None:
    """Draw it, to the file that is named on the command line or its place in the docs."""
    picture = Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURE
    anyio.run(draw, picture, backend="trio", backend_options={"clock": MockClock(autojump_threshold=0)})


if __name__ == "__main__":
    main()
