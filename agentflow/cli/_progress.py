"""How far long work has got: a bar on stderr, if that is a terminal; otherwise nothing."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Advance = Callable[[int], None]
_LEAST = 256
"""Steps that are told of together: telling of each would cost more than many a step."""


@contextmanager
def progress(
    what: str, total: int | None = None, *, unit: Literal["steps", "bytes"] = "steps", quiet: bool = False
) -> Iterator[Advance]:
    """A bar while the block runs; it is called with how much has been done since the last call.

    Args:
        what: For instance `"Importing"`.
        total: `None` where nobody knows.
        unit: What is counted.
        quiet: No bar, whatever stderr is.
    """
    console = Console(stderr=True)
    if quiet or not sys.stderr.isatty() or console.is_dumb_terminal:
        yield lambda count: None
        return
    count: ProgressColumn = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
    columns: list[ProgressColumn] = [SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), count]
    times: list[ProgressColumn] = [TimeElapsedColumn()] if total is None else [TimeRemainingColumn(compact=True)]
    with Progress(*columns, *times, console=console, transient=True) as bar:
        task = bar.add_task(what, total=total)
        done = 0
        step = 1 << 16 if unit == "bytes" else min(_LEAST, max(1, (total or _LEAST) // 200))

        def advance(by: int) -> None:
            nonlocal done
            done += by
            if done >= step:
                bar.advance(task, done)
                done = 0

        try:
            yield advance
        finally:
            bar.advance(task, done)
