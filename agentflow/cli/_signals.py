"""Ctrl-C and SIGTERM: the first asks, the second ends the process."""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import anyio

_SHOW_CURSOR = b"\x1b[?25h"


class Interrupts:
    """The first signal asks the run to stop; a second quits at once, also where an agent blocks the event loop.

    Attributes:
        signal: The first one that came; 0 is none.
    """

    def __init__(self) -> None:
        self.signal = 0

    @property
    def exit_code(self) -> int:
        """What a shell expects after it: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.signal

    @property
    def name(self) -> str:
        """What people call it."""
        return "Ctrl-C" if self.signal == signal.SIGINT else signal.Signals(self.signal).name

    @contextmanager
    def watch(self, stop: Callable[[], None]) -> Iterator[None]:
        """Call `stop` in the event loop when the first signal comes. To be entered in there."""
        if threading.current_thread() is not threading.main_thread():
            yield  # signals are the main thread's
            return
        call_soon = _call_soon()

        def handle(number: int, frame: FrameType | None) -> None:
            if self.signal:
                _quit(128 + number)
            self.signal = number
            call_soon(stop)

        before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _call_soon() -> Callable[[Callable[[], None]], object]:
    """What calls a function in the running event loop, and may itself be called from a signal handler."""
    if anyio.get_cancelled_exc_class() is asyncio.CancelledError:
        return asyncio.get_running_loop().call_soon_threadsafe
    from trio.lowlevel import current_trio_token  # present, since it is running

    return current_trio_token().run_sync_soon


def _quit(code: int) -> None:
    """Without clean-up: it is what was asked for."""
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is not None and stream.isatty():
            os.write(stream.fileno(), _SHOW_CURSOR + b"\n")
            break
    os._exit(code)
