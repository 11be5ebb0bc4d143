"""Take readings of one piece of work: CPU and wall seconds per unit, in the process that does it.

Standard library only: peers import this module inside their own virtual environments.
"""

import gc
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import TypeAlias, TypeVar

T = TypeVar("T")

Sample: TypeAlias = dict[str, float]
"""What one fresh process measured: `cpu` and `wall` in seconds per unit, `units`, and what else the cell says."""


class Unavailable(Exception):
    """This cell can't run here: a library is missing, or the peer has nothing like it."""


async def sample(
    prepare: Callable[[], T], work: Callable[[T], Awaitable[int]], *, budget: float = 0.5, most: int = 50
) -> Sample:
    """Repeat `work` and return medians of CPU and wall seconds per unit.

    `prepare` builds what one repetition needs and isn't timed; `work` returns how many units it did. The first
    repetition warms caches up and is dropped, unless it alone spent twice the budget.

    Args:
        prepare: Called before each repetition.
        work: The timed part.
        budget: Seconds of CPU to spend.
        most: How many repetitions at most.
    """
    readings: list[tuple[float, float, int]] = []
    spent = 0.0
    while len(readings) < 2 or (spent < budget and len(readings) < most):
        subject = prepare()
        gc.collect()
        wall, cpu = time.perf_counter(), time.process_time()
        units = await work(subject)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        readings.append((cpu / units, wall / units, units))
        spent += cpu
        if cpu > 2 * budget:
            break
    kept = readings[1:] or readings
    return {
        "cpu": statistics.median(reading[0] for reading in kept),
        "wall": statistics.median(reading[1] for reading in kept),
        "units": kept[-1][2],
        "repetitions": len(kept),
    }


def sample_sync(work: Callable[[], int], *, budget: float = 0.3, most: int = 20) -> Sample:
    """As `sample`, for work that awaits nothing; the median of at least five repetitions after one to warm up."""
    readings: list[tuple[float, float, int]] = []
    spent = 0.0
    while len(readings) < 6 or (spent < budget and len(readings) < most):
        gc.collect()
        wall, cpu = time.perf_counter(), time.process_time()
        units = work()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        readings.append((cpu / units, wall / units, units))
        spent += cpu
    kept = readings[1:]
    return {
        "cpu": statistics.median(reading[0] for reading in kept),
        "wall": statistics.median(reading[1] for reading in kept),
        "units": kept[-1][2],
        "repetitions": len(kept),
    }


STOPS = 31
"""Times that a cell stops what it started."""


class StopWatch:
    """Times how long bodies take to end after they were told to.

    Each body calls `ended()` on its way out; the last call is the reading.
    """

    def __init__(self) -> None:
        self.count = 0
        self._cpu = self._wall = 0.0
        self._cpu_end = self._wall_end = 0.0

    def start(self) -> None:
        """Now the bodies are told to stop. Await `settle` before, or what was under way is counted too."""
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def ended(self) -> None:
        """One body has ended."""
        self.count += 1
        self._wall_end, self._cpu_end = time.perf_counter(), time.process_time()

    def reading(self) -> Sample:
        """CPU and wall seconds from `start` to the last `ended`, and to now."""
        wall, cpu = time.perf_counter(), time.process_time()
        return {
            "cpu": self._cpu_end - self._cpu,
            "wall": self._wall_end - self._wall,
            "closed_cpu": cpu - self._cpu,
            "closed_wall": wall - self._wall,
        }


async def median_stop(once: Callable[[], Awaitable[Sample]]) -> Sample:
    """What `once` reads, the median of `STOPS` times.

    What is imported is out of the collector's sight: `settle` would walk through all of it just before each reading,
    which leaves cold caches to whoever has imported more, and a run isn't stopped after such a walk.
    """
    gc.collect()
    gc.freeze()
    try:
        await once()
        return median_of([await once() for _ in range(STOPS)])
    finally:
        gc.unfreeze()


async def settle(checkpoint: Callable[[], Awaitable[None]]) -> None:
    """Let every task that can go on do so, until all of them wait; then collect garbage."""
    for _ in range(5):
        await checkpoint()
    gc.collect()


def median_of(samples: list[Sample]) -> Sample:
    """The median of each metric, over samples that have the same metrics."""
    return {key: statistics.median(one[key] for one in samples) for key in samples[0]}
