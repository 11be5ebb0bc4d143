"""Event loops for the fault tests: time that jumps when nothing else can happen, and a count of every step."""

import asyncio
import selectors
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import anyio
import trio
import trio.testing

Tick = Callable[[], None]


class _Selector(selectors.DefaultSelector):  # type: ignore[misc,valid-type]
    """Waits for nothing: where it would, the clock is put forward."""

    skipped = 0.0

    def select(self, timeout: float | None = None):
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("deadlock: no task can go on, and no deadline is set")
            self.skipped += max(timeout, 0.0)
        return ready


class JumpyLoop(asyncio.SelectorEventLoop):
    """An asyncio loop with trio's `MockClock(autojump_threshold=0)` built in, that tells of each callback it runs."""

    def __init__(self) -> None:
        self.tick: Tick | None = None
        self._jumps = _Selector()
        super().__init__(self._jumps)

    def time(self) -> float:
        return 1000.0 + self._jumps.skipped

    def call_soon(self, callback, *args, context=None):
        if self.tick is not None:
            callback = partial(self._ticked, callback)
        return super().call_soon(callback, *args, context=context)

    def _ticked(self, callback, *args) -> None:
        if self.tick is not None:
            self.tick()
        callback(*args)


class _Steps(trio.abc.Instrument):
    def __init__(self, tick: Tick) -> None:
        self.tick = tick

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.tick()


@contextmanager
def each_step(tick: Tick) -> Iterator[None]:
    """Call `tick` right before every step of every task, on either backend."""
    if anyio.get_cancelled_exc_class() is asyncio.CancelledError:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, JumpyLoop)
        loop.tick = tick
        try:
            yield
        finally:
            loop.tick = None
    else:
        steps = _Steps(tick)
        trio.lowlevel.add_instrument(steps)
        try:
            yield
        finally:
            trio.lowlevel.remove_instrument(steps)


def jumpy_backend(name: str) -> tuple[str, dict[str, object]]:
    """What anyio's plugin runs a test on: `asyncio` or `trio`, with a clock that jumps."""
    if name == "asyncio":
        return name, {"loop_factory": JumpyLoop}
    return name, {"clock": trio.testing.MockClock(autojump_threshold=0)}
