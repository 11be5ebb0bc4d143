"""A sampling profiler of a few lines: which source lines a cell's time goes to."""

import importlib
import signal
import sysconfig
import time
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from benchmarks.cells import Cell

EVERY = 0.0005
"""Seconds between two samples. Of wall time: timers of CPU time are as coarse as the kernel's tick."""


class Place(NamedTuple):
    """A line of source, or a function where `line` is 0."""

    file: str
    function: str
    line: int


class LineProfile:
    """Counts, on a timer, the line that runs and every line that it was called from."""

    def __init__(self) -> None:
        self.total = 0
        self.functions: Counter[Place] = Counter()
        self.own: Counter[Place] = Counter()
        self.with_callees: Counter[Place] = Counter()

    def __enter__(self) -> "LineProfile":
        signal.signal(signal.SIGALRM, self._tick)
        signal.setitimer(signal.ITIMER_REAL, EVERY, EVERY)
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _tick(self, _signal: int, frame: FrameType | None) -> None:
        if frame is None:
            return
        self.total += 1
        here = _place(frame)
        self.own[here] += 1
        self.functions[here._replace(line=0)] += 1
        places: set[Place] = set()
        while frame is not None:
            places.add(_place(frame))
            frame = frame.f_back
        self.with_callees.update(places)


def _place(frame: FrameType) -> Place:
    return Place(frame.f_code.co_filename, frame.f_code.co_qualname, frame.f_lineno)


def profile_cell(cell: Cell, *, top: int = 40, seconds: float = 8) -> None:
    """Run a cell in this process, again and again for some seconds, and print the lines that cost most."""
    function = getattr(importlib.import_module(cell.module), cell.function)
    answer = function(**cell.params)  # and its imports are done
    until = time.perf_counter() + seconds
    with LineProfile() as profile:
        while time.perf_counter() < until:
            function(**cell.params)
    print(f"{cell.key}: {answer}\n{profile.total} samples")
    tables = {
        "own time, by function": profile.functions,
        "own time, by line": profile.own,
        "time with what it calls, by line": profile.with_callees,
    }
    for title, counts in tables.items():
        print(f"\n{title}")
        for place, count in counts.most_common(top):
            where = f"{_short(place.file)}:{place.line}" if place.line else _short(place.file)
            print(f"{100 * count / profile.total:6.1f} %  {where}  {place.function}  {_source(place)}")


def _short(file: str) -> str:
    for root in (sysconfig.get_path("purelib"), sysconfig.get_path("stdlib"), str(Path(__file__).parent.parent)):
        file = file.removeprefix(root + "/")
    return file


def _source(place: Place) -> str:
    if not place.line:
        return ""
    try:
        return Path(place.file).read_text(encoding="utf-8").splitlines()[place.line - 1].strip()[:90]
    except (OSError, IndexError):
        return ""
