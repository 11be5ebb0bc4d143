"""The live view: what it draws, and how seldom."""

import io
import re
import runpy
import sys
from pathlib import Path

import anyio
import pytest
import trio
from rich.cells import cell_len
from rich.console import Console
from trio.testing import MockClock

from agentflow import Agent, FunctionAgent, InvocationContext, LoopAgent, ParallelAgent, Runner, SequentialAgent
from agentflow.cli._live import LiveView

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.parametrize(
        "anyio_backend", [pytest.param(("trio", {"clock": MockClock(autojump_threshold=0)}), id="virtual time")]
    )
]


class Counted(LiveView):
    """Counts how often it is drawn."""

    drawn = 0

    def draw(self) -> None:
        self.drawn += 1
        super().draw()


def a_console(width: int = 80, height: int = 24) -> Console:
    return Console(
        file=io.StringIO(), force_terminal=True, color_system=None, legacy_windows=False, width=width, height=height
    )


def talker(name: str, *, words: str = "so it is", pauses: int = 10, fails: bool = False) -> FunctionAgent:
    async def run(ctx: InvocationContext) -> None:
        for number in range(pauses):
            await ctx.emit(ctx.text(f"{words} {number}", partial=number % 2 == 0, response_id=name))
            await anyio.sleep(0.1)
        if fails:
            raise ValueError("no luck")

    return FunctionAgent(name, run)


async def watch(agent: Agent, view: LiveView, *, until: float = float("inf")) -> None:
    async with Runner(agent, time=trio.current_time) as runner, anyio.create_task_group() as tasks:
        tasks.start_soon(view.keep_drawing)
        with anyio.move_on_after(until):
            async with runner.run("go") as run:
                async for event in run:
                    view.add(event)
        tasks.cancel_scope.cancel()


def frame(view: LiveView) -> list[str]:
    """The lines of branches as they stand now."""
    view.draw()
    with view.console.capture() as capture:
        view.console.print(view)
    return capture.get().splitlines()


def written(view: LiveView) -> str:
    assert isinstance(view.console.file, io.StringIO)
    return view.console.file.getvalue()


async def test_a_thousand_branches_are_drawn_ten_times_a_second() -> None:
    """However many events there are: 12,000 in a second, here."""
    view = Counted(a_console(), now=trio.current_time)
    with view:
        await watch(ParallelAgent("many", [talker(f"b{number}") for number in range(1_000)]), view)
    assert 9 <= view.drawn <= 13
    assert "1,000 running · 979 not shown" in written(view)
    assert written(view).count("many.b500: so it is 9") == 1


async def test_only_who_works_is_shown_where_not_all_fit() -> None:
    branches = [talker(f"b{number}", pauses=number + 1) for number in range(40)]
    view = LiveView(a_console(height=10), now=trio.current_time)
    await watch(ParallelAgent("many", branches, max_concurrency=7), view, until=1.05)
    rows = frame(view)
    assert len(rows) == 9
    assert [row.split()[2] for row in rows[:-1]] == ["running"] * 8
    assert [row.split()[0] for row in rows[1:-1]] == [f"b{number}" for number in range(8, 15)]
    assert rows[-1] == "7 running · 25 waiting · 8 ok · 33 not shown"


@pytest.mark.parametrize(("width", "height"), [(40, 12), (20, 6), (10, 3), (1, 1), (200, 60)])
async def test_no_line_is_wider_than_the_terminal_and_no_view_higher(width: int, height: int) -> None:
    inner = ParallelAgent("a-parallel-inside", [talker("日本語", words="日本語の長いテキスト" * 9), talker("x" * 70)])
    tree = ParallelAgent("outer", [inner, talker("fails", fails=True, pauses=2)], on_error="collect")
    view = LiveView(a_console(width, height), now=trio.current_time)
    await watch(tree, view, until=0.55)
    rows = frame(view)
    assert len(rows) <= max(2, height - 1)
    assert max(map(cell_len, rows)) <= max(1, width - 1)


async def test_lines_tell_state_time_speaker_and_last_words() -> None:
    loop = LoopAgent("editing", [talker("draft", pauses=3)], max_iterations=4)
    tree = ParallelAgent("all", [loop, SequentialAgent("line", [talker("one", pauses=1), talker("two")]),
                                 talker("bad", pauses=1, fails=True), talker("queued")],
                         max_concurrency=3, on_error="collect")  # fmt: skip
    view = LiveView(a_console(), now=trio.current_time)
    await watch(tree, view, until=0.45)
    turning = re.compile("[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏]")
    assert [turning.sub("*", row).rstrip() for row in frame(view)] == [
        "all       * running     0.5 s",
        "  editing * running     0.5 s  2/4 draft: so it is 1",
        "  line    * running     0.5 s  two: so it is 3",
        "  bad     ✕ error      100 ms  ValueError: no luck",
        "  queued  * running     0.4 s  so it is 3",
        "3 running · 1 error",
    ]


async def test_words_that_stream_show_their_end() -> None:
    async def run(ctx: InvocationContext) -> None:
        for number in range(100):
            await ctx.emit(ctx.text(f"word{number} ", partial=True, response_id="r"))
        await anyio.sleep_forever()

    view = LiveView(a_console(width=52), now=trio.current_time)
    await watch(FunctionAgent("streams", run), view, until=1)
    assert frame(view)[0].endswith("  … word97 word98 word99")


async def test_what_the_program_prints_stays_above_the_lines() -> None:
    async def run(ctx: InvocationContext) -> None:
        print("half", end="")
        await anyio.sleep(0.5)
        print(" and half")
        print("to stderr", file=sys.stderr)
        await ctx.emit(ctx.text("said"))
        await anyio.sleep(0.5)
        print("unfinished", end="")

    before = sys.stdout, sys.stderr
    view = LiveView(a_console(), now=trio.current_time)
    with view:
        await watch(FunctionAgent("prints", run), view)
        view.note("by the way")
    assert (sys.stdout, sys.stderr) == before
    lines = written(view).splitlines()
    for whole in ("half and half", "to stderr", "prints: said", "by the way"):
        assert sum(line.endswith(whole) for line in lines) == 1
    assert any(line.endswith("unfinished") for line in lines)


async def test_half_a_line_can_be_seen_so_a_prompt_can_too() -> None:
    async def run(ctx: InvocationContext) -> None:
        print("What is your name? ", end="")
        await anyio.sleep(1)

    view = LiveView(a_console(width=15), now=trio.current_time)
    with view:
        await watch(FunctionAgent("asks", run), view, until=0.5)
        assert "What is your…\nasks " in written(view)
    assert "What is your \nname? \n" in written(view)


async def test_a_run_that_is_being_cancelled_says_so() -> None:
    view = LiveView(a_console(), now=trio.current_time)
    await watch(talker("one"), view, until=0.5)
    view.stopping()
    assert frame(view)[-1] == "cancelling; Ctrl-C again to quit at once"


async def test_a_long_summary_keeps_failures_and_the_slowest() -> None:
    branches = [talker(f"b{number}", pauses=number % 7, fails=number in (50, 70)) for number in range(100)]
    view = LiveView(a_console(), now=trio.current_time)
    await watch(ParallelAgent("many", branches, on_error="collect"), view)
    with view.console.capture() as capture:
        view.finish(status="ok", wall=1.0, computing=0.0)
    rows = capture.get().splitlines()
    shown = [row.split()[0] for row in rows if row.startswith("  b")]
    assert len(shown) == 39
    assert {"b50", "b70", "b6", "b13"} < set(shown)
    assert "b7" not in shown
    assert "… and 61 more: 61 ok" in rows


async def test_the_picture_in_the_docs_is_what_it_looks_like_today(tmp_path: Path) -> None:
    draw = runpy.run_path(str(ROOT / "docs" / "make_live_view.py"))["draw"]
    await draw(tmp_path / "live-view.svg")
    today = (tmp_path / "live-view.svg").read_text(encoding="utf-8")
    assert today == (ROOT / "docs" / "live-view.svg").read_text(encoding="utf-8"), "run docs/make_live_view.py"
