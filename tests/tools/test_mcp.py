"""Tools of MCP servers: real ones, started by the tests, over stdio and HTTP."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from agentflow import (
    Blob,
    ConfigError,
    FunctionAgent,
    InvocationContext,
    McpToolset,
    ParallelAgent,
    Runner,
    ToolError,
    ToolResult,
)
from tests.core.actors import Played, play
from tests.tools.callers import answers, caller, results

pytest.importorskip("mcp")
pytestmark = [  # on trio the SDK leaves generators of HTTP responses to the garbage collector, which says so
    pytest.mark.filterwarnings("ignore:Async generator .httpx2:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:Async generator .httpcore2:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:.*:pytest.PytestUnraisableExceptionWarning"),
]
DESK = Path(__file__).parent / "servers" / "desk.py"


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Real clocks: other processes don't know of ours."""
    return request.param


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    path = tmp_path / "notes"
    path.touch()
    return path


def noted(notes: Path) -> list[str]:
    """What servers have noted so far."""
    return notes.read_text().splitlines()


def desk(notes: Path | None = None, **settings: Any) -> McpToolset:
    env = {"DESK_NOTES": str(notes)} if notes is not None else None
    return McpToolset([sys.executable, str(DESK)], env=env, **settings)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def serve(command: list[str], port: int, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start a server, and wait until it listens."""
    process = subprocess.Popen(
        command, env={**os.environ, **(env or {})}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    for _ in range(400):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return process
        if process.poll() is not None:
            break
        time.sleep(0.05)
    process.kill()
    process.wait()
    raise AssertionError(f"{command} doesn't listen on {port}")


def stop(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def desk_url() -> Iterator[str]:
    port = free_port()
    process = serve([sys.executable, str(DESK), str(port)], port)
    yield f"http://127.0.0.1:{port}/mcp"
    stop(process)


@pytest.fixture(params=["stdio", "http"])
def either(request: pytest.FixtureRequest) -> Callable[..., McpToolset]:
    """A toolset of the desk, over either transport."""
    if request.param == "stdio":
        return desk
    url = request.getfixturevalue("desk_url")
    return lambda **settings: McpToolset(url, **settings)


async def ask(toolset: McpToolset, *asked: tuple[str, dict], **settings: Any) -> Played:
    with anyio.fail_after(30):
        return await play(caller("c", [toolset], asked), **settings)


@asynccontextmanager
async def tools_of(toolset: McpToolset) -> AsyncIterator[dict[str, Any]]:
    """The tools that an agent has of a toolset."""
    found: dict[str, Any] = {}

    async def turn(ctx: InvocationContext) -> None:
        found.update({tool.name: tool for tool in await toolset.resolve(ctx)})

    with anyio.fail_after(30):
        await play(FunctionAgent("a", turn))
    yield found


# What a server offers


async def test_tools_have_the_servers_schema_and_names_that_models_take(either: Callable[..., McpToolset]) -> None:
    async with tools_of(either()) as tools:
        assert {"add", "where", "odd_name_here"} <= set(tools)
        assert tools["add"].description == "Add two numbers."
        assert tools["add"].parameters["properties"]["a"]["type"] == "integer"
        assert tools["add"].parameters["required"] == ["a", "b"]
        assert tools["where"].mcp.annotations.read_only_hint
        assert "list_resources" not in tools


async def test_only_what_is_wanted_under_a_prefix(either: Callable[..., McpToolset]) -> None:
    async with tools_of(either(only=["add", "where"], prefix="desk_")) as tools:
        assert sorted(tools) == ["desk_add", "desk_where"]
    async with tools_of(either(only=lambda tool: "number" in tool.description)) as tools:
        assert sorted(tools) == ["add"]


async def test_calls_are_answered(either: Callable[..., McpToolset]) -> None:
    played = await ask(
        either(prefix="x_"), ("x_add", {"a": 2, "b": 3}), ("x_odd_name_here", {}), ("x_fail", {"words": "no"})
    )
    added, odd, failed = results(played)
    assert (added.result, odd.result) == ({"result": 5}, {"result": "odd"})
    assert failed.is_error
    assert "fail" in failed.result


async def test_arguments_that_dont_fit_are_the_models_to_mend(either: Callable[..., McpToolset]) -> None:
    [result] = results(await ask(either(), ("add", {"a": "many"})))
    assert result.is_error
    assert "b" in result.result


async def test_pictures_come_as_pictures(either: Callable[..., McpToolset]) -> None:
    played = await ask(either(), ("draw", {}))
    [picture] = [part for event in played.events for part in event.parts if type(part) is Blob]
    assert (picture.data, picture.mime_type) == (b"\x89PNG", "image/png")


async def test_progress_is_shown(either: Callable[..., McpToolset]) -> None:
    played = await ask(either(), ("count", {"n": 3}))
    shown = [event.parts[0].result for event in played.events if event.partial]
    assert shown == [{"progress": i, "total": 3, "message": f"{i} of 3"} for i in (1, 2, 3)]
    assert answers(played) == [{"result": "counted"}]


async def test_resources_are_listed_and_read(either: Callable[..., McpToolset]) -> None:
    played = await ask(
        either(resources=True), ("list_resources", {}), ("read_resource", {"uri": "desk://paper"}),
        ("read_resource", {"uri": "desk://nothing"}),
    )  # fmt: skip
    listed, read, missing = results(played)
    assert [entry["uri"] for entry in listed.result] == ["desk://paper"]
    assert read.result == "written on"
    assert missing.is_error


async def test_a_call_may_have_to_be_confirmed(either: Callable[..., McpToolset]) -> None:
    played = await ask(either(require_confirmation=True), ("add", {"a": 2, "b": 3}))
    [question] = played.run.result.pending
    assert (question.kind, question.call.name, question.call.args) == ("confirmation", "add", {"a": 2, "b": 3})


async def test_a_server_in_this_process_does_for_tests() -> None:
    from mcp.server.mcpserver import MCPServer

    server = MCPServer("here")

    @server.tool()
    def hello(name: str) -> str:
        return f"hello {name}"

    assert answers(await ask(McpToolset(server), ("hello", {"name": "you"}))) == [{"result": "hello you"}]


# Connections


async def test_it_connects_when_it_is_needed_once_for_all_runs_and_leaves_no_process() -> None:
    toolset = desk()
    agents = [caller(name, [toolset], [("where", {})], [("where", {})]) for name in "abc"]
    pids = set()
    with anyio.fail_after(30):
        async with Runner(ParallelAgent("p", agents)) as runner:
            for _ in range(2):
                async with runner.run("go") as run:
                    async for event in run:
                        pids |= {part.result["result"] for part in event.parts if type(part) is ToolResult}
            [pid] = pids
            os.kill(int(pid), 0)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


async def test_each_runner_has_a_connection_of_its_own() -> None:
    toolset = desk()
    first, second = [answers(await ask(toolset, ("where", {}))) for _ in range(2)]
    assert first != second


async def test_a_server_that_has_died_is_started_again() -> None:
    toolset = desk()
    with anyio.fail_after(30):
        async with Runner(caller("c", [toolset], [("where", {})])) as runner:
            pids = []
            for _ in range(2):
                async with runner.run("go") as run:
                    async for event in run:
                        pids += [part.result["result"] for part in event.parts if type(part) is ToolResult]
                os.kill(int(pids[-1]), 9)
                while not gone(int(pids[-1])):  # noqa: ASYNC110 - another process's end
                    await checkpoint()
    assert pids[0] != pids[1]


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


async def test_a_call_that_was_cut_short_is_not_made_again_unless_it_may_be(notes: Path) -> None:
    played = await ask(desk(notes), ("leave", {"word": "now"}))
    [result] = results(played)
    assert result.is_error
    assert "Connection closed" in result.result
    assert noted(notes) == ["leaves now"]
    played = await ask(desk(notes), ("leave_once", {}))
    assert answers(played) == [{"result": "answered"}]
    assert noted(notes) == ["leaves now", "asked", "asked"]


async def test_a_server_that_forgot_the_session_is_connected_to_again(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, str(DESK), str(port)]
    process = serve(command, port)
    try:
        with anyio.fail_after(60):
            toolset = McpToolset(f"http://127.0.0.1:{port}/mcp")
            async with Runner(caller("c", [toolset], [("where", {})])) as runner:
                pids = []
                for _ in range(2):
                    async with runner.run("go") as run:
                        async for event in run:
                            pids += [part.result["result"] for part in event.parts if type(part) is ToolResult]
                    stop(process)
                    process = serve(command, port)
    finally:
        stop(process)
    assert pids[0] != pids[1]


async def test_cancelling_a_run_cancels_the_call_at_the_server(notes: Path) -> None:
    with anyio.fail_after(30):
        async with Runner(caller("c", [desk(notes)], [("hang", {})])) as runner:
            async with runner.run("go") as run:
                async for event in run:
                    if event.partial:
                        run.cancel("enough")
            while "let go" not in noted(notes):  # noqa: ASYNC110 - another process writes it
                await checkpoint()
    assert run.result.status == "cancelled"


async def test_a_call_that_takes_too_long_is_an_error_and_cancelled_there(notes: Path) -> None:
    with anyio.fail_after(30):
        async with Runner(caller("c", [desk(notes, timeout=0.5)], [("hang", {})])) as runner:
            async with runner.run("go") as run:
                events = [event async for event in run]
            while "let go" not in noted(notes):  # noqa: ASYNC110 - another process writes it
                await checkpoint()
    [result] = [part for event in events if not event.partial for part in event.parts if type(part) is ToolResult]
    assert result.result == "tool 'hang' was still at work after 0.5 s"


@pytest.mark.parametrize(
    "server",
    [
        ["no-such-command-anywhere"],
        [sys.executable, "-c", "raise SystemExit(3)"],
        f"http://127.0.0.1:{free_port()}/mcp",
    ],
    ids=["no command", "dies at once", "nobody listens"],
)
async def test_a_server_that_cant_be_reached_is_named(server: Any) -> None:
    name = server if isinstance(server, str) else server[0]
    with pytest.raises(ToolError) as caught:
        await ask(McpToolset(server), ("add", {}))
    assert name in str(caught.value)
    assert "can't be reached" in str(caught.value)


async def test_a_server_that_says_nothing_is_given_up() -> None:
    toolset = McpToolset([sys.executable, "-c", "import sys; sys.stdin.read()"], connect_timeout=1)
    with pytest.raises(ToolError, match="didn't answer within 1 s"):
        await ask(toolset, ("add", {}))


@pytest.mark.parametrize(
    ("server", "settings", "match"),
    [
        ("localhost:8000", {}, "no URL"),
        ("npx -y server", {}, "a command is a list"),
        ([], {}, "isn't empty"),
        (3, {}, "a URL or a command"),
        ("http://localhost/mcp", {"cwd": "."}, "env and cwd"),
        (["x"], {"headers": {"a": "b"}}, "headers are for URLs"),
        (["x"], {"only": "add"}, "a list of names"),
    ],
)
def test_settings_that_cannot_work_are_refused(server: Any, settings: dict, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        McpToolset(server, **settings)


# The official servers


def official(name: str) -> list[str]:
    """The command of an official server, from where npm keeps it; the test is skipped where it can't be had."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    package = f"@modelcontextprotocol/server-{name}"
    cache = Path(os.environ.get("AGENTFLOW_TEST_NPM", Path.home() / ".cache" / "agentflow-tests" / "npm"))
    cache /= os.environ.get("PYTEST_XDIST_WORKER", "")  # two processes must not install into one folder
    script = cache / "node_modules" / package / "dist" / "index.js"
    if not script.exists():
        cache.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            [npm, "install", "--no-audit", "--no-fund", "--prefix", str(cache), package],
            capture_output=True, check=False, timeout=300,
        )  # fmt: skip
        if done.returncode:
            pytest.skip("npm can't install it here")
    return ["node", str(script)]


async def test_the_official_everything_server_over_stdio() -> None:
    everything = McpToolset([*official("everything"), "stdio"], resources=True)
    played = await ask(
        everything,
        ("echo", {"message": "hi"}),
        ("get-sum", {"a": 2, "b": 3}),
        ("get-structured-content", {"location": "Chicago"}),
        ("get-tiny-image", {}),
        ("get-resource-reference", {"resourceType": "Blob", "resourceId": 2}),
        ("read_resource", {"uri": "demo://resource/dynamic/text/1"}),
    )
    echo, total, weather, image, reference, resource = results(played)
    assert echo.result == "Echo: hi"
    assert "5" in total.result
    assert set(weather.result) == {"temperature", "conditions", "humidity"}
    assert "attached" in image.result
    assert not reference.is_error
    assert not resource.is_error
    kinds = [part.mime_type for event in played.events for part in event.parts if type(part) is Blob]
    assert kinds[0] == "image/png"


async def test_the_official_everything_server_tells_its_progress() -> None:
    everything = McpToolset([*official("everything"), "stdio"])
    played = await ask(everything, ("trigger-long-running-operation", {"duration": 0.3, "steps": 3}))
    assert [event.parts[0].result["progress"] for event in played.events if event.partial] == [1, 2, 3]


async def test_the_official_everything_server_over_http() -> None:
    port = free_port()
    process = serve([*official("everything"), "streamableHttp"], port, {"PORT": str(port)})
    try:
        played = await ask(McpToolset(f"http://127.0.0.1:{port}/mcp"), ("echo", {"message": "hi"}))
    finally:
        stop(process)
    assert answers(played) == ["Echo: hi"]


async def test_the_official_filesystem_server(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("remember the milk")
    files = McpToolset([*official("filesystem"), str(tmp_path)], only=["read_text_file", "list_directory"])
    played = await ask(
        files,
        ("list_directory", {"path": str(tmp_path)}),
        ("read_text_file", {"path": str(tmp_path / "note.txt")}),
        ("read_text_file", {"path": "/etc/hostname"}),
        ("write_file", {"path": str(tmp_path / "x"), "content": ""}),
    )
    listed, read, outside, unwanted = results(played)
    assert "note.txt" in str(listed.result)
    assert "remember the milk" in str(read.result)
    assert outside.is_error
    assert "not found" in unwanted.result
