"""`timeline` and `replay`: each form, to each place; as fast as it was, faster, and stopped."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import Result

from agentflow import Event
from tests.cli.conftest import Terminal

Call = Callable[..., Result]
Write = Callable[..., Path]

SLOW = """
    def says(name, pause):
        async def run(ctx):
            await anyio.sleep(pause)
            await ctx.emit(ctx.text(f"{name} is done"))
        return FunctionAgent(name, run)

    pair = ParallelAgent("pair", [says("quick", 0.1), says("slow", 0.4)])
    root_agent = SequentialAgent("both", [pair, says("after", 0.1)])
"""

ASKS = """
    @agent
    async def asker(ctx):
        await ctx.emit(ctx.text(await ctx.request_input("Which colour?")))
"""


@pytest.fixture
def kept(agent_file: Write, call: Call) -> Path:
    """Two runs in one session."""
    file = agent_file(SLOW)
    for words in (("One?",), ("Two?", "--continue")):
        assert call("run", file, *words).exit_code == 0
    return file


def test_the_last_run_is_drawn(kept: Path, call: Call) -> None:
    drawn = call("timeline")
    assert (drawn.exit_code, drawn.stderr) == (0, "")
    lines = drawn.stdout.splitlines()
    assert lines[0].startswith("both ok · ")
    assert lines[0].endswith(" · Two?")
    assert [line.split()[0] for line in lines[2:7]] == ["both", "pair", "quick", "slow", "after"]
    assert lines[5].count("━") > 2 * lines[4].count("━")
    assert any(line.startswith("Critical path: slow") for line in lines)
    assert call("timeline", "--run", "1").stdout.splitlines()[0].endswith("One?")
    assert sum(line.startswith("both ok") for line in call("timeline", "--run", "all").stdout.splitlines()) == 2
    assert call("timeline", "--ascii").stdout.isascii()
    assert "====" in call("timeline", "--ascii", "--width", 60).stdout


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("run.svg", ElementTree.fromstring),
        ("run.json", lambda text: json.loads(text)["traceEvents"][0]),
        ("run.jsonl", lambda text: [json.loads(line)["status"] for line in text.splitlines()]),
        ("run.html", lambda text: re.search(r"<title>both · ok · ", text)[0]),  # type: ignore[index]
        ("run.txt", lambda text: re.search(r"^both ok", text)[0]),  # type: ignore[index]
    ],
)
def test_a_files_name_says_what_it_is(
    kept: Path, call: Call, tmp_path: Path, name: str, check: Callable[[str], object]
) -> None:
    written = call("timeline", "-o", tmp_path / name)
    assert (written.exit_code, written.stdout, written.stderr) == (0, "", f"{tmp_path / name}\n")
    check((tmp_path / name).read_text(encoding="utf-8"))


def test_words_can_be_left_out(kept: Path, call: Call, tmp_path: Path) -> None:
    assert "slow is done" in call("timeline", "--format", "html").stdout
    assert "slow is done" not in call("timeline", "--format", "html", "--no-words").stdout


def test_what_cant_be_drawn_says_so(kept: Path, call: Call, tmp_path: Path) -> None:
    for words, told in (
        (("--run", "3"), "this session has 2 runs, and no run 3"),
        (("--run", "x"), "this session has no run 'x'"),
        (("--run", "e-"), "'e-' could be 2 of its runs"),
        (("--run", "all", "--format", "svg"), "an SVG holds one run: choose it with --run"),
        (("-o", tmp_path / "x.pdf"), "what a .pdf file holds is not known: say --format, or one of .txt, .svg, "),
        (("--db", tmp_path), "is a folder: name the file in it"),
        (("-o", tmp_path / "no" / "x.svg"), "can't be written: No such file or directory"),
    ):
        done = call("timeline", "last", *words)
        assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert told in done.stderr


def test_a_replay_without_a_terminal_doesnt_wait(kept: Path, call: Call) -> None:
    again = call("replay", "--run", 1)
    assert (again.exit_code, again.stderr) == (0, "")
    assert again.stdout.splitlines()[:5] == [
        "user: One?",
        "pair.quick: quick is done",
        "pair.slow: slow is done",
        "after: after is done",
        "",
    ]
    assert any(re.match(r"both +ok +\d+ ms", line) for line in again.stdout.splitlines())
    events = [Event.from_json(line) for line in call("replay", "--run", "all", "--json").stdout.splitlines()]
    assert [event.serial for event in events] == list(range(1, len(events) + 1))


def test_a_replay_is_as_fast_as_is_asked(kept: Path, terminal: Callable[..., Terminal]) -> None:
    """Not a timing of ours: sixteen times slower than it was, its middle can be seen; at `max` it is over."""
    slow = terminal("replay", "--speed", "0.06")
    slow.wait_for(r"slow +\S running +\d")
    slow.press(b"\x03")
    assert slow.finish() == 130
    assert not any("Critical path" in line for line in slow.screen)
    fast = terminal("replay", "--speed", "max")
    assert fast.finish() == 0
    assert any("Critical path: slow" in line for line in fast.screen)
    assert "\x1b[?25h" in fast.raw, "the cursor is back"


@pytest.mark.parametrize("speed", ["0", "-1", "fast", "nan"])
def test_a_speed_that_is_none(kept: Path, call: Call, speed: str) -> None:
    done = call("replay", "--speed", speed)
    assert (done.exit_code, done.stderr) == (2, f"Error: --speed must be a number above 0, or max, not {speed!r}\n")


def test_a_replay_whose_reader_has_gone_ends_quietly(
    kept: Path, piped: Callable[..., subprocess.CompletedProcess[bytes]]
) -> None:

    command = [sys.executable, "-m", "agentflow", "replay", "--speed", "0.1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 141


def test_a_replay_whose_reader_goes_before_the_summary_ends_quietly(kept: Path) -> None:
    command = [sys.executable, "-m", "agentflow", "replay", "--speed", "0.2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        while not process.stdout.readline().startswith(b"after"):
            pass
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 141


def test_a_replay_doesnt_wait_for_an_answer(
    agent_file: Write, call: Call, piped: Callable[..., subprocess.CompletedProcess[bytes]], tmp_path: Path
) -> None:
    """A person took a day to answer."""
    file = agent_file(ASKS)
    assert call("run", file, "Go.", "--session", "s").exit_code == 3
    (question,) = json.loads(call("show", "s", "--json").stdout)["runs"][0]["pending"]
    assert call("run", file, "--session", "s", "--answer", f"{question['id']}=blue").exit_code == 0
    lines = [json.loads(line) for line in call("export", "s").stdout.splitlines()]
    answer = next(place for place, line in enumerate(lines) if "blue" in json.dumps(line))
    for line in lines[answer:-1]:
        line["event"]["timestamp"] += 86_400
    (tmp_path / "later.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    assert call("import", tmp_path / "later.jsonl", "--db", tmp_path / "later.db").exit_code == 0
    replayed = piped("replay", "--speed", "1", "--db", tmp_path / "later.db")
    assert replayed.returncode == 0
    assert b"asker: blue" in replayed.stdout
    assert re.search(rb"^asker ok .* 2 times$", replayed.stdout, re.MULTILINE)
    assert " · 24 h 00 m paused · " in call("timeline", "--db", tmp_path / "later.db").stdout


def test_what_a_run_that_was_cut_short_had_not_ended(agent_file: Write, call: Call) -> None:
    file = agent_file(SLOW)
    assert call("run", file, "Go.", "--session", "s").exit_code == 0
    assert call("sessions", "fork", "s", "--at", 6, "--id", "cut").exit_code == 0
    summary = call("replay", "cut").stdout.splitlines()
    assert [line.split()[:2] for line in summary[-3:]] == [
        ["both", "unfinished"],
        ["quick", "unfinished"],
        ["slow", "unfinished"],
    ]


def test_a_timeline_on_a_terminal_fits_it(kept: Path, terminal: Callable[..., Terminal]) -> None:
    for size in ((24, 80), (10, 44), (50, 200)):
        here = terminal("timeline", size=size)
        assert here.finish() == 0
        assert any(line.startswith("both ok") for line in here.screen)
    coloured, plain = terminal("timeline"), terminal("timeline", NO_COLOR="1")
    assert coloured.finish() == plain.finish() == 0
    assert "\x1b[32m" in coloured.raw
    assert "\x1b[32m" not in plain.raw


def test_the_shell_completes_sessions(kept: Path, piped: Callable[..., subprocess.CompletedProcess[bytes]]) -> None:
    (info,) = [json.loads(line) for line in piped("sessions", "--json").stdout.splitlines()]
    for words in ("agentflow timeline ", "agentflow show " + info["id"][:4], "agentflow sessions delete "):
        done = piped(_AGENTFLOW_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(words.count(" ")))
        assert f"plain,{info['id']}" in done.stdout.decode().splitlines(), (words, done)
    for words in ("agentflow import x", "agentflow export -o x", "agentflow timeline -o x", "agentflow run x"):
        done = piped(_AGENTFLOW_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(words.count(" ")))
        assert done.stdout == b"file,x\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_each_shell(call: Call, shell: str) -> None:
    script = call("completion", shell)
    assert script.exit_code == 0
    assert "_AGENTFLOW_COMPLETE" in script.stdout
    assert f"  {shell} " in call("completion", "--help").stdout.replace("\n", "\n  "), "a line of its own"
    assert "\\b" not in call("completion", "--help").stdout
