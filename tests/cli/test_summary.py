"""The board and the timing: what the events of a run say about its branches and its time."""

import math
from collections.abc import Callable

import anyio
import pytest
import trio
from trio.testing import MockClock

from agentflow import (
    Agent,
    DecompositionAgent,
    FunctionAgent,
    InvocationContext,
    LoopAgent,
    ParallelAgent,
    Runner,
    ScatterGatherAgent,
    SequentialAgent,
)
from agentflow.cli._board import Board
from agentflow.cli._rows import fit, live_rows, summary_rows, text_rows
from agentflow.timeline.model import Timeline
from agentflow.timeline.words import duration, plural


def virtual() -> pytest.MarkDecorator:
    """Waits take no time, and the clock of the events is the backend's."""
    clock = MockClock(autojump_threshold=0)
    return pytest.mark.parametrize("anyio_backend", [pytest.param(("trio", {"clock": clock}), id="virtual time")])


def worker(name: str, *, takes: float = 0.0, says: str = "", fails: str = "") -> FunctionAgent:
    async def run(ctx: InvocationContext) -> None:
        await anyio.sleep(takes)
        if fails:
            raise ValueError(fails)
        if says:
            await ctx.emit(ctx.text(says))

    return FunctionAgent(name, run)


async def follow(agent: Agent, *, stop_at: float = math.inf) -> tuple[Board, Timeline]:
    """Run `agent` on a virtual clock and give all events to both."""
    board, timing = Board(), Timeline()
    async with Runner(agent, time=trio.current_time) as runner, runner.run("go") as run:
        with anyio.move_on_after(stop_at):
            try:
                async for event in run:
                    board.add(event)
                    timing.add(event)
            except ValueError:
                pass
    return board, timing


def path(timing: Timeline) -> list[tuple[str, int, float]]:
    return [(step.name, step.times, round(step.seconds, 6)) for step in timing.critical_path()]


def lines(board: Board) -> list[tuple[int, str, str, float]]:
    return [(line.depth, line.name, line.state, round(line.seconds, 6)) for line in board]


@virtual()
async def test_nested_branches_are_lines_below_each_other() -> None:
    inner = ParallelAgent("inner", [worker("x", takes=1), worker("y", takes=4)])
    outer = ParallelAgent("outer", [worker("a", takes=2), SequentialAgent("b", [worker("c", takes=1), inner])])
    board, timing = await follow(SequentialAgent("root", [worker("first", takes=1), outer, worker("last", takes=2)]))
    assert lines(board) == [
        (0, "root", "ok", 8),
        (1, "a", "ok", 2),
        (1, "b", "ok", 5),
        (2, "x", "ok", 1),
        (2, "y", "ok", 4),
    ]
    assert path(timing) == [("first", 1, 1), ("c", 1, 1), ("y", 1, 4), ("last", 1, 2)]
    assert (timing.wall, timing.work) == (8, 11)
    assert timing.speedup == pytest.approx(11 / 8)


@virtual()
async def test_the_critical_path_follows_who_made_room_for_a_queued_branch() -> None:
    queue = [worker("a", takes=3), worker("b", takes=1), worker("c", takes=1), worker("d", takes=2)]
    _, timing = await follow(ParallelAgent("queue", queue, max_concurrency=2))
    assert path(timing) == [("b", 1, 1), ("c", 1, 1), ("d", 1, 2)]
    assert timing.speedup == pytest.approx(7 / 4)


@virtual()
async def test_an_agent_that_also_works_itself_is_on_the_path() -> None:
    async def direct(ctx: InvocationContext) -> None:
        await anyio.sleep(2)
        await ctx.run(child)
        await anyio.sleep(1)

    child = worker("child", takes=3)
    _, timing = await follow(FunctionAgent("director", direct, sub_agents=[child]))
    assert path(timing) == [("director", 1, 3), ("child", 1, 3)]
    assert timing.speedup == 1


@virtual()
async def test_children_that_run_at_once_have_lines_of_their_own() -> None:
    async def direct(ctx: InvocationContext) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ctx.run, short)
            tasks.start_soon(ctx.run, long)

    short, long = worker("short", takes=1), worker("long", takes=2)
    board, timing = await follow(FunctionAgent("director", direct, sub_agents=[short, long]))
    assert [state for _, _, state, _ in lines(board)] == ["ok", "ok"]
    assert lines(board)[1][1] in ("short#2", "long#2")
    assert path(timing)[-1] == ("long", 1, 2)
    assert timing.speedup == pytest.approx(1.5)


@virtual()
async def test_a_loop_is_one_line_with_its_iteration_and_one_step() -> None:
    both = ParallelAgent("both", [worker("a", takes=1), worker("b", takes=2)])
    loop = LoopAgent("loop", [worker("draft", takes=1), both], max_iterations=3)
    board, timing = await follow(loop, stop_at=4.5)
    assert (board.root.iteration, board.root.rounds) == (2, 3)
    board, timing = await follow(SequentialAgent("root", [loop.clone(), worker("last")]))
    assert (board.root.iteration, board.root.rounds) == (None, None)
    assert [(line.name, line.turns, line.seconds) for line in board][1:] == [("a", 3, 3), ("b", 3, 6)]
    assert path(timing) == [("draft", 3, 3), ("b", 3, 6), ("last", 1, 0)]


@virtual()
async def test_who_lost_a_race_held_nobody_up() -> None:
    race = ParallelAgent("race", [worker("slow", takes=9), worker("fast", takes=1)], stop_when="first_success")
    board, timing = await follow(race)
    assert [(name, state) for _, name, state, _ in lines(board)] == [
        ("race", "ok"),
        ("slow", "cancelled"),
        ("fast", "ok"),
    ]
    assert path(timing) == [("fast", 1, 1)]


@virtual()
async def test_failures_timeouts_and_who_never_began() -> None:
    group = ParallelAgent(
        "group",
        [
            worker("bad", takes=1, fails="no luck"),
            worker("late", takes=9),
            worker("tells", takes=2, says="enough"),
            worker("slow", takes=9),
            worker("never"),
        ],
        max_concurrency=3,
        on_error="collect",
        stop_when=lambda event: event.text == "enough",
    )
    board, _ = await follow(group)
    assert [(line.name, line.state, line.seconds) for line in board][1:] == [
        ("bad", "error", 1),
        ("late", "cancelled", 2),
        ("tells", "ok", 2),
        ("slow", "cancelled", 1),
        ("never", "skipped", 0),
    ]
    assert board.lines["group.bad"].error == "ValueError: no luck"
    assert board.lines["group.tells"].words == "enough"
    board, _ = await follow(ParallelAgent("one", [worker("late", takes=9)], branch_timeout=1, on_error="collect"))
    assert board.lines["one.late"].state == "timeout"


@virtual()
async def test_a_run_that_was_cut_off_has_a_path_too() -> None:
    board, timing = await follow(ParallelAgent("pair", [worker("a", takes=1), worker("b", takes=9)]), stop_at=3)
    assert [state for _, _, state, _ in lines(board)] == ["running", "ok", "running"]
    assert path(timing)[-1][0] == "b"
    assert timing.wall <= 3


@virtual()
async def test_how_patterns_decided_is_in_the_summary() -> None:
    voters = [
        worker(name, takes=takes, says=said) for name, takes, said in (("a", 1, "x"), ("b", 2, "y"), ("c", 3, "x"))
    ]
    voters.append(worker("d", takes=4, says="x"))
    vote = ScatterGatherAgent("vote", voters, aggregator="voting", quality=lambda answer, outcomes: 0.5)
    board, timing = await follow(LoopAgent("twice", [vote], max_iterations=2))
    rows = ["".join(text for text, _ in row) for row in summary_rows(board, timing, status="ok", wall=6.0)]
    assert "vote: voting of 4 answers, agreement 75%, quality 0.50, the last of 2" in rows


@virtual()
async def test_where_the_processor_was_busy_a_speed_up_is_an_upper_bound() -> None:
    board, timing = await follow(ParallelAgent("pair", [worker("a", takes=2), worker("b", takes=2)]))

    def last(computing: float) -> str:
        *_, row = summary_rows(board, timing, status="ok", wall=2.5, computing=computing)
        return "".join(text for text, _ in row)

    assert last(0.1) == "Speed-up: 2.0 × over one after the other (4.0 s of work in 2.0 s)"
    assert last(1.9) == (
        "Speed-up: at most 2.0 × over one after the other (4.0 s of work in 2.0 s, waits for a busy processor included)"
    )


async def test_what_agents_are_told_is_one_line() -> None:
    writer = worker("writer", says="two\nlines")
    panel = ScatterGatherAgent("panel", [worker("a", says="x")], aggregator=writer)
    plan = DecompositionAgent("plan", decomposer=lambda task: ["one", "two"], specialists=worker("w", says="done"))
    rows = []
    async with Runner(SequentialAgent("s", [panel, plan])) as runner, runner.run("go") as run:
        async for event in run:
            rows += ["".join(text for text, _ in row) for row in text_rows(event)]
    told = [row for row in rows if row.startswith("to ")]
    assert told[0].startswith("to s.panel.writer: The task: ``` go ``` 1 of 1 answered.")
    assert sorted(told[1:]) == ["to plan.w#2: two", "to plan.w: one"]
    assert "s.panel.writer" not in "".join(row for row in rows if row not in told)


async def test_no_events_are_no_lines() -> None:
    assert Timeline().critical_path() == []
    assert live_rows(Board(), 0, width=80, height=24) == []
    rows = ["".join(text for text, _ in row) for row in summary_rows(Board(), Timeline(), status="cancelled", wall=0.0)]
    assert rows == ["run cancelled    0 ms"]


@pytest.mark.parametrize(("size", "depth"), [(2_000, 1), (1, 200)])
async def test_wide_and_deep_runs_cost_a_line_each(size: int, depth: int) -> None:
    """No recursion, nothing quadratic."""
    agents = [worker(f"a{number}") for number in range(size)]
    tree: Agent = ParallelAgent("p0", agents)
    for level in range(1, depth):
        tree = ParallelAgent(f"p{level}", [tree])
    board, timing = Board(), Timeline()
    async with Runner(tree) as runner, runner.run("go", lookahead=8) as run:
        async for event in run:
            board.add(event)
            timing.add(event)
    assert len(list(board)) == size + depth
    assert timing.critical_path()[-1].name.startswith("a")
    assert len(live_rows(board, 0, width=80, height=24)) <= 24


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (lambda: duration(0.0004), "0 ms"),
        (lambda: duration(0.9994), "999 ms"),
        (lambda: duration(0.9996), "1.0 s"),
        (lambda: duration(99.9), "99.9 s"),
        (lambda: duration(125.4), "2 m 05 s"),
        (lambda: duration(7_300), "2 h 01 m"),
        (lambda: plural(1, "branch"), "1 branch"),
        (lambda: plural(2_000, "branch"), "2,000 branches"),
        (lambda: fit("abcdef", 4), "abc…"),
        (lambda: fit("日本語", 5), "日本…"),
        (lambda: fit("日本語", 4), "日… "),
        (lambda: fit("ab", 4), "ab  "),
    ],
)
def test_how_things_are_written(write: Callable[[], str], expected: str) -> None:
    assert write() == expected
