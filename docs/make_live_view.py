"""Draws `docs/live-view.svg`: a real run, stopped in its middle by a clock that can be set. Run it from anywhere."""

import io
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import anyio
import trio
from rich.console import Console
from rich.terminal_theme import MONOKAI
from trio.testing import MockClock

from agentflow import FunctionAgent, InvocationContext, LoopAgent, ParallelAgent, Runner, SequentialAgent
from agentflow.cli._live import LiveView

PICTURE = Path(__file__).with_name("live-view.svg")
MOMENT = 7.2
"""Seconds after its beginning that the run is shown."""


def speaker(name: str, pieces: Sequence[str], *, pause: float, fails: str = "") -> FunctionAgent:
    """Says its pieces one after the other, then all of them."""

    async def run(ctx: InvocationContext) -> None:
        for piece in pieces:
            await anyio.sleep(pause)
            await ctx.emit(ctx.text(piece, partial=True, response_id=name))
        if fails:
            raise ConnectionError(fails)
        await ctx.emit(ctx.text("".join(pieces)))

    return FunctionAgent(name, run)


def panel() -> SequentialAgent:
    """A plan, then six views: a loop among them, and a nested parallel group."""
    sources = ParallelAgent(
        "sources",
        [
            speaker("news", ["Three launches ", "this quarter, ", "none ", "in Europe."], pause=0.6),
            speaker("prices", ["From 19 ", "to 49 euros, ", "and ", "falling ", "since ", "March, ", "…"], pause=0.7),
            speaker("filings", ["Looking it up."], pause=0.3, fails="the register is closed on Sundays"),
        ],
        on_error="collect",
    )
    views = ParallelAgent(
        "views",
        [
            speaker("optimist", ["It will sell: ", "nobody else ", "is there yet."], pause=0.7),
            LoopAgent("critic", [speaker("objection", ["Who asked ", "for it? "], pause=0.9)], max_iterations=5),
            SequentialAgent("research", [speaker("search", ["5 sources, ", "3 worth reading."], pause=0.8), sources]),
            speaker("lawyer", ["No objection."], pause=9.0),
            speaker("accountant", ["…"], pause=9.0),
            speaker("translator", ["…"], pause=9.0),
        ],
        max_concurrency=4,
    )
    return SequentialAgent("panel", [speaker("planner", ["Look at it ", "from six sides."], pause=0.4), views])


async def draw(picture: Path) -> None:
    """Run the panel up to `MOMENT` and save what the live view shows then."""
    console = Console(file=io.StringIO(), record=True, force_terminal=True, width=92, height=30, highlight=False)
    console.print("[bold]$[/] agentflow run panel.py 'Should we enter the market?'")
    view = LiveView(console, now=trio.current_time)
    with anyio.move_on_after(MOMENT):
        async with Runner(panel(), time=trio.current_time) as runner, runner.run("Should we enter the market?") as run:
            async for event in run:
                view.add(event)
    view.draw()
    console.print(view)
    drawn = console.export_svg(title="agentflow run", theme=MONOKAI, unique_id="agentflow")
    drawn = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)  # a page of ours loads nothing from elsewhere
    await anyio.Path(picture).write_text(drawn.replace("Fira Code, monospace", "monospace"), encoding="utf-8")


def main() -> None:
    """Draw it, to the file that is named on the command line or its place in the docs."""
    picture = Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURE
    anyio.run(draw, picture, backend="trio", backend_options={"clock": MockClock(autojump_threshold=0)})


if __name__ == "__main__":
    main()
