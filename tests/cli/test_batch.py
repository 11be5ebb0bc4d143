"""`agentflow batch`: many inputs from files and pipes, results as JSON lines, and going on after Ctrl-C."""

import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from subprocess import DEVNULL, CompletedProcess, Popen, run
from typing import Any

import pytest
from click.testing import Result

GRADER = """
@agent
async def grader(ctx):
    print("noise")
    if "bad" in ctx.user_text:
        raise ValueError("can't be graded")
    if "slow" in ctx.user_text:
        await anyio.sleep_forever()
    await ctx.emit(ctx.event("graded", Data({"words": len(ctx.user_text.split())})))
"""


def results(text: str) -> dict[int, Any]:
    """Index to result; everything in `text` must be a line of JSON."""
    return {line["index"]: line for line in map(json.loads, text.splitlines())}


@pytest.fixture
def grader(agent_file: Callable[..., Path]) -> Path:
    return agent_file(GRADER)


def test_a_folder_of_texts_is_an_input_each(grader: Path, call: Callable[..., Result], tmp_path: Path) -> None:
    essays = tmp_path / "essays"
    essays.mkdir()
    for number in range(100):
        (essays / f"{number:03}.txt").write_text("word " * number)
    (essays / ".hidden").write_text("not this one")
    done = call("batch", grader, essays)
    assert done.exit_code == 0, done.stderr
    found = results(done.stdout)
    assert [found[number]["output"] for number in range(100)] == [{"words": number} for number in range(100)]
    assert found[7]["id"] == "007.txt"
    assert "100 of 100 done" in done.stderr
    assert "noise" in done.stderr


def test_json_lines_with_ids_and_a_field_of_their_own(
    grader: Path, call: Callable[..., Result], tmp_path: Path
) -> None:
    lines = tmp_path / "in.jsonl"
    lines.write_text('"a b"\n\n{"id": 7, "input": "c"}\n{"essay": "d e f"}\n')
    found = results(call("batch", grader, lines).stdout)
    assert [found[number]["output"]["words"] for number in range(3)] == [2, 1, 4]  # the last as JSON
    assert found[1]["id"] == "7"
    lines.write_text('{"essay": "d e f"}\n')
    assert results(call("batch", grader, lines, "--field", "essay").stdout)[0]["output"] == {"words": 3}
    bad = call("batch", grader, lines, "--field", "text")
    assert (bad.exit_code, "has no 'text'" in bad.stderr) == (2, True)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_lines_that_are_piped_in(grader: Path, piped: Callable[..., CompletedProcess[bytes]], backend: str) -> None:
    done = piped("batch", grader, "-", "--backend", backend, stdin=b'"a"\n{"input": "b c"}\n')
    assert done.returncode == 0, done.stderr
    assert sorted(results(done.stdout.decode())) == [0, 1]
    assert b"2 done" in done.stderr


def test_a_failed_input_is_named_and_the_others_are_done(
    grader: Path, call: Callable[..., Result], tmp_path: Path
) -> None:
    for name, text in (("a.txt", "fine"), ("b.txt", "bad")):
        (tmp_path / name).write_text(text)
    done = call("batch", grader, tmp_path / "a.txt", tmp_path / "b.txt")
    assert done.exit_code == 1
    assert "Input 1 (b.txt): ValueError: can't be graded" in done.stderr
    assert "2 of 2 done, 1 failed" in done.stderr
    assert results(done.stdout)[1]["error"] == {"type": "ValueError", "message": "can't be graded"}


def test_it_goes_on_with_a_file_only_if_told_to(grader: Path, call: Callable[..., Result], tmp_path: Path) -> None:
    lines, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    lines.write_text('"a"\n"bad"\n')
    assert call("batch", grader, lines, "--out", out).stdout == ""
    assert sorted(results(out.read_text())) == [0, 1]
    refused = call("batch", grader, lines, "--out", out)
    assert (refused.exit_code, "is there already: --resume goes on with it" in refused.stderr) == (2, True)
    lines.write_text('"a"\n"bad"\n"c"\n')
    again = call("batch", grader, lines, "--out", out, "--resume")
    assert "3 of 3 done, 2 of them before, 1 failed" in again.stderr
    assert len(out.read_text().splitlines()) == 3
    retried = call("batch", grader, lines, "--out", out, "--retry-failed")
    assert "3 of 3 done, 2 of them before, 1 failed" in retried.stderr
    assert len(out.read_text().splitlines()) == 4
    lines.write_text('"other"\n')
    other = call("batch", grader, lines, "--out", out, "--resume")
    assert (other.exit_code, "is of other inputs" in other.stderr) == (2, True)


def test_too_many_failures_stop_it(grader: Path, call: Callable[..., Result], tmp_path: Path) -> None:
    lines = tmp_path / "in.jsonl"
    lines.write_text('"bad"\n' * 50)
    done = call("batch", grader, lines, "--max-failures", "2", "-n", "1")
    assert done.exit_code == 1
    assert "Stopped: 3 inputs have failed" in done.stderr
    assert len(done.stdout.splitlines()) == 3


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(
    grader: Path, terminal: Callable[..., Any], tmp_path: Path, backend: str
) -> None:
    lines, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    lines.write_text('"a"\n"b"\n"slow"\n"slow"\n')
    screen = terminal("batch", grader, lines, "--out", out, "--backend", backend)
    screen.wait_for("2/4")
    screen.press(b"\x03")
    assert screen.finish() == 128 + signal.SIGINT
    assert "Stopped by Ctrl-C: 2 of 4 done" in screen.plain
    assert "Go on with --resume." in screen.plain
    assert sorted(results(out.read_text())) == [0, 1]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="nothing can kill it so")
def test_killed_at_any_moment_it_runs_nothing_twice_that_had_its_result(
    agent_file: Callable[..., Path], tmp_path: Path
) -> None:
    file = agent_file("""
        @agent
        async def notes(ctx):
            with open("ran.txt", "a") as ran:
                ran.write(ctx.user_text + "\\n")
            await anyio.sleep(0.01)
            await ctx.emit(ctx.text("done"))
    """)
    lines, out, ran = tmp_path / "in.jsonl", tmp_path / "out.jsonl", tmp_path / "ran.txt"
    lines.write_text("".join(f'"{number}"\n' for number in range(200)))
    command = [sys.executable, "-m", "agentflow", "batch", file, lines, "--out", out, "-n", "4", "--resume"]
    kept: set[int] = set()
    for enough in (20, 90):
        with Popen([str(part) for part in command], cwd=tmp_path, stderr=DEVNULL) as process:
            deadline = time.monotonic() + 60
            while not out.exists() or out.read_bytes().count(b"\n") < enough:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.005)
            process.kill()
        whole = out.read_bytes().rpartition(b"\n")[0].decode()
        assert kept < results(whole).keys()
        kept = set(results(whole))
        before = Counter(ran.read_text().splitlines())
    done = run([str(part) for part in command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "200 of 200 done" in done.stderr
    assert sorted(results(out.read_text())) == list(range(200))
    after = Counter(ran.read_text().splitlines())
    assert {name for name in map(str, kept) if after[name] != before[name]} == set()
    assert sum(after.values()) <= 200 + 3 * 4  # what was at work when it was killed


def test_out_of_time_is_a_failure(grader: Path, call: Callable[..., Result], tmp_path: Path) -> None:
    lines = tmp_path / "in.jsonl"
    lines.write_text('"slow"\n')
    done = call("batch", grader, lines, "--timeout", "200ms")
    assert done.exit_code == 1
    assert results(done.stdout)[0]["error"]["type"] == "LimitExceeded"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "there is no file or folder 'nowhere'"),
        (["empty.jsonl"], "there is nothing to run: no input in 'empty.jsonl'"),
        (["broken.jsonl"], "line 1 of 'broken.jsonl' is no JSON"),
        (["latin.txt"], "'latin.txt' is not valid UTF-8 (at byte 1)"),
        (["empty.jsonl", "--resume"], "--out FILE"),
        ([], "Missing argument"),
    ],
)
def test_what_cannot_begin_is_said_in_a_line(
    grader: Path,
    call: Callable[..., Result],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "broken.jsonl").write_text("{nope\n")
    (tmp_path / "latin.txt").write_bytes(b"a\xe9")
    done = call("batch", grader, *arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_typo_in_the_target_is_said_in_a_line(call: Callable[..., Result], grader: Path) -> None:
    done = call("batch", f"{grader}:grade", grader)
    assert done.exit_code == 2
    assert "did you mean 'grader'?" in done.stderr
