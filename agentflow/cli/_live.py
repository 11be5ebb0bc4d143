"""The live view: what has been said scrolls by, and below it each branch has a line that moves."""

import contextlib
import io
import sys
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self, TextIO

import anyio
from rich.console import Console
from rich.live import Live

from agentflow.cli._board import Board
from agentflow.cli._rows import Words, fit, live_rows, summary_rows, text_rows
from agentflow.cli._terminal import Rows, make_console
from agentflow.events import Event
from agentflow.timeline.model import Timeline
from agentflow.timeline.words import clean, plural

_RATE = 10
"""Times a second that it is drawn, however many events there are."""
_SUMMARY = 40
"""Lines of branches in a summary, at most: the failed ones and the slowest."""


class _Aside(io.TextIOBase):
    """Takes what the program prints while the view is on the screen."""

    def __init__(self, write: Callable[[str], None], beside: TextIO) -> None:
        self._write = write
        self._beside = beside

    @property
    def encoding(self) -> str:  # type: ignore[override]  # read-only here
        return self._beside.encoding

    def fileno(self) -> int:
        return self._beside.fileno()  # for processes that the program starts

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        self._write(text)
        return len(text)


class LiveView:
    """Draws a run on a terminal, at a bounded rate: events in between cost next to nothing.

    Args:
        console: The terminal.
        now: The clock of the events.
    """

    def __init__(self, console: Console | None = None, now: Callable[[], float] = time.time) -> None:
        self.console = console or make_console()
        self._now = now
        self._board = Board()
        self._timing = Timeline()
        self._texts: list[Event | str] = []
        self._printed = ""
        self._begun = False
        self._stopping = False
        self._frame = Rows()
        self._live = Live(
            self,
            console=self.console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )
        self._restore = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._live.start()
        self._restore.enter_context(contextlib.redirect_stdout(_Aside(self._print, sys.stdout)))
        self._restore.enter_context(contextlib.redirect_stderr(_Aside(self._print, sys.stderr)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore.close()
        if self._printed:
            self._texts.append(self._printed)
            self._printed = ""
        self._frame = Rows()
        self._show()
        self._live.stop()

    def add(self, event: Event) -> None:
        self._board.add(event)
        self._timing.add(event)
        if not event.partial and event.lifecycle is None and event.parts:
            self._texts.append(event)

    async def keep_drawing(self) -> None:
        while True:
            self.draw()
            await anyio.sleep(1 / _RATE)

    def draw(self) -> None:
        """Draw the view as it is now; first, above it, what has been said since the last time."""
        width, height = self.console.size
        width = max(1, width - 1)
        half = [[(fit(clean(self._printed), width).rstrip(), "")]] if self._printed else []
        rows = half + live_rows(
            self._board,
            self._now(),
            width=width,
            height=max(2, height - 1 - len(half)),
            stopping=self._stopping,
            plain=not self.console.encoding.startswith("utf"),
        )
        self._frame = Rows(rows)
        self._show()

    def __rich__(self) -> Rows:
        """What `Live` draws below whatever is printed."""
        return self._frame

    def note(self, text: str) -> None:
        self._texts.append(text)

    def stopping(self) -> None:
        self._stopping = True

    def finish(self, *, status: str, wall: float, computing: float) -> None:
        rows = summary_rows(self._board, self._timing, status=status, wall=wall, computing=computing, most=_SUMMARY)
        if self._begun:
            self.console.print()
        self.console.print(Rows(rows))

    @property
    def kept(self) -> str:
        return plural(self._board.texts, "text")

    def _print(self, text: str) -> None:
        """Whole lines scroll by; half of one is drawn until it is whole, so that a prompt can be seen."""
        whole, newline, self._printed = (self._printed + text).rpartition("\n")
        if newline:
            self._texts.append(whole)

    def _show(self) -> None:
        said, self._texts = self._texts, []
        rows = [row for item in said for row in (text_rows(item) if isinstance(item, Event) else _plain(item))]
        if rows:
            self._begun = True
            self.console.print(Rows(rows))  # draws the frame below it, too
        else:
            self._live.refresh()


def _plain(text: str) -> Iterable[Words]:
    return ([(line, "")] for line in clean(text).split("\n"))
