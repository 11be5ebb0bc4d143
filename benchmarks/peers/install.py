"""Make one virtual environment for each peer: `python -m benchmarks peers --install DIR`."""

import subprocess
import sys
import venv
from pathlib import Path

PEERS = {
    "google-adk": "google-adk",
    "agent-framework": "agent-framework-core",
    "langgraph": "langgraph",
    "strands-agents": "strands-agents",
}
"""Which distribution each peer is installed from."""


def python_of(directory: Path, peer: str) -> Path | None:
    """The interpreter of a peer's environment, when it has been made."""
    for inside in ("bin/python", "Scripts/python.exe"):
        if (python := directory / peer / inside).exists():
            return python.absolute()  # not resolved: the link is what selects the environment
    return None


def install(directory: Path, *, timeout: float = 900) -> dict[str, str]:
    """Install the newest release of each peer, `timeout` seconds at most for each; say what became of them."""
    outcome: dict[str, str] = {}
    for peer, distribution in PEERS.items():
        home = directory / peer
        if python_of(directory, peer) is None:
            venv.create(home, with_pip=True)
        python = python_of(directory, peer)
        assert python is not None
        command = [
            str(python),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--upgrade",
            "--disable-pip-version-check",
            distribution,
        ]
        print(f"{peer}: installing {distribution} ...", file=sys.stderr, flush=True)
        try:
            done = subprocess.run(command, timeout=timeout, capture_output=True, text=True, check=False)
        except subprocess.TimeoutExpired:
            outcome[peer] = f"not installed within {timeout:.0f} s"
            continue
        if done.returncode:
            outcome[peer] = "failed: " + (done.stderr.strip().splitlines() or ["no message"])[-1]
        else:
            outcome[peer] = version(python, distribution)
    return outcome


def version(python: Path, distribution: str) -> str:
    """The version of a distribution in another interpreter's environment."""
    program = f"from importlib.metadata import version; print(version({distribution!r}))"
    done = subprocess.run([str(python), "-c", program], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else "missing"
