"""`agentflow sessions`: list them, and what one does with them: title, fork, rewind, delete, prune."""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import click
from rich.cells import cell_len

from agentflow.cli._errors import Fault
from agentflow.cli._options import debug_option, listing_option, seconds_of
from agentflow.cli._progress import progress
from agentflow.cli._rows import Words, fit
from agentflow.cli._store import app_options, db_option, find, opened, run_async, session_argument
from agentflow.cli._terminal import on_a_terminal, print_rows, width_of_output
from agentflow.events import AgentComplete
from agentflow.services.retention import delete_session, prune
from agentflow.services.sessions import SessionInfo, SessionKey, SessionService
from agentflow.timeline.text import STYLES
from agentflow.timeline.words import clean, one_line, plural

_ID = 12
"""Characters of an id that tell it from others, nearly always."""
_TITLE = 20
"""Columns that a title gets before the others get theirs."""
_SHRINK = ((2, 6), (1, 8), (3, 0), (2, 0), (4, 0), (1, 0))
"""Which columns get narrower in a narrow terminal, in order, and down to what; those that get to 0 are left out."""


@click.group("sessions", invoke_without_command=True)
@db_option
@app_options
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, metavar="N", help="At most so many.")
@click.option("--before", type=int, metavar="CHANGE", help="The next page: what the line below the last one says.")
@click.option("--find", "words", metavar="WORDS", help="Those with these words in id, title or first message.")
@listing_option
@debug_option
@click.pass_context
def command(
    ctx: click.Context,
    *,
    db: str | None,
    app: str | None,
    user: str | None,
    limit: int,
    before: int | None,
    words: str | None,
    as_json: bool,
    debug: bool,
) -> None:
    """List sessions, the one used last first; or change one.

    A session is named by its id, the beginning of it, or `last`.
    """
    if ctx.invoked_subcommand is not None:
        return

    async def work() -> tuple[list[_Entry], bool]:
        async with opened(db, read_only=True) as stores:
            page, more = await _page(stores.sessions, app, user, limit, before, words, quiet=as_json)
            asked = await _first_words(stores.sessions, page)
            return [await _entry(stores.sessions, *each) for each in zip(page, asked, strict=True)], more

    page, more = run_async(work, debug=debug)
    if as_json:
        for entry in page:
            click.echo(json.dumps(as_object(entry.info, entry.asked, entry.status), ensure_ascii=False))
        return
    if not page:
        raise Fault("there is no session" + (" like this" if words or app or user or before else " yet"))
    print_rows(_table(page, width_of_output()))
    if more:
        click.echo(f"More: --before {page[-1].info.changed}", err=True)


@dataclass(slots=True)
class _Entry:
    """A session in the list.

    Attributes:
        asked: What the user said first; empty where there is a title.
        status: How its last run ended; `unfinished` if it has no end, empty if there was none.
    """

    info: SessionInfo
    asked: str = ""
    status: str = ""


async def _page(
    sessions: SessionService,
    app: str | None,
    user: str | None,
    limit: int,
    before: int | None,
    words: str | None,
    *,
    quiet: bool,
) -> tuple[list[SessionInfo], bool]:
    """A page, and whether there are more."""
    if not words:
        found = list(await sessions.list(app, user, limit=limit + 1, before=before))
        return found[:limit], len(found) > limit
    found = []
    with progress("Looking", quiet=quiet) as advance:
        while len(found) <= limit and (page := await sessions.list(app, user, limit=500, before=before)):
            before = page[-1].changed
            asked = await _first_words(sessions, page)
            found += [info for info, text in zip(page, asked, strict=True) if _has(info, text, words.casefold())]
            advance(len(page))
    return found[:limit], len(found) > limit


def _has(info: SessionInfo, asked: str, words: str) -> bool:
    """Whether the list shows these words, which are case-folded, for a session."""
    return words in f"{info.id}\n{info.title}\n{one_line(asked)}".casefold()


async def _entry(sessions: SessionService, info: SessionInfo, asked: str) -> _Entry:
    session = await sessions.get(info.key, recent=1)
    last = session.events[-1] if session is not None and session.events else None
    status = "unfinished" if last is not None else ""
    if last is not None and isinstance(last.lifecycle, AgentComplete) and "." not in last.path:
        status = one_line(last.lifecycle.outcome)
    return _Entry(info, asked, status)


async def _first_words(sessions: SessionService, infos: Sequence[SessionInfo]) -> list[str]:
    """What the user said first in each of these sessions; nothing for one that has a title."""
    untitled = [info.key for info in infos if not info.title]
    first = dict(zip(untitled, await sessions.first_events(untitled), strict=True))
    return [event.text if (event := first.get(info.key)) is not None else "" for info in infos]


def as_object(info: SessionInfo, asked: str = "", status: str = "") -> dict[str, Any]:
    """A session as JSON."""
    fields = {
        "id": info.id,
        "app": info.app_name,
        "user": info.user_id,
        "title": info.title,
        "asked": asked,
        "status": status,
        "events": info.version,
        "createdAt": info.created_at,
        "updatedAt": info.updated_at,
        "changed": info.changed,
    }
    return {name: value for name, value in fields.items() if value != ""}


def _table(page: Sequence[_Entry], width: int) -> list[Words]:
    short = on_a_terminal()
    rows = [("session", "app", "user", "events", "last used", "", "")]
    styles = [["dim"] * 7]
    for entry in page:
        info = entry.info
        rows.append(
            (
                _short_id(info.id, page) if short else clean(info.id),
                clean(info.app_name),
                "" if info.user_id == "user" else clean(info.user_id),
                f"{info.version:,}",
                when(info.updated_at),
                entry.status,
                one_line(info.title or entry.asked),
            )
        )
        # a title that someone gave stands out from the first words of who didn't
        styles.append(["bold", "", "", "dim", "dim", STYLES.get(entry.status, ""), "" if info.title else "dim"])
    widths = [max(cell_len(row[column]) for row in rows) for column in range(6)]
    if short:
        widths[1], widths[2] = min(widths[1], 24), min(widths[2], 16)
    if not any(row[2] for row in rows[1:]):
        widths[2] = 0
    for column, least in _SHRINK:
        lacking = _TITLE - _left(widths, width)
        if lacking > 0:
            widths[column] = min(widths[column], max(least, widths[column] - lacking if least else 0))
    left = max(8, _left(widths, width))
    table: list[Words] = []
    for row, style in zip(rows, styles, strict=True):
        words: Words = []
        for column, size in enumerate(widths):
            if size:
                text = row[column].rjust(size) if column == 3 else fit(row[column], size)
                words.append((text + "  ", style[column]))
        words.append((fit(row[6], left).rstrip() if cell_len(row[6]) > left else row[6], style[6]))
        table.append(words)
    return table


def _left(widths: Sequence[int], width: int) -> int:
    """Columns that the others leave to the title."""
    return width - sum(size + 2 for size in widths if size)


def _short_id(text: str, page: Sequence[_Entry]) -> str:
    """Enough of a long id to tell it from the others on the page."""
    size = _ID
    while len(text) > size and sum(entry.info.id.startswith(text[:size]) for entry in page) > 1:
        size += 4
    return clean(text) if len(text) <= 24 else clean(text[:size])


def when(timestamp: float) -> str:
    """A moment for people: today's by its time, others by their date."""
    moment = datetime.fromtimestamp(timestamp).astimezone()
    now = datetime.now().astimezone()
    if moment.date() == now.date():
        return f"today {moment:%H:%M}"
    return f"{moment:%b %d %H:%M}" if moment.year == now.year else f"{moment:%Y-%m-%d}"


def _confirm(what: str, *, yes: bool) -> None:
    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise Fault(f"{what}: say --yes, for there is nobody to ask")
    if not click.confirm(what + "?", err=True):
        raise click.Abort


yes_option = click.option("--yes", "-y", is_flag=True, help="Don't ask.")


@command.command("title")
@session_argument(required=True)
@click.argument("title")
@db_option
@app_options
@listing_option
@debug_option
def title_command(
    *, db: str | None, session: str, title: str, app: str | None, user: str | None, as_json: bool, debug: bool
) -> None:
    """Give SESSION a title; an empty one takes it away."""

    async def work() -> SessionInfo:
        async with opened(db) as stores:
            info = await find(stores.sessions, session, app=app, user=user)
            await stores.sessions.rename(info.key, title)
            return await find(stores.sessions, info.id, app=info.app_name, user=info.user_id)

    _told(run_async(work, debug=debug), "is called {title!r}" if title else "has no title now", as_json=as_json)


@command.command("fork")
@session_argument(required=True)
@click.option("--at", type=click.IntRange(0), metavar="EVENT", help="Up to this event; by default all of it.")
@click.option("--id", "new_id", metavar="ID", help="Of the new session; by default a new one is made up.")
@click.option("--title", help="Of the new session; by default that of the old one.")
@db_option
@app_options
@listing_option
@debug_option
def fork_command(
    *,
    db: str | None,
    session: str,
    at: int | None,
    new_id: str | None,
    title: str | None,
    app: str | None,
    user: str | None,
    as_json: bool,
    debug: bool,
) -> None:
    """Copy SESSION, up to an event, to a new one that goes its own way.

    `agentflow show SESSION --events` gives the numbers of its events.
    """

    async def work() -> SessionInfo:
        async with opened(db) as stores:
            info = await find(stores.sessions, session, app=app, user=user)
            _check(info, at or 0)
            key = await stores.sessions.fork(info.key, at=at, session_id=new_id)
            if title is not None:
                await stores.sessions.rename(key, title)
            return await find(stores.sessions, key.session_id, app=key.app_name, user=key.user_id)

    _told(run_async(work, debug=debug), "has {events}", as_json=as_json)


@command.command("rewind", short_help="Take back all that happened after an event.")
@session_argument(required=True)
@click.option(
    "--to", type=click.IntRange(0), required=True, metavar="EVENT", help="The last event that stays; 0: none."
)
@yes_option
@db_option
@app_options
@listing_option
@debug_option
def rewind_command(
    *, db: str | None, session: str, to: int, yes: bool, app: str | None, user: str | None, as_json: bool, debug: bool
) -> None:
    """Take back all that happened in SESSION after an event, its state included. `fork` keeps the original."""

    async def look() -> SessionInfo:
        async with opened(db) as stores:
            return await find(stores.sessions, session, app=app, user=user)

    info = run_async(look, debug=debug)
    _check(info, to)
    _confirm(f"Remove the last {plural(info.version - to, 'event')} of {info.version:,} of {info.id!r}", yes=yes)

    async def work() -> SessionInfo:
        async with opened(db) as stores:
            await stores.sessions.rewind(info.key, to)
            return await find(stores.sessions, info.id, app=info.app_name, user=info.user_id)

    _told(run_async(work, debug=debug), "has {events}", as_json=as_json)


def _check(info: SessionInfo, event: int) -> None:
    if event > info.version:
        raise Fault(f"session {info.id!r} has events 0 to {info.version:,}, and no {event:,}")


@command.command("delete")
@session_argument(required=True, many=True)
@yes_option
@db_option
@app_options
@listing_option
@debug_option
def delete_command(
    *,
    db: str | None,
    session: tuple[str, ...],
    yes: bool,
    app: str | None,
    user: str | None,
    as_json: bool,
    debug: bool,
) -> None:
    """Remove sessions for good, their files with them."""

    async def look() -> list[SessionInfo]:
        async with opened(db) as stores:
            found = [await find(stores.sessions, text, app=app, user=user) for text in session]
        return list({info.key: info for info in found}.values())

    infos = run_async(look, debug=debug)
    _confirm(f"Delete {', '.join(repr(info.title or info.id) for info in infos)} for good", yes=yes)

    async def work() -> None:
        async with opened(db) as stores:
            for info in infos:
                await delete_session(
                    info.key, sessions=stores.sessions, artifacts=stores.artifacts, memory=stores.memory
                )

    run_async(work, debug=debug)
    for info in infos:
        _told(info, "is gone", as_json=as_json)


@command.command("prune")
@click.option("--older-than", metavar="AGE", help="Those that nobody has used for so long: 30d, 12h, 8w.")
@click.option("--keep", type=click.IntRange(0), metavar="N", help="But so many of each user's in each app stay.")
@click.option("--dry-run", is_flag=True, help="Only say which.")
@yes_option
@db_option
@app_options
@listing_option
@debug_option
def prune_command(
    *,
    db: str | None,
    older_than: str | None,
    keep: int | None,
    dry_run: bool,
    yes: bool,
    app: str | None,
    user: str | None,
    as_json: bool,
    debug: bool,
) -> None:
    """Remove sessions that are old, or too many, with their files.

    With both options, only those go of which both are true.
    """
    if older_than is None and keep is None:
        raise Fault("say what goes: --older-than 30d, --keep 100, or both")
    before = time.time() - seconds_of(older_than, "--older-than") if older_than is not None else None

    async def work(*, dry: bool) -> list[SessionKey]:
        async with opened(db, read_only=dry_run) as stores:
            return await prune(
                stores.sessions,
                artifacts=stores.artifacts,
                memory=stores.memory,
                app_name=app,
                user_id=user,
                before=before,
                keep=keep,
                dry_run=dry,
            )

    gone = run_async(lambda: work(dry=True), debug=debug)
    if gone and not dry_run:
        _confirm(f"Delete {plural(len(gone), 'session')} for good", yes=yes)
        gone = run_async(lambda: work(dry=False), debug=debug)
    for key in gone:
        fields = {"id": key.session_id, "app": key.app_name, "user": key.user_id}
        click.echo(json.dumps(fields, ensure_ascii=False) if as_json else clean(key.session_id))
    click.echo(f"{plural(len(gone), 'session')} {'would go' if dry_run else 'gone'}", err=True)


def _told(info: SessionInfo, what: str, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(as_object(info), ensure_ascii=False))
    else:
        words = what.format(title=clean(info.title), events=plural(info.version, "event"))
        click.echo(f"{clean(info.id)} {words}")
