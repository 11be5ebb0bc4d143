"""A process ends in the middle of a run, and what was acknowledged is there. All of it, at length: `crashes.py`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the crashes are in forked processes")


def crashes(*arguments: str) -> str:
    command = [sys.executable, "-W", "ignore", "-m", "tests.services.crashes", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_what_is_acknowledged_survives_the_end_of_the_process_around_a_commit() -> None:
    """Every sixth here; `python -m tests.services.crashes commits` is every one."""
    told = crashes("commits", "--step", "6")
    assert told.count(": 0 wrong") == 2


def test_what_is_acknowledged_survives_kill_9() -> None:
    """A few here; `python -m tests.services.crashes kills 100` is a hundred on each backend."""
    told = crashes("kills", os.environ.get("AGENTFLOW_KILLS", "4"))
    assert told.count(": 0 wrong") == 2
