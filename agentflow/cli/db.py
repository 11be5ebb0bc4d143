"""`agentflow db`: look after the file that sessions are kept in."""

import json
from collections import Counter

import click

from agentflow.cli._options import debug_option, listing_option
from agentflow.cli._progress import progress
from agentflow.cli._store import db_option, each, existing, open_file, run_async
from agentflow.timeline.words import clean, plural


@click.group("db")
@db_option
def command(*, db: str | None) -> None:
    """Look after the file that sessions are kept in."""


def size(count: float) -> str:
    """Bytes for people: `512 bytes`, `3.4 MB`."""
    if count < 1000:
        return plural(int(count), "byte")
    for unit in ("kB", "MB", "GB", "TB"):
        count /= 1000
        if count < 999.5 or unit == "TB":
            break
    return f"{count:.1f} {unit}" if count < 99.5 else f"{count:,.0f} {unit}"


@command.command("info")
@db_option
@listing_option
@debug_option
def info_command(*, db: str | None, as_json: bool, debug: bool) -> None:
    """Say where the file is and what is in it."""
    path = existing(db)

    async def work() -> tuple[Counter[str], int]:
        sessions: Counter[str] = Counter()
        events = 0
        async with open_file(path, read_only=True) as store:
            with progress("Counting", quiet=as_json) as advance:
                async for info in each(store.sessions, None, None):
                    sessions[info.app_name] += 1
                    events += info.version
                    advance(1)
        return sessions, events

    sessions, events = run_async(work, debug=debug)
    taken = sum(file.stat().st_size for file in (path, path.with_name(f"{path.name}-wal")) if file.exists())
    if as_json:
        click.echo(json.dumps({"path": str(path), "bytes": taken, "events": events, "sessions": dict(sessions)}))
        return
    click.echo(str(path))
    click.echo(f"{size(taken)}, {plural(sessions.total(), 'session')}, {plural(events, 'event')}")
    for app, count in sessions.most_common():
        click.echo(f"  {clean(app)}: {count:,}")


@command.command("check", short_help="Read all of the file and say what is wrong with it.")
@db_option
@listing_option
@debug_option
@click.pass_context
def check_command(ctx: click.Context, *, db: str | None, as_json: bool, debug: bool) -> None:
    """Read all of the file and say what is wrong with it; exit code 1, if something is."""
    path = existing(db)

    async def work() -> list[str]:
        async with open_file(path, read_only=True) as store:
            with progress(f"Checking {path.name}", quiet=as_json):
                problems: list[str] = await store.check()
        return problems

    problems = run_async(work, debug=debug)
    if as_json:
        click.echo(json.dumps({"path": str(path), "problems": problems}, ensure_ascii=False))
    else:
        click.echo("\n".join(map(clean, problems)) if problems else f"{path}: all is well")
    ctx.exit(1 if problems else 0)


@command.command("vacuum")
@db_option
@listing_option
@debug_option
def vacuum_command(*, db: str | None, as_json: bool, debug: bool) -> None:
    """Give unused space back. Not while agents run: they would have to wait."""
    path = existing(db)

    async def work() -> int:
        async with open_file(path) as store:
            with progress(f"Vacuuming {path.name}", quiet=as_json):
                saved: int = await store.vacuum()
        return saved

    saved = max(0, run_async(work, debug=debug))
    click.echo(json.dumps({"path": str(path), "saved": saved}) if as_json else f"{path}: {size(saved)} less")


@command.command("upgrade")
@db_option
@listing_option
@debug_option
def upgrade_command(*, db: str | None, as_json: bool, debug: bool) -> None:
    """Bring the file's tables up to date, as all commands do that change something."""
    path = existing(db)

    async def work() -> tuple[str | None, str]:
        async with open_file(path) as store:
            with progress(f"Upgrading {path.name}", quiet=as_json):
                revisions: tuple[str | None, str] = await store.upgrade()
        return revisions

    before, now = run_async(work, debug=debug)
    if as_json:
        click.echo(json.dumps({"path": str(path), "before": before, "now": now}))
    else:
        click.echo(f"{path}: " + (f"up to date ({now})" if before == now else f"upgraded from {before} to {now}"))
