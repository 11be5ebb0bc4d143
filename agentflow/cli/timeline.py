"""`agentflow timeline`: when each agent of a run was at work, as text, SVG, a page, a trace or JSON Lines."""

import sys
import tempfile
import webbrowser
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import click

from agentflow.cli._errors import Fault
from agentflow.cli._options import debug_option
from agentflow.cli._rows import Words, timing_rows
from agentflow.cli._runs import Runs, read_events, run_option
from agentflow.cli._store import app_options, db_option, find, opened, run_async, session_argument
from agentflow.cli._terminal import print_rows, width_of_output
from agentflow.timeline.chrome import to_chrome
from agentflow.timeline.model import Timeline
from agentflow.timeline.page import to_html
from agentflow.timeline.records import to_jsonl
from agentflow.timeline.svg import to_svg
from agentflow.timeline.text import gantt_rows, in_ascii

FORMATS = {"text": ".txt", "svg": ".svg", "html": ".html", "chrome": ".json", "jsonl": ".jsonl"}
_SUFFIXES = {suffix: name for name, suffix in FORMATS.items()} | {".htm": "html", ".ndjson": "jsonl"}
_WIDTH = 110
"""Columns of a text that goes to a file."""


@click.command("timeline")
@session_argument()
@run_option
@click.option(
    "--format", "form", type=click.Choice(list(FORMATS)),
    help="By default what the file's name says, else text. chrome opens in Perfetto; jsonl is a line for each turn.",
)  # fmt: skip
@click.option("--output", "-o", type=click.Path(dir_okay=False), metavar="FILE", help="Write it there.")
@click.option("--open", "show", is_flag=True, help="Open it in the browser, as a page.")
@click.option("--no-words", is_flag=True, help="Leave out what agents said: a picture to show around.")
@click.option("--width", type=click.IntRange(40, 1000), metavar="COLUMNS", help="Of text; by default the terminal's.")
@click.option("--ascii", "plain", is_flag=True, help="Draw text with characters that every terminal has.")
@click.option("--json", "as_json", is_flag=True, help="The same as --format jsonl.")
@db_option
@app_options
@debug_option
def command(
    *,
    session: str | None,
    which: str,
    form: str | None,
    output: str | None,
    show: bool,
    no_words: bool,
    width: int | None,
    plain: bool,
    as_json: bool,
    db: str | None,
    app: str | None,
    user: str | None,
    debug: bool,
) -> None:
    """Draw a run of SESSION: when each agent was queued, at work, waiting for others; retries, and how it ended.

    SESSION is an id, the beginning of one, or last, which is also what it means when it is left out.
    """
    if as_json:
        form = "jsonl"
    if show:
        form = form or "html"
    elif form is None:
        suffix = Path(output or "").suffix.lower()
        if suffix and suffix not in _SUFFIXES:
            raise Fault(f"what a {suffix} file holds is not known: say --format, or one of {', '.join(_SUFFIXES)}")
        form = _SUFFIXES.get(suffix, "text")

    async def work() -> list[Timeline]:
        async with opened(db, read_only=True) as stores:
            info = await find(stores.sessions, session, app=app, user=user)
            runs = Runs(words=0 if no_words else 2_000 if form == "html" else 300)
            await read_events(stores.sessions, info, runs.add, quiet=as_json)
        return runs.chosen(which)

    timelines = run_async(work, debug=debug)
    if form == "text" and output is None and not show:
        print_rows(_rows(timelines, width or width_of_output(_WIDTH), plain or not _can_draw()))
        return
    lines = _lines(timelines, form, width or _WIDTH, plain)
    if show and output is None:
        handle, output = tempfile.mkstemp(prefix="agentflow-", suffix=FORMATS[form])
        with open(handle, "w", encoding="utf-8") as file:
            file.writelines(lines)
    elif output is not None and output != "-":
        try:
            with Path(output).open("w", encoding="utf-8", newline="\n") as file:
                file.writelines(lines)
        except OSError as error:
            raise Fault(f"{output!r} can't be written: {error.strerror}") from error
    else:
        sys.stdout.writelines(lines)
        return
    if show:
        webbrowser.open(Path(output).resolve().as_uri())
    click.echo(output, err=not show)


def _lines(timelines: Sequence[Timeline], form: str, width: int, plain: bool) -> Iterator[str]:
    """The whole file."""
    if form == "html":
        yield to_html(timelines)
    elif form == "svg":
        if len(timelines) > 1:
            raise Fault("an SVG holds one run: choose it with --run")
        yield to_svg(timelines[0])
    elif form == "text":
        yield from ("".join(text for text, _ in row).rstrip() + "\n" for row in _rows(timelines, width, plain))
    else:
        yield from (line + "\n" for line in (to_chrome(timelines) if form == "chrome" else to_jsonl(timelines)))


def _rows(timelines: Iterable[Timeline], width: int, plain: bool) -> Iterator[Words]:
    for number, timeline in enumerate(timelines):
        if number:
            yield [("", "")]
        yield from gantt_rows(timeline, width=width, ascii=plain)
        yield from map(in_ascii, timing_rows(timeline)) if plain else timing_rows(timeline)


def _can_draw() -> bool:
    """Whether stdout's encoding has the characters that bars are drawn with."""
    try:
        "━─╍╌·…‖".encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True
