"""What a run looks like where no terminal is: plain lines, or one event a line as JSON."""

import sys
from collections.abc import Iterable
from types import TracebackType
from typing import Protocol, Self, TextIO

import anyio
import click

from agentflow.cli._board import Board
from agentflow.cli._rows import Words, summary_rows, text_rows
from agentflow.events import Event
from agentflow.timeline.model import Timeline
from agentflow.timeline.words import clean, plural

STOPPING = "Cancelling the run; Ctrl-C again quits at once."


class ReaderGone(Exception):
    """Who read our output has closed the pipe, or it takes no more: `__cause__` is what the system says."""


class View(Protocol):
    """Shows one run. Entered before its first event; `add` must be cheap."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def add(self, event: Event) -> None:
        """The next event.

        Raises:
            ReaderGone: Nobody reads any more, or nothing more can be written.
        """

    async def keep_drawing(self) -> None:
        """Draw what changes with time, until cancelled."""

    def note(self, text: str) -> None:
        """Say something about the run, to people."""

    def stopping(self) -> None:
        """The run has been asked to stop."""

    def finish(self, *, status: str, wall: float, computing: float) -> None:
        """The run has ended: say how. See `summary_rows`."""

    @property
    def kept(self) -> str:
        """What has been stored and shown, in words."""


class _Quiet:
    """What both have in common: nothing to draw, and people are spoken to on stderr."""

    def __init__(self, out: TextIO | None = None) -> None:
        self.out = out or sys.stdout

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    async def keep_drawing(self) -> None:
        await anyio.sleep_forever()

    def note(self, text: str) -> None:
        click.echo(clean(text), err=True)

    def stopping(self) -> None:
        self.note(STOPPING)


class JsonView(_Quiet):
    """One event a line, in UTF-8, and nothing else."""

    def __init__(self, out: TextIO | None = None) -> None:
        super().__init__(out)
        self._stored = 0

    def add(self, event: Event) -> None:
        try:
            self.out.buffer.write(event.to_json().encode() + b"\n")
            self.out.buffer.flush()
        except OSError as error:
            raise ReaderGone from error
        self._stored += not event.partial

    def finish(self, *, status: str, wall: float, computing: float) -> None:
        pass

    @property
    def kept(self) -> str:
        return plural(self._stored, "event")


class PlainView(_Quiet):
    """Each completed text as it comes, then the summary; no control codes, lines of any length."""

    def __init__(self, out: TextIO | None = None) -> None:
        super().__init__(out)
        self._board = Board()
        self._timing = Timeline()
        self._begun = False

    def add(self, event: Event) -> None:
        self._board.add(event)
        self._timing.add(event)
        if not event.partial and event.lifecycle is None:
            self._write(text_rows(event))

    def finish(self, *, status: str, wall: float, computing: float) -> None:
        rows = list(summary_rows(self._board, self._timing, status=status, wall=wall, computing=computing))
        self._write([[("", "")], *rows] if self._begun else rows)

    @property
    def kept(self) -> str:
        return plural(self._board.texts, "text")

    def _write(self, rows: Iterable[Words]) -> None:
        lines = ["".join(text for text, _ in row).rstrip() + "\n" for row in rows]
        if lines:
            self._begun = True
            try:
                self.out.writelines(lines)
                self.out.flush()
            except OSError as error:
                raise ReaderGone from error
