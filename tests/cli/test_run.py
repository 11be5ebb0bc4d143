"""`agentflow run` without a terminal: input, output, errors, exit codes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from agentflow import Event, __version__

Call = Callable[..., Result]
Write = Callable[..., Path]
Piped = Callable[..., subprocess.CompletedProcess[bytes]]

ECHO = """
@agent
async def echo(ctx):
    await ctx.emit(ctx.text(f"heard {ctx.user_content and ctx.user_text!r}"))
"""
PANEL = """
def speaker(name, text):
    async def run(ctx):
        await ctx.emit(ctx.text(text[:3], partial=True, response_id=name))
        await ctx.emit(ctx.text(text))
    return FunctionAgent(name, run)

views = ParallelAgent("views", [
    speaker("optimist", "It will sell."),
    SequentialAgent("doubt", [speaker("critic", "It will break."), speaker("lawyer", "Two\\nlines.")]),
])
panel = SequentialAgent("panel", [speaker("planner", "Two views."), views])
"""
FAILS = """
def fails(name, error):
    async def run(ctx):
        await ctx.emit(ctx.text("I try"))
        raise error
    return FunctionAgent(name, run)

one = fails("one", ValueError("no luck"))
bare = fails("bare", RuntimeError())
inside = SequentialAgent("outer", [ParallelAgent("branches", [fails("inner", KeyError("k"))])])
some = [fails("x", ValueError("no luck")), fails("y", OSError("disk"))]
collected = ParallelAgent("collected", some, on_error="collect")

@agent
async def slow(ctx):
    await anyio.sleep_forever()

@agent
async def wrong(ctx):
    return 3

def stubborn(name):
    async def run(ctx):
        try:
            await anyio.sleep_forever()
        finally:
            raise ValueError(f"{name} is out of luck")
    return FunctionAgent(name, run)
pair = ParallelAgent("pair", [stubborn("a"), stubborn("b"), fails("c", KeyError("k"))])
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_texts_come_with_branch_and_author_then_the_summary(call: Call, agent_file: Write, backend: str) -> None:
    result = call("run", agent_file(PANEL), "go", "--backend", backend)
    assert (result.exit_code, result.stderr) == (0, "")
    texts, summary = result.stdout.split("\n\n")
    lines = texts.splitlines()
    assert lines[0] == "planner: Two views."
    assert "views.optimist: It will sell." in lines
    assert "views.doubt critic: It will break." in lines
    assert lines[-3:] == ["views.doubt lawyer:", "Two", "lines."]
    rows = [line.split() for line in summary.splitlines()]
    assert [row[:2] for row in rows[:3]] == [["panel", "ok"], ["optimist", "ok"], ["doubt", "ok"]]
    assert summary.splitlines()[1].startswith("  optimist")
    assert [row[0] for row in rows[3:]] == ["Critical", "Speed-up:"]
    assert "\x1b" not in result.stdout


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_json_is_one_event_a_line_and_nothing_else(call: Call, agent_file: Write, backend: str) -> None:
    result = call("run", agent_file(f"print('imported')\n{PANEL}"), "go", "--json", "--backend", backend)
    assert (result.exit_code, result.stderr) == (0, "imported\n")
    events = [Event.from_json(line) for line in result.stdout_bytes.splitlines()]
    stored = [event.serial for event in events if not event.partial]
    assert stored == list(range(stored[0], stored[0] + len(stored)))
    assert [event.text for event in events if event.partial] == ["Two", "It ", "It ", "Two"]
    assert events[-1].lifecycle is not None
    assert events[-1].lifecycle.name == "agent_complete"


def test_json_is_utf_8_whatever_the_locale(piped: Piped, agent_file: Write) -> None:
    result = piped(
        "run", agent_file(ECHO), "--json", stdin="“ü”\u2028".encode(), PYTHONIOENCODING="ascii", PYTHONUTF8="0"
    )
    assert (result.returncode, result.stderr) == (0, b"")
    assert len(result.stdout.decode().split("\n")) == 4
    assert any("“ü”" in json.loads(line).get("parts", [{}])[0].get("text", "") for line in result.stdout.splitlines())


def test_a_terminal_that_cannot_show_a_character_is_no_failure(piped: Piped, agent_file: Write) -> None:
    result = piped("run", agent_file(ECHO), stdin="ü".encode(), PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout.startswith(b"echo: heard '?'\n")


def test_where_an_encoding_lacks_our_own_signs_plain_ones_stand_for_them(piped: Piped, agent_file: Write) -> None:
    file = agent_file("""
        @agent
        async def a(ctx):
            await ctx.emit(ctx.text("“ü” → …"))
    """)
    plain = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = piped("run", file, **plain)
    assert done.stdout.startswith(b'a: "?" > ~\n')
    shown = piped("show", **plain).stdout.decode()
    assert "-- run 1 ok - " in shown
    assert "a - user - " in shown


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["--version"]])
def test_a_reader_that_goes_before_help_comes_ends_it_quietly(words: list[str]) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    command = [sys.executable, "-m", "agentflow", *words]
    try:
        done = subprocess.run(command, stdout=writes, stderr=subprocess.PIPE, timeout=30, check=False)
    finally:
        os.close(writes)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("dash", [[], ["-"]])
def test_input_is_read_from_stdin(piped: Piped, agent_file: Write, dash: list[str]) -> None:
    result = piped("run", agent_file(ECHO), *dash, stdin="\ufeffgrüße\r\n".encode())
    assert result.stdout.decode().startswith("echo: heard 'grüße'\n")


def test_nothing_to_say_is_no_message(call: Call, piped: Piped, agent_file: Write) -> None:
    file = agent_file(ECHO)
    assert call("run", file).stdout.startswith("echo: heard ()\n")
    assert piped("run", file).stdout.startswith(b"echo: heard ()\n")


def test_stdin_is_left_alone_when_there_is_an_input(piped: Piped, agent_file: Write) -> None:
    assert piped("run", agent_file(ECHO), "this", stdin=b"that").stdout.startswith(b"echo: heard 'this'\n")


@pytest.mark.parametrize(
    ("args", "stdin", "says"),
    [
        ([b"a\xff"], b"", "INPUT is not valid UTF-8 (byte 0xff). Nothing was run."),
        (["-"], b"abc\xe9", "the standard input is not valid UTF-8 (byte 0xe9 at position 3). Nothing was run."),
        (["hi", "--user", b"\xfe"], b"", "--user is not valid UTF-8 (byte 0xfe). Nothing was run."),
        (["hi", "--session", b"\xfe"], b"", "--session is not valid UTF-8 (byte 0xfe). Nothing was run."),
    ],
)
def test_invalid_utf_8_is_one_clear_error_and_nothing_runs(
    piped: Piped, agent_file: Write, args: list[str | bytes], stdin: bytes, says: str
) -> None:
    file = agent_file("@agent\nasync def tells(ctx):\n    open('ran', 'w').close()\n")
    result = piped("run", file, *args, stdin=stdin)
    assert (result.returncode, result.stdout) == (2, b"")
    assert result.stderr.decode() == f"Error: {says}\n"
    assert not (file.parent / "ran").exists()


def test_a_target_that_is_invalid_utf_8(piped: Piped) -> None:
    result = piped("run", b"\xff.py")
    assert result.stderr == b"Error: TARGET is not valid UTF-8 (byte 0xff). Nothing was run.\n"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("one", "Error: ValueError: no luck (target.py, line 8, in agent 'one')\n"),
        ("bare", "Error: RuntimeError (target.py, line 8, in agent 'bare')\n"),
        (
            "inside",
            "Error: KeyError: 'k' (target.py, line 8, in agent 'outer.branches.inner' on branch 'branches.inner')\n",
        ),
        ("wrong", "Error: agent 'wrong' returned int 3; an agent says something with await ctx.emit(ctx.text(...))\n"),
    ],
)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_failed_run_is_one_paragraph(call: Call, agent_file: Write, backend: str, name: str, says: str) -> None:
    result = call("run", f"{agent_file(FAILS)}:{name}", "--backend", backend)
    assert (result.exit_code, result.stderr) == (1, says)
    assert " error " in result.stdout


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_each_failure_of_several_branches_has_a_line(call: Call, agent_file: Write, backend: str) -> None:
    result = call("run", f"{agent_file(FAILS)}:pair", "--backend", backend)
    assert result.exit_code == 1
    assert sorted(result.stderr.splitlines()) == sorted(
        [
            "  - ValueError: a is out of luck (target.py, line 30, in agent 'pair.a' on branch 'pair.a')",
            "  - ValueError: b is out of luck (target.py, line 30, in agent 'pair.b' on branch 'pair.b')",
            "  - KeyError: 'k' (target.py, line 8, in agent 'pair.c' on branch 'pair.c')",
            "Error: 3 branches of 'pair' failed:",
        ]
    )


def test_failures_that_were_collected_are_in_the_summary_and_the_run_is_fine(call: Call, agent_file: Write) -> None:
    result = call("run", f"{agent_file(FAILS)}:collected")
    assert (result.exit_code, result.stderr) == (0, "")
    rows = {line.split()[0]: line for line in result.stdout.split("\n\n")[1].splitlines()}
    assert rows["x"].split()[1] == "error"
    assert rows["x"].endswith("ValueError: no luck")
    assert rows["y"].endswith("OSError: disk")


def test_debug_adds_the_traceback(call: Call, agent_file: Write) -> None:
    said = call("run", f"{agent_file(FAILS)}:one", "--debug").stderr
    assert said.startswith(
        "Error: ValueError: no luck (target.py, line 8, in agent 'one')\n\nTraceback (most recent call last):\n"
    )
    assert "raise error" in said


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_run_out_of_time_says_so(call: Call, agent_file: Write, backend: str) -> None:
    result = call("run", f"{agent_file(FAILS)}:slow", "--timeout", "50ms", "--backend", backend)
    assert result.exit_code == 1
    assert "Limits(seconds=0.05)" in result.stderr


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--timeout", "soon"], "Error: --timeout must be seconds above 0, or a time such as 90s or 5m, not 'soon'"),
        (["--timeout", "0"], "--timeout must be seconds above 0, or a time such as 90s or 5m, not '0'"),
        (["--lookahead", "-1"], "Invalid value for '--lookahead'"),
        (["--backend", "curio"], "Invalid value for '--backend'"),
        (["--user", ""], "a session needs user_id"),
        (["--nonsense"], "No such option"),
    ],
)
def test_a_wrong_option_is_refused(call: Call, agent_file: Write, args: list[str], says: str) -> None:
    result = call("run", agent_file(ECHO), "hi", *args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert says in result.stderr


def test_a_session_can_be_named(call: Call, agent_file: Write) -> None:
    file = agent_file("""
        @agent
        async def who(ctx):
            await ctx.emit(ctx.text("/".join(ctx.session)))
    """)
    assert call("run", file, "--user", "ann", "--session", "s1").stdout.startswith("who: who/ann/s1\n")


def test_lookahead_lets_branches_run_ahead(call: Call, agent_file: Write) -> None:
    assert call("run", agent_file(PANEL), "--lookahead", "8").exit_code == 0


def test_what_is_not_text_is_shown_too(call: Call, agent_file: Write) -> None:
    file = agent_file("""
        @agent
        async def mixed(ctx):
            await ctx.emit(ctx.event(Data({"a": [1, "ü"]})))
            await ctx.emit(ctx.event(ToolCall("1", "search", {"query": "x"}), ToolResult("1", "search", "found")))
            await ctx.emit(ctx.event(Blob(b"12", "image/png"), FileRef("https://example.org/x")))
            await ctx.emit(ctx.event(Thinking("hm")))
            await ctx.emit(ctx.event("text", Data(1)))
    """)
    assert call("run", file).stdout.split("\n\n")[0].splitlines() == [
        'mixed: {"a": [1, "ü"]}',
        "mixed:",
        'calls search({"query": "x"})',
        "search answered: found",
        "mixed:",
        "[image/png, 2 bytes]",
        "[https://example.org/x]",
        "mixed: text",
    ]


def test_nothing_that_an_agent_says_steers_the_terminal(call: Call, agent_file: Write) -> None:
    file = agent_file(r"""
        @agent
        async def rude(ctx):
            await ctx.emit(ctx.text("a\x1b[31mb\x1b]0;title\x07c\x9b2Jd\x08e\r\nf"))
            raise ValueError("\x1b[2Jgone")
    """)
    result = call("run", file)
    assert result.stdout.startswith("rude:\nabc2Jde\nf\n")
    assert result.stderr == "Error: ValueError: gone (target.py, line 8, in agent 'rude')\n"


def test_the_place_of_an_error_is_the_last_line_of_ones_own_code(call: Call, agent_file: Write) -> None:
    agent_file("def parse(text):\n    import json\n    return json.loads(text)\n", name="target_parser.py")
    file = agent_file("""
        import target_parser

        @agent
        async def reads(ctx):
            target_parser.parse(ctx.user_text)
    """)
    said = call("run", file, "no JSON").stderr
    assert said.startswith("Error: JSONDecodeError: Expecting value")
    assert said.endswith(" (target_parser.py, line 6, in agent 'reads')\n")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_agent_that_ends_the_program_ends_it(piped: Piped, agent_file: Write, backend: str) -> None:
    file = agent_file("@agent\nasync def ends(ctx):\n    raise SystemExit(7)\n")
    done = piped("run", file, "--backend", backend)
    assert (done.returncode, done.stderr) == (7, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("args", [["run", "target.py"], ["run", "target.py", "--json"], ["--help"]])
def test_a_full_disk_is_one_error(agent_file: Write, tmp_path: Path, args: list[str]) -> None:
    agent_file(ECHO)
    command = [sys.executable, "-m", "agentflow", *args]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, cwd=tmp_path, timeout=30, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(b"Error: ")
    assert done.stderr.endswith(b"No space left on device\n")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell closes it")
def test_output_that_was_closed_before_it_began_goes_nowhere(agent_file: Write, tmp_path: Path) -> None:
    agent_file(ECHO)
    for options in ("", " --json"):
        command = f'"{sys.executable}" -m agentflow run target.py hi{options} >&-'
        done = subprocess.run(command, shell=True, stderr=subprocess.PIPE, cwd=tmp_path, timeout=30, check=False)
        assert done.returncode == 0
        assert b"Traceback" not in done.stderr


def test_a_reader_that_closes_the_pipe_ends_it_quietly(agent_file: Write) -> None:
    file = agent_file("""
        @agent
        async def talks(ctx):
            while True:
                await ctx.emit(ctx.text("more and more"))
    """)
    for options in ([], ["--json"]):
        command = [sys.executable, "-m", "agentflow", "run", str(file), *options]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline()
            process.stdout.close()
            assert process.stderr.read() == b""
            assert process.wait(30) == 141


def test_what_there_is_to_know_of_the_command_itself(call: Call) -> None:
    assert call("--version").stdout == f"agentflow, version {__version__}\n"
    listed = call("--help").stdout
    assert "Analyse a text with agents in parallel." in listed
    assert "Did you mean 'run'?" in call("rnu").stderr
    assert call("run").exit_code == 2
    assert "[default: asyncio]" in call("run", "--help").stdout
