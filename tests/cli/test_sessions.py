"""The commands for what has been kept: list, show, change, move to another file and back."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from agentflow.cli._store import default_path
from tests.cli.conftest import Terminal

Call = Callable[..., Result]
Write = Callable[..., Path]

TEAM = """
    @agent
    async def a(ctx):
        ctx.state["seen"] = ctx.state.get("seen", 0) + 1
        await ctx.emit(ctx.text(f"hello {ctx.state['seen']}"))

    @agent
    async def b(ctx):
        raise ValueError("no luck")

    root_agent = SequentialAgent("team", [a, ParallelAgent("pair", [a.clone(name="c"), b], on_error="collect")])
"""


EVIL = "\x1b]0;gone\x07\x1b[2J"


def objects(result: Result) -> list[dict[str, object]]:
    assert (result.exit_code, result.stderr) == (0, "")
    return [json.loads(line) for line in result.stdout.splitlines()]


def refused(result: Result) -> str:
    """One paragraph, exit code 2, nothing on stdout."""
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1
    return result.stderr.removeprefix("Error: ").removesuffix("\n")


@pytest.fixture
def team(agent_file: Write, call: Call) -> Path:
    """Two sessions, one of two runs."""
    file = agent_file(TEAM)
    for words in (("One?",), ("Two?", "--continue"), ("Other?", "--session", "other")):
        assert call("run", file, *words).exit_code == 0
    return file


def test_a_run_is_kept_and_goes_on(team: Path, call: Call) -> None:
    other, first = objects(call("sessions", "--json"))
    assert (other["id"], other["asked"], first["asked"], first["app"]) == ("other", "Other?", "One?", "team")
    shown = objects(call("show", first["id"], "--json"))[0]
    assert shown["state"] == {"seen": 4}
    assert [(run["number"], run["asked"], run["status"]) for run in shown["runs"]] == [
        (1, "One?", "ok"),
        (2, "Two?", "ok"),
    ]
    assert shown["runs"][0]["branches"] == {"ok": 1, "error": 1}


def test_what_is_kept_in_memory_is_not_kept(agent_file: Write, call: Call, own_sessions: Path) -> None:
    assert call("run", agent_file(TEAM), "go", "--in-memory").exit_code == 0
    assert not own_sessions.exists()
    assert refused(call("sessions")) == f"there is no file {str(own_sessions)!r}: `agentflow run` makes it"
    said = refused(call("run", agent_file(TEAM), "go", "--in-memory", "--continue"))
    assert said == "--continue goes on with the latest session that was kept: leave out --in-memory"
    assert refused(call("run", agent_file(TEAM), "--continue")) == "there is no session of 'team' to continue"


def test_a_place_where_nothing_can_be_kept(agent_file: Write, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run goes on when nobody asked for it to be kept there; otherwise it doesn't begin."""
    nowhere = agent_file(TEAM).with_name("target.py") / "x.db"
    monkeypatch.setenv("AGENTFLOW_DB", str(nowhere))
    done = call("run", agent_file(TEAM), "go")
    assert done.exit_code == 0
    assert done.stderr.startswith("This session is not kept: ")
    assert "can't be made" in refused(call("run", agent_file(TEAM), "go", "--db", nowhere))
    noise = agent_file(TEAM).with_name("noise.db")
    noise.write_bytes(b"no database at all, but long enough to be read as one" * 100)
    assert "this file is no SQLite database" in refused(call("run", agent_file(TEAM), "go", "--db", noise))
    assert call("sessions", "--db", noise).exit_code == 1


def test_the_list_is_a_table_with_pages(team: Path, call: Call) -> None:
    head, other, first = call("sessions").stdout.splitlines()
    assert head.split() == ["session", "app", "events", "last", "used"]
    assert other.split()[:3] == ["other", "team", "15"]
    assert other.endswith("  ok  Other?")
    assert first.endswith("One?")
    page = call("sessions", "--limit", 1)
    assert len(page.stdout.splitlines()) == 2
    assert page.stderr.startswith("More: --before ")
    rest = call("sessions", "--limit", 1, *page.stderr.removeprefix("More: ").split())
    assert (rest.stdout.splitlines()[1], rest.stderr) == (first.replace("34  ", "34  "), "")
    assert [line["id"] for line in objects(call("sessions", "--find", "OTH", "--json"))] == ["other"]
    assert [line["asked"] for line in objects(call("sessions", "--find", "oNe", "--json"))] == ["One?"]
    assert refused(call("sessions", "--find", "Two")) == "there is no session like this"
    assert refused(call("sessions", "--app", "nobody")) == "there is no session like this"


def test_the_list_says_how_the_last_run_of_each_session_ended(agent_file: Write, call: Call) -> None:
    file = agent_file("""
        @agent
        async def fails(ctx):
            raise ValueError("no luck")

        @agent
        async def asks(ctx):
            await ctx.request_input("Which colour?")
    """)
    assert call("run", f"{file}:fails", "Go.", "--session", "failed").exit_code == 1
    assert call("run", f"{file}:asks", "Go.", "--session", "waiting").exit_code == 3
    assert call("sessions", "fork", "failed", "--at", 2, "--id", "cut").exit_code == 0
    assert call("sessions", "fork", "failed", "--at", 0, "--id", "empty").exit_code == 0
    ends = {line["id"]: line.get("status") for line in objects(call("sessions", "--json"))}
    assert ends == {"failed": "error", "waiting": "paused", "cut": "unfinished", "empty": None}


@pytest.mark.parametrize("width", [30, 44, 60, 80, 120])
def test_the_list_fits_a_terminal(agent_file: Write, call: Call, terminal: Callable[..., Terminal], width: int) -> None:
    file = agent_file("""
        @agent
        async def an_agent_with_a_name_that_is_long(ctx):
            await ctx.emit(ctx.text("hello"))
    """)
    for user in ("user", "someone with a name that is long"):
        assert call("run", file, "Shall we sell umbrellas 🌂 or not?", "--user", user).exit_code == 0
    here = terminal("sessions", size=(24, width))
    assert here.finish() == 0
    lines = [line for line in here.screen if line.strip()]
    assert len(lines) == 3
    assert all("Shal" in line and " ok " in line for line in lines[1:])


def test_a_session_is_named_by_the_beginning_of_its_id(team: Path, call: Call) -> None:
    first = str(objects(call("sessions", "--json"))[1]["id"])
    assert objects(call("show", first[:6], "--json"))[0]["id"] == first
    assert objects(call("show", "--json"))[0]["id"] == objects(call("show", "last", "--json"))[0]["id"] == "other"
    assert refused(call("show", "nothing")) == "there is no session 'nothing'; `agentflow sessions` lists them"
    call("sessions", "fork", "other", "--id", "other2")
    assert objects(call("show", "other", "--json"))[0]["id"] == "other", "all of an id is never ambiguous"
    said = refused(call("show", "oth"))
    assert said.startswith("'oth' could be other")
    assert said.endswith(": write more of the id, or add --app or --user")


def test_a_session_that_is_not_there_may_be_one_that_is_nearly_called_so(team: Path, call: Call) -> None:
    assert refused(call("show", "othre")) == "there is no session 'othre'; did you mean 'other'?"
    assert refused(call("show", "zzz")) == "there is no session 'zzz'; `agentflow sessions` lists them"


def test_show_reads_as_a_talk(team: Path, call: Call) -> None:
    assert [
        line for line in call("show", "other").stdout.splitlines() if not line.startswith(("team ·", "── run"))
    ] == [
        "other",
        "",
        "user: Other?",
        "a: hello 1",
        "pair.c: hello 2",
        "✕ team.pair.b: ValueError: no luck",
    ]
    state = call("show", "other", "--state").stdout
    assert "\nseen = 2\n" in state
    events = call("show", "other", "--events").stdout.splitlines()
    assert len(events) == 4 + 15
    assert events[4].split()[0] == "1"
    assert any("hello 1 [seen]" in line for line in events)
    assert any("team.pair.b  error ValueError: no luck" in line for line in events)
    session, *lines = call("show", "other", "--events", "--json").stdout.splitlines()
    assert json.loads(session)["id"] == "other"
    assert lines == call("replay", "other", "--json").stdout.splitlines()


def test_show_says_once_why_many_were_cancelled(agent_file: Write, call: Call) -> None:
    file = agent_file("""
        @agent
        async def quick(ctx):
            await ctx.emit(ctx.text("first"))

        @agent
        async def slow(ctx):
            await anyio.sleep_forever()

        race = ParallelAgent("race", [quick, *(slow.clone(name=f"slow{n}") for n in range(8))], stop_when=1)
        late = SequentialAgent("late", [ParallelAgent("both", [slow.clone(name="x"), slow.clone(name="y")])])
    """)
    assert call("run", f"{file}:race", "Go.").exit_code == 0
    marked = [line for line in call("show").stdout.splitlines() if line.startswith("■")]
    assert marked == ["■ race: slow0, slow1, slow2, slow3, slow4 and 3 more cancelled: 1 of 9 succeeded"]
    assert call("run", f"{file}:late", "Go.", "--timeout", "0.5s").exit_code == 1
    marked = [line for line in call("show").stdout.splitlines() if line.startswith("■")]
    assert marked == ["■ late cancelled: the run's time (0.5 s) was up"]


def test_show_says_what_was_cut_short(team: Path, call: Call) -> None:
    """One run of a session at a time: what has no end and came before another isn't going on."""
    assert call("sessions", "fork", "other", "--at", 6, "--id", "cut").exit_code == 0
    assert call("show", "cut").stdout.endswith("… it has no end: it was cut short, or is still going on\n")
    assert call("run", team, "again", "--session", "cut").exit_code == 0
    assert "… it has no end: it was cut short\n" in call("show", "cut").stdout


def test_show_says_what_a_run_waits_to_be_told(agent_file: Write, call: Call) -> None:
    file = agent_file("""
        @agent
        async def asker(ctx):
            colour = await ctx.request_input("Which colour?")
            await ctx.emit(ctx.text(f"{colour} it is"))
    """)
    assert call("run", file, "Go.", "--session", "s", "--user", "Ada L").exit_code == 3
    (shown,) = objects(call("show", "s", "--json"))
    (pending,) = shown["runs"][0]["pending"]
    assert (pending["kind"], pending["message"], pending["path"]) == ("input", "Which colour?", "asker")
    *_, question, answer = call("show", "s").stdout.splitlines()
    assert question == "‖ asker asks: Which colour?"
    assert answer == f"  agentflow run FILE --session s --user 'Ada L' --answer {pending['id']}=VALUE"
    done = call("run", file, "--session", "s", "--user", "Ada L", "--answer", f"{pending['id']}=red")
    assert done.exit_code == 0
    (shown,) = objects(call("show", "s", "--json"))
    (run,) = shown["runs"]
    assert (run["status"], "pending" in run) == ("ok", False)
    assert "‖" not in call("show", "s").stdout


def test_fork_rewind_title_delete(team: Path, call: Call) -> None:
    (copy,) = objects(call("sessions", "fork", "other", "--at", 5, "--id", "copy", "--title", "A copy", "--json"))
    assert (copy["id"], copy["events"], copy["title"]) == ("copy", 5, "A copy")
    assert call("sessions", "title", "copy", "Better").stdout == "copy is called 'Better'\n"
    assert "copy" in call("sessions", "--find", "better").stdout
    assert refused(call("sessions", "rewind", "copy", "--to", 2)).endswith("say --yes, for there is nobody to ask")
    assert call("sessions", "rewind", "copy", "--to", 2, "--yes").stdout == "copy has 2 events\n"
    assert call("run", team, "again", "--session", "copy").exit_code == 0
    assert call("sessions", "delete", "copy", "other", "-y").stdout == "copy is gone\nother is gone\n"
    assert len(objects(call("sessions", "--json"))) == 1
    assert refused(call("sessions", "fork", "last", "--at", 999)).endswith("has events 0 to 30, and no 999")
    assert refused(call("sessions", "rewind", "last", "--to", 999)).endswith("has events 0 to 30, and no 999")


def test_prune_says_what_goes_before_it_goes(team: Path, call: Call) -> None:
    assert refused(call("sessions", "prune")) == "say what goes: --older-than 30d, --keep 100, or both"
    assert "such as 12h, 30d or 8w" in refused(call("sessions", "prune", "--older-than", "soon"))
    dry = call("sessions", "prune", "--keep", 1, "--dry-run")
    assert (len(dry.stdout.splitlines()), dry.stderr) == (1, "1 session would go\n")
    assert len(objects(call("sessions", "--json"))) == 2
    assert call("sessions", "prune", "--older-than", "1d", "--yes").stderr == "0 sessions gone\n"
    assert call("sessions", "prune", "--keep", 1, "--yes").stderr == "1 session gone\n"
    assert [line["id"] for line in objects(call("sessions", "--json"))] == ["other"]


def test_sessions_move_to_another_file_and_back(team: Path, call: Call, tmp_path: Path) -> None:
    file, other = tmp_path / "all.jsonl", tmp_path / "folder" / "new.db"
    before = objects(call("sessions", "--json"))
    assert call("export", "--all", "-o", file).stderr == f"{file}: 2 sessions\n"
    assert call("import", file, "--db", other).stderr == "2 sessions imported\n"
    drop = "changed"
    after = objects(call("sessions", "--json", "--db", other))
    assert [{**line, drop: 0} for line in after] == [{**line, drop: 0} for line in before]
    assert call("export", "--all", "--db", other).stdout.encode() == file.read_bytes()
    again = call("import", file, "--db", other)
    assert (again.exit_code, again.stdout) == (1, "")
    assert again.stderr.startswith(f"Error: {file}: session ")
    assert again.stderr.endswith(" is there already: try --if-exists skip, or copy; 0 sessions imported\n")
    assert call("import", file, "--db", other, "--if-exists", "skip").stderr == "0 sessions imported\n"
    (copy,) = objects(call("import", file, "--db", other, "--if-exists", "copy", "--json"))[:1]
    (shown,) = objects(call("show", copy["id"], "--db", other, "--json"))
    assert shown["runs"]
    assert {name: shown[name] for name in copy} == copy
    assert call("export", "other").stdout.encode() == call("export", "other", "--db", other).stdout.encode()
    assert call("export", "other").stdout == call("export", "other", "oth", "last").stdout, "each comes once"


def test_an_export_that_fails_leaves_no_half_of_a_file(team: Path, call: Call, tmp_path: Path) -> None:
    file = tmp_path / "all.jsonl"
    file.write_text("what was there")
    assert refused(call("export", "other", "nothing", "-o", file)).startswith("there is no session 'nothing'")
    assert file.read_text() == "what was there"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["all.jsonl", "kept", "target.py"]
    assert refused(call("export")) == "name the sessions, or say --all"
    assert refused(call("export", "--all", "other")) == "name sessions, or say --all; not both"
    assert refused(call("import", "nothing.jsonl")) == "there is no file 'nothing.jsonl'"
    torn = tmp_path / "torn.jsonl"
    torn.write_bytes(call("export", "other").stdout.encode()[:-9])
    done = call("import", torn, "--if-exists", "copy")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(f"Error: {torn}: line ")
    assert len(objects(call("sessions", "--json"))) == 2
    assert "is where the sessions are" in refused(call("export", "other", "-o", tmp_path / "kept" / "agentflow.db"))
    assert "can't be written: Is a directory" in refused(call("export", "other", "-o", tmp_path))


def test_exports_go_through_pipes_and_links(team: Path, call: Call, tmp_path: Path) -> None:
    exported = call("export", "other").stdout.encode()
    pipe, link = tmp_path / "pipe", tmp_path / "link.jsonl"
    os.mkfifo(pipe)
    link.symlink_to(tmp_path / "real.jsonl")
    command = [sys.executable, "-m", "agentflow"]
    with subprocess.Popen([*command, "export", "other", "-o", pipe]) as process:
        assert pipe.read_bytes() == exported
        assert process.wait(30) == 0
    assert call("export", "other", "-o", link).exit_code == 0
    assert link.is_symlink()
    assert (tmp_path / "real.jsonl").read_bytes() == exported
    with subprocess.Popen([*command, "import", pipe, "--db", tmp_path / "new.db"]) as process:
        pipe.write_bytes(exported)
        assert process.wait(30) == 0
    assert call("export", "other", "--db", tmp_path / "new.db").stdout.encode() == exported


def poisoned(value: object, key: str = "") -> object:
    """What was exported, with something in each string that steers a terminal."""
    if isinstance(value, dict):
        return {f"{name}{EVIL}" if key == "stateDelta" else name: poisoned(part, name) for name, part in value.items()}
    if isinstance(value, list):
        return [poisoned(part, key) for part in value]
    known = ("id", "invocationId", "user", "kind", "name", "end")
    return f"{value}{EVIL}" if isinstance(value, str) and key not in known else value


def test_nothing_in_an_export_steers_a_terminal(team: Path, call: Call, tmp_path: Path) -> None:
    """Whoever made it can have written anything."""
    file, db = tmp_path / "evil.jsonl", tmp_path / "evil.db"
    lines = [poisoned(json.loads(line)) for line in call("export", "other").stdout.splitlines()]
    file.write_text("\n".join(map(json.dumps, lines)).replace('"gather_complete"', json.dumps(f"new{EVIL}")))
    assert call("import", file, "--db", db).exit_code == 0
    for words in (
        ["sessions"], ["show"], ["show", "--events", "--state"], ["timeline"], ["timeline", "--format", "svg"],
        ["timeline", "--format", "html"], ["replay"], ["db", "info"], ["sessions", "title", "last", f"x{EVIL}"],
    ):  # fmt: skip
        done = call(*words, "--db", db)
        assert done.exit_code == 0, (words, done.output)
        assert "\x1b" not in done.output, words


def test_ctrl_c_ends_an_import_that_waits_for_more(team: Path, call: Call, terminal: Callable[..., Terminal]) -> None:
    here = terminal("import", "-", "--db", "new.db", "--json")
    for line in call("export", "other").stdout.encode().splitlines(keepends=True):
        here.press(line)
    here.wait_for('"id": "other"')
    here.press(b"\x03")
    assert here.finish() == 130
    assert "1 session imported; --if-exists skip goes on from there" in here.plain


def test_the_file_is_looked_after(team: Path, call: Call, own_sessions: Path) -> None:
    assert call("db", "info").stdout.splitlines()[0] == str(own_sessions)
    (info,) = objects(call("db", "info", "--json"))
    assert (info["events"], info["sessions"]) == (45, {"team": 2})
    assert call("db", "check").stdout == f"{own_sessions}: all is well\n"
    assert call("db", "upgrade").stdout.startswith(f"{own_sessions}: up to date")
    call("sessions", "delete", "other", "-y")
    assert objects(call("db", "vacuum", "--json"))[0]["path"] == str(own_sessions)
    assert refused(call("db", "check", "--db", "nothing.db")) == "there is no file 'nothing.db'"
    assert call("db", "--db", own_sessions, "check").exit_code == 0, "the option may stand before the command, too"


@pytest.mark.skipif(sys.platform == "win32", reason="a shell closes it")
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["import", "-"], "there is nothing to read: the standard input is closed"),
        (["batch", "target.py", "-"], "there is nothing to read: the standard input is closed"),
        (["sessions", "delete", "other"], "Delete 'other' for good: say --yes, for there is nobody to ask"),
    ],
)
def test_a_standard_input_that_is_closed_is_no_traceback(team: Path, words: list[str], told: str) -> None:
    command = ["sh", "-c", 'exec "$0" -m agentflow "$@" <&-', sys.executable, *words]
    done = subprocess.run(command, cwd=team.parent, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"Error: {told}\n")


READING = [
    ["sessions"], ["sessions", "--find", "One"], ["show"], ["timeline"], ["replay"], ["export", "--all"],
    ["sessions", "prune", "--keep", "0", "--dry-run"], ["db", "info"], ["db", "check"],
]  # fmt: skip


def test_who_only_reads_leaves_the_file_and_its_folder_as_they_are(team: Path, call: Call, own_sessions: Path) -> None:
    def there() -> dict[str, tuple[bytes, int]]:
        return {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in own_sessions.parent.iterdir()}

    before = there()
    for words in READING:
        assert call(*words).exit_code == 0, words
        assert there() == before, words


def test_a_file_in_which_nothing_was_stored_is_said_to_be_one(call: Call, tmp_path: Path) -> None:
    empty = tmp_path / "empty.db"
    empty.touch()
    for words in READING:
        done = call(*words, "--db", empty)
        assert (done.exit_code, done.stdout) == (1, ""), words
        assert done.stderr == f"Error: {empty}: nothing was ever stored in it\n"
    assert empty.read_bytes() == b""


def test_progress_is_quiet_when_piped(team: Path, piped: Callable[..., subprocess.CompletedProcess[bytes]]) -> None:
    """Not a byte of a bar on stderr, on any of the long ways."""
    assert piped("export", "--all", "-o", "out.jsonl").stderr == b"out.jsonl: 2 sessions\n"
    assert piped("import", "out.jsonl", "--db", "new.db").stderr == b"2 sessions imported\n"
    for words in (["db", "check"], ["db", "upgrade"], ["db", "vacuum"], ["replay"], ["timeline"], ["show"]):
        assert piped(*words).stderr == b"", words


def test_several_commands_may_make_one_file_at_once(agent_file: Write, own_sessions: Path, call: Call) -> None:
    command = [sys.executable, "-m", "agentflow", "run", str(agent_file(TEAM)), "go"]
    started = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in range(4)]
    assert [(process.communicate(timeout=60)[1], process.returncode) for process in started] == [(b"", 0)] * 4
    assert len(objects(call("sessions", "--json"))) == 4


@pytest.mark.parametrize("words", [["show", "--events"], ["sessions", "--json"], ["export", "--all"], ["timeline"]])
def test_a_reader_that_has_seen_enough_is_no_error(team: Path, words: list[str]) -> None:
    """As `head -1` does: the pipe is closed before anything is written."""
    command = [sys.executable, "-m", "agentflow", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 141


def test_long_work_shows_a_bar_on_a_terminal(team: Path, terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    """And takes it away again: what stays is what came of it."""
    for words, bar, last in (
        (("export", "--all", "-o", "out.jsonl"), "Exporting", "out.jsonl: 2 sessions"),
        (("import", "out.jsonl", "--db", "new.db"), "Importing out.jsonl", "2 sessions imported"),
        (("db", "check"), "Checking agentflow.db", "all is well"),
        (("db", "vacuum"), "Vacuuming agentflow.db", "bytes less"),
        (("db", "upgrade"), "Upgrading agentflow.db", "up to date"),
    ):
        here = terminal(*words, size=(10, 200))
        assert here.finish() == 0
        assert bar in here.plain
        assert last in here.plain.splitlines()[-1]


@pytest.mark.parametrize(
    ("platform", "env", "expected"),
    [
        ("linux", {}, "/home/ann/.local/share/agentflow/agentflow.db"),
        ("linux", {"XDG_DATA_HOME": "/data"}, "/data/agentflow/agentflow.db"),
        ("darwin", {}, "/home/ann/Library/Application Support/agentflow/agentflow.db"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/agentflow/agentflow.db"),
        ("linux", {"AGENTFLOW_DB": "here.db"}, "here.db"),
    ],
)
def test_where_sessions_are_kept(
    platform: str, env: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    for name in ("AGENTFLOW_DB", "XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/ann")
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert default_path().as_posix() == expected
