"""What a run looks like where no terminal is: plain lines, or one event a line as JSON."""

import contextlib
import os
import sys
from collections.abc import Iterable
from types import TracebackType
from typing import Protocol, Self, TextIO

import anyio
import click

from agentflow.cli._board import Board
from agentflow.cli._rows import Words, clean, plural, summary_rows, text_rows
from agentflow.cli._summary import Timing
from agentflow.events import Event


class ReaderGone(Exception):
    """Who read our output has closed the pipe."""


class View(Protocol):
    """Shows one run. Entered before its first event; `add` must be cheap."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def add(self, event: Event) -> None:
        """The next event.

        Raises:
            ReaderGone: Nobody reads any more.
        """

    async def keep_drawing(self) -> None:
        """Draw what changes with time, until cancelled."""

    def note(self, text: str) -> None:
        """Say something about the run, to people."""

    def stopping(self) -> None:
        """The run has been asked to stop."""

    def finish(self, *, status: str, wall: float, processor: float) -> None:
        """The run has ended: say how."""

    @property
    def kept(self) -> str:
        """What has been stored and shown, in words."""


class JsonView:
    """One event a line, in UTF-8, and nothing else: what the program itself prints goes to stderr."""

    def __init__(self) -> None:
        self._out = _bytes_of(sys.stdout)
        self._aside = contextlib.redirect_stdout(sys.stderr)
        self._count = 0

    def __enter__(self) -> Self:
        self._aside.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._aside.__exit__(kind, error, trace)

    def add(self, event: Event) -> None:
        try:
            self._out.write(event.to_json().encode() + b"\n")
            self._out.flush()
        except BrokenPipeError as error:
            raise ReaderGone from error
        self._count += not event.partial

    async def keep_drawing(self) -> None:
        await anyio.sleep_forever()

    def note(self, text: str) -> None:
        click.echo(clean(text), err=True)

    def stopping(self) -> None:
        self.note(STOPPING)

    def finish(self, *, status: str, wall: float, processor: float) -> None:
        pass

    @property
    def kept(self) -> str:
        return plural(self._count, "event")
