"""Rows of words on stdout: styled on a terminal, plain elsewhere."""

import shutil
import sys
from collections.abc import Iterable
from typing import BinaryIO

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.text import Text

from agentflow.cli._errors import Fault
from agentflow.cli._rows import Words

WIDE = 1_000
"""Columns where there is no terminal: as good as no limit."""


class Rows:
    """Rows for a terminal. Those that fit are drawn as they are: wrapping costs five times as much."""

    def __init__(self, rows: Iterable[Words] = ()) -> None:
        self.rows = list(rows)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        styles = {name: console.get_style(name) for row in self.rows for _, name in row if name}
        for row in self.rows:
            if sum(cell_len(words) for words, _ in row) <= width and not any("\t" in words for words, _ in row):
                yield from (Segment(words, styles.get(style)) for words, style in row)
                yield Segment.line()
            else:
                yield from console.render(Text.assemble(*row, overflow="fold"), options)


def make_console() -> Console:
    """stdout, as it is: nothing is highlighted, nothing is markup."""
    return Console(file=sys.stdout, highlight=False, markup=False, emoji=False)


def on_a_terminal() -> bool:
    """Whether stdout is a terminal that can be drawn on."""
    return sys.stdout.isatty() and not make_console().is_dumb_terminal


def standard_input() -> BinaryIO:
    """What is piped in.

    Raises:
        Fault: Whoever started us has closed it.
    """
    if sys.stdin is None:
        raise Fault("there is nothing to read: the standard input is closed")
    return sys.stdin.buffer


def width_of_output(otherwise: int = WIDE) -> int:
    """Columns of the terminal; `otherwise` where there is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else otherwise


def print_rows(rows: Iterable[Words]) -> None:
    """Each on a line of its own."""
    if on_a_terminal():
        make_console().print(Rows(rows), end="")
    else:
        sys.stdout.writelines("".join(text for text, _ in row).rstrip() + "\n" for row in rows)
