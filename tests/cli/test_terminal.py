"""The command on a real (pseudo-)terminal: what stands there in the end, and what Ctrl-C does."""

import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentflow import Event
from agentflow.events import AgentComplete, AgentStart

Write = Callable[..., Path]
Start = Callable[..., Any]

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])
QUICK = """
def speaker(name, text):
    async def run(ctx):
        await ctx.emit(ctx.text(text))
    return FunctionAgent(name, run)

inner = ParallelAgent("inner", [speaker("x", "ex"), speaker("y", "why")])
views = ParallelAgent("views", [speaker("a", "It will sell. " * 9), SequentialAgent("b", [speaker("c", "see"), inner])])
panel = SequentialAgent("panel", [views, speaker("editor", "# Report\\n\\nAll good.")])
"""
FOREVER = """
def speaker(name, text):
    async def run(ctx):
        await ctx.emit(ctx.text(text))
        try:
            await anyio.sleep_forever()
        finally:
            print(f"{name} cleans up")
    return FunctionAgent(name, run)

@agent
async def quick(ctx):
    await ctx.emit(ctx.text("done at once"))

inner = ParallelAgent("inner", [speaker("x", "ex"), speaker("y", "why")])
queue = ParallelAgent("queue", [quick, speaker("a", "ah"), inner, speaker("never", "no")], max_concurrency=2)
"""
STUBBORN = """
import os, time

@agent
async def refuses(ctx):
    await ctx.emit(ctx.text("I will not stop"))
    with anyio.CancelScope(shield=True):
        await anyio.sleep_forever()

@agent
async def blocks(ctx):
    os.write(1, b"I block")
    while True:
        time.sleep(0.01)
"""


@BACKENDS
@pytest.mark.parametrize("size", [(24, 80), (8, 40), (4, 20)])
def test_in_the_end_there_are_the_texts_and_the_summary(
    terminal: Start, agent_file: Write, backend: str, size: tuple[int, int]
) -> None:
    here = terminal("run", agent_file(QUICK), "go", "--backend", backend, size=size)
    assert here.finish() == 0
    text = " ".join(" ".join(here.screen).split())
    for words in ("views.a: It will sell.", "views.b c: see", "views.b.inner.y: why", "editor: # Report All good."):
        assert words in text
    assert re.search(r"panel ok .* a ok .* b ok .* x ok .* y ok .* Critical path: .*editor .* Speed-up: ", text)
    assert "running" not in text, "a line of the live view was left behind"
    assert here.raw.count("\x1b[?25l") == here.raw.count("\x1b[?25h") == 1, "the cursor is hidden, and comes back"


def test_a_thousand_branches_stay_on_the_screen(terminal: Start, agent_file: Write) -> None:
    file = agent_file("""
        def speaker(name):
            async def run(ctx):
                for number in range(3):
                    await ctx.emit(ctx.text(f"text {number}"))
                await anyio.sleep_forever()
            return FunctionAgent(name, run)
        many = ParallelAgent("many", [speaker(f"b{number}") for number in range(1000)])
    """)
    here = terminal("run", file, size=(12, 60))
    here.wait_for(r"(?s)many.b999: text 2.*(1,000 running · 991 not shown.*){3}")
    here.press(b"\x03")
    assert here.finish() == 130
    assert max(up.count("\x1b[1A") for up in re.findall(r"(?:\x1b\[1A\x1b\[2K)+", here.raw)) < 12
    assert sum("text 2" in line for line in here.screen if line.startswith("many.b")) == 1000
    assert any("… and 961 more: 961 cancelled" in line for line in here.screen)


def test_no_color_means_none(terminal: Start, agent_file: Write) -> None:
    plain = terminal("run", agent_file(QUICK), NO_COLOR="1")
    assert plain.finish() == 0
    coloured = terminal("run", agent_file(QUICK))
    assert coloured.finish() == 0
    assert "\x1b[32m" not in plain.raw
    assert "\x1b[32m" in coloured.raw


def test_a_dumb_terminal_gets_plain_lines(terminal: Start, agent_file: Write) -> None:
    here = terminal("run", agent_file(QUICK), TERM="dumb")
    assert here.finish() == 0
    assert "\x1b" not in here.raw


def test_a_run_without_input_says_so(terminal: Start, agent_file: Write) -> None:
    screen = terminal("run", f"{agent_file(QUICK)}:panel", TERM="dumb")
    assert screen.finish() == 0
    assert screen.plain.startswith("No INPUT was given: the agent is told nothing.")
    screen = terminal("run", f"{agent_file(QUICK)}:panel", "go", TERM="dumb")
    assert screen.finish() == 0
    assert "No INPUT" not in screen.plain


def test_a_failed_run_shows_its_lines_and_then_the_error(terminal: Start, agent_file: Write) -> None:
    file = agent_file("@agent\nasync def fails(ctx):\n    raise ValueError('no luck')\n")
    here = terminal("run", file)
    assert here.finish() == 1
    assert [line for line in here.screen if line][
        -1
    ] == "Error: ValueError: no luck (target.py, line 6, in agent 'fails')"


@BACKENDS
def test_ctrl_c_cancels_in_order_and_shows_what_was_kept(terminal: Start, agent_file: Write, backend: str) -> None:
    here = terminal("run", agent_file(FOREVER), "--backend", backend)
    for words in ("done at once", "ah", "ex", "why"):
        here.wait_for(words)
    here.press(b"\x03")
    assert here.finish() == 130
    screen = here.screen
    for name in ("a", "x", "y"):
        assert sum(f"{name} cleans up" in line for line in screen) == 1
    states = {words[0]: words[1] for line in screen if len(words := line.split()) > 1}
    assert {name: states[name] for name in ("queue", "quick", "a", "inner", "x", "y", "never")} == {
        "queue": "cancelled",
        "quick": "ok",
        "a": "cancelled",
        "inner": "cancelled",
        "x": "cancelled",
        "y": "cancelled",
        "never": "skipped",
    }
    assert [line for line in screen if line][-1] == "Cancelled by Ctrl-C; kept 4 texts."
    assert not any("running" in line for line in screen)


@pytest.mark.parametrize("name", ["refuses", "blocks"])
@BACKENDS
def test_a_second_ctrl_c_quits_at_once(terminal: Start, agent_file: Write, backend: str, name: str) -> None:
    here = terminal("run", f"{agent_file(STUBBORN)}:{name}", "--backend", backend)
    here.wait_for("I will not stop|I block")
    here.press(b"\x03")
    if name == "refuses":
        here.wait_for("cancelling; Ctrl-C again to quit at once")
    here.press_until_over(b"\x03")
    assert here.finish() == 130
    assert "\x1b[?25h" in here.raw, "the cursor is back"


@BACKENDS
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_without_a_terminal(agent_file: Write, backend: str, number: signal.Signals, code: int) -> None:
    """Every branch that began has exactly one end in the stream, and nothing follows the root's."""
    command = [sys.executable, "-m", "agentflow", "run", str(agent_file(FOREVER)), "--json", "--backend", backend]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        lines: list[bytes] = []
        while sum(b'"text"' in line for line in lines) < 4 and (line := process.stdout.readline()):
            lines.append(line)
        process.send_signal(number)
        lines += process.stdout.readlines()
        said = process.stderr.read().decode()
        assert process.wait(30) == code
    events = [Event.from_json(line) for line in lines]
    starts = Counter(event.path for event in events if isinstance(event.lifecycle, AgentStart))
    ends = Counter(event.path for event in events if isinstance(event.lifecycle, AgentComplete))
    assert starts == ends == dict.fromkeys(starts, 1)
    assert (events[-1].path, events[-1].lifecycle.outcome) == ("queue", "cancelled")  # type: ignore[union-attr]
    who = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
    assert said.splitlines()[0] == "Cancelling the run; Ctrl-C again quits at once."
    assert said.splitlines()[-1] == f"Cancelled by {who}; kept {len(events)} events."


def test_the_demo_on_a_terminal(terminal: Start) -> None:
    here = terminal("demo", size=(20, 100))
    assert here.finish() == 0
    assert here.screen[0].startswith("No model is asked: the analysts are local code")
    assert any(line.startswith("document") and " ok " in line for line in here.screen)
    assert not any(" running " in line for line in here.screen)
