"""Files with agents, the command in this process, and the command on a terminal of its own."""

import codecs
import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from agentflow.cli import cli

PATIENCE = 30.0
"""Seconds after which a silent process has failed its test."""
TAKE_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Ctrl-C reaches those whose controlling terminal it is."""
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
HEADER = """\
import anyio
from agentflow import *

"""


@pytest.fixture(autouse=True)
def own_sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which this test's sessions are kept, in this process and those that it starts."""
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AGENTFLOW_DB", str(tmp_path / "kept" / "agentflow.db"))
    return tmp_path / "kept" / "agentflow.db"


@pytest.fixture
def agent_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes a file of agents; anyio and agentflow's names are imported in it."""

    def write(source: str, name: str = "target.py") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(HEADER + textwrap.dedent(source), encoding="utf-8")
        return path

    return write


@pytest.fixture
def fresh_imports() -> Iterator[None]:
    """What a target's import left behind is gone after the test."""
    modules, path = set(sys.modules), list(sys.path)
    yield
    for name in set(sys.modules) - modules:
        if name.startswith(("target", "agentflow_target", "house")):
            del sys.modules[name]
    sys.path[:] = path


@pytest.fixture
def call(fresh_imports: None) -> Callable[..., Result]:
    """`call("run", file, "hello")`: the command, in this process, without a terminal."""

    def run(*args: object, stdin: bytes | None = None) -> Result:
        return CliRunner().invoke(cli, [str(arg) for arg in args], input=stdin)

    return run


class Terminal:
    """A process on a pseudo-terminal. Its output is read while we wait for something in it."""

    def __init__(self, args: Sequence[str], *, cwd: Path, size: tuple[int, int], env: dict[str, str]) -> None:
        import pty
        import termios

        self.height, self.width = size
        self.raw = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._master, slave = pty.openpty()
        termios.tcsetwinsize(slave, size)
        settings = termios.tcgetattr(slave)
        settings[3] |= termios.NOFLSH  # or Ctrl-C throws away what we have not read yet
        termios.tcsetattr(slave, termios.TCSANOW, settings)

        self.process = subprocess.Popen(
            [sys.executable, "-c", TAKE_TERMINAL, *args],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=cwd,
            env=env,
            start_new_session=True,
        )
        os.close(slave)

    def wait_for(self, pattern: str) -> None:
        """Read until `pattern` has come, control codes aside."""
        deadline = time.monotonic() + PATIENCE
        while not re.search(pattern, self.plain):
            if not self._read(deadline):
                pytest.fail(f"no {pattern!r} in:\n{self.plain[-3000:]}", pytrace=False)

    def press(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def press_until_over(self, keys: bytes) -> None:
        """Again and again, once it is silent: of two signals at the same moment a process sees one."""
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None and time.monotonic() < deadline:
            self.press(keys)
            while self._read(time.monotonic() + 0.5):
                pass

    def ends_within(self, seconds: float) -> bool:
        """Read on; whether that was the end."""
        deadline = time.monotonic() + seconds
        while self._read(deadline):
            pass
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(max(0.1, deadline - time.monotonic()))
        return self.process.returncode is not None

    def finish(self) -> int:
        """Read to the end; gives the exit code."""
        deadline = time.monotonic() + PATIENCE
        while self._read(deadline):
            pass
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)
        os.close(self._master)

    @property
    def plain(self) -> str:
        """All that was written, without control codes."""
        return CONTROL.sub("", self.raw).replace("\r", "")

    @property
    def screen(self) -> list[str]:
        """What stands there in the end, what has scrolled away included."""
        lines = [""]
        row = column = 0
        for found in re.finditer(r"\x1b\[([0-9;?]*)([A-Za-z])|([^\x1b])", self.raw):
            number, code, char = found.groups()
            if code == "A":
                row = max(0, row - int(number or 1))
            elif code == "K":
                assert number == "2"
                lines[row] = ""
            elif code is not None:
                assert code in "mhl", f"unknown control code {found[0]!r}"
            elif char == "\r":
                column = 0
            elif char == "\n":
                row += 1
                lines += [""] * (row - len(lines) + 1)
            else:
                lines[row] = lines[row][:column].ljust(column) + char + lines[row][column + 1 :]
                column += 1
                assert column <= self.width, f"a line is too long: {lines[row]!r}"
        return [line.rstrip() for line in lines]

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
        try:
            data = os.read(self._master, 1 << 16) if ready else b""
        except OSError:  # the other side has closed
            data = b""
        self.raw += self._decoder.decode(data)
        return bool(data)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    """`terminal("run", file)`: the command on a terminal of 24 lines and 80 columns."""
    pytest.importorskip("pty")
    opened: list[Terminal] = []

    def start(*args: object, size: tuple[int, int] = (24, 80), **env: str) -> Terminal:
        command = [sys.executable, "-W", "error", "-m", "agentflow", *map(str, args)]
        here = clean_environment() | {"TERM": "xterm-256color"} | env
        opened.append(Terminal(command, cwd=tmp_path, size=size, env=here))
        return opened[-1]

    yield start
    for each in opened:
        each.close()


def clean_environment() -> dict[str, str]:
    """This environment, without what changes how terminals are drawn on."""
    drop = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "TERM")
    ours = ("OTEL_", "ANTHROPIC_")
    kept = {name: value for name, value in os.environ.items() if name not in drop and not name.startswith(ours)}
    return kept | {"PYTHONUTF8": "1"}


@pytest.fixture
def piped(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """`piped("run", file)`: the command as a process of its own, without a terminal."""

    def run(*args: object, stdin: bytes = b"", **env: str) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-W", "error", "-m", "agentflow"]
        return subprocess.run(
            [*command, *(arg if isinstance(arg, bytes) else str(arg) for arg in args)],
            input=stdin,
            capture_output=True,
            cwd=tmp_path,
            env=clean_environment() | env,
            timeout=PATIENCE,
            check=False,
        )

    return run
