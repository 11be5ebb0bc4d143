"""A clock that is set and ids that count: runs that come out the same each time."""

from collections.abc import Callable
from itertools import count


class FakeClock:
    """A time that stands still until it is set: `Runner(agent, time=FakeClock())`.

    It gives events their timestamps; timeouts go by the event loop's own clock.

    Args:
        now: Seconds since the epoch.
        tick: Seconds that pass with each reading, so that no two are the same.

    Attributes:
        now: What the next reading gives. Set it to any value, also an earlier one.
    """

    def __init__(self, now: float = 1_700_000_000.0, *, tick: float = 0.0) -> None:
        self.now = now
        self.tick = tick

    def __call__(self) -> float:
        """The time, in seconds since the epoch."""
        now = self.now
        self.now = now + self.tick
        return now

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass."""
        self.now += seconds


def counting_ids(prefix: str = "run") -> Callable[[], str]:
    """What makes `run-1`, `run-2`, ...: for `Runner(agent, new_id=counting_ids())`."""
    numbers = count(1)
    return lambda: f"{prefix}-{next(numbers)}"
