"""`agentflow export` and `agentflow import`: whole sessions to a file, and back."""

import json
import os
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Literal

import anyio
import click

from agentflow.archive import export_session, import_sessions
from agentflow.cli._errors import Failure, Fault
from agentflow.cli._options import debug_option, listing_option
from agentflow.cli._progress import Advance, progress
from agentflow.cli._store import app_options, db_option, each, existing, find, opened, run_async, session_argument
from agentflow.cli._terminal import standard_input
from agentflow.cli.sessions import as_object
from agentflow.errors import SessionExists
from agentflow.services.sessions import SessionInfo
from agentflow.timeline.words import plural

_CHUNK = 1 << 18
"""Bytes that are read at once."""


@click.command("export")
@session_argument(many=True)
@click.option("--all", "everything", is_flag=True, help="All sessions, or those of --app and --user.")
@click.option("--output", "-o", default="-", type=click.Path(), metavar="FILE", help="Write it there, not to stdout.")
@click.option("--no-files", is_flag=True, help="Leave out the sessions' files.")
@listing_option
@db_option
@app_options
@debug_option
def export_command(
    *,
    session: tuple[str, ...],
    everything: bool,
    output: str,
    no_files: bool,
    as_json: bool,
    db: str | None,
    app: str | None,
    user: str | None,
    debug: bool,
) -> None:
    """Write whole SESSIONS, their state and files included, as lines of JSON. `agentflow import` puts them back.

    With --json, stdout tells of each session that was exported; this needs --output.
    """
    if bool(session) == everything:
        raise Fault("name the sessions, or say --all" if not everything else "name sessions, or say --all; not both")
    if as_json and output == "-":
        raise Fault("--json tells of what was exported: say --output FILE too")
    if os.path.exists(output) and os.path.samefile(output, existing(db)):
        raise Fault(f"{output!r} is where the sessions are: choose another file")

    async def work() -> list[SessionInfo]:
        async with opened(db, read_only=True) as stores:
            if everything:  # the one used last is last, and will be where it is imported
                infos = [info async for info in each(stores.sessions, app, user)][::-1]
            else:
                found = [await find(stores.sessions, text, app=app, user=user) for text in session]
                infos = list({info.key: info for info in found}.values())
            total = sum(info.version + 2 for info in infos)
            with _writing(output) as write, progress("Exporting", total, quiet=as_json) as advance:
                for info in infos:
                    artifacts = None if no_files else stores.artifacts
                    async for line in export_session(info.key, sessions=stores.sessions, artifacts=artifacts):
                        write(line)
                        advance(1)
        return infos

    infos = run_async(work, debug=debug)
    if as_json:
        for info in infos:
            click.echo(json.dumps(as_object(info), ensure_ascii=False))
    elif output != "-":
        click.echo(f"{output}: {plural(len(infos), 'session')}", err=True)


@contextmanager
def _writing(output: str) -> Iterator[Callable[[str], object]]:
    """Writes lines to stdout, a pipe or a device, or to a file that is there once all of them are."""
    if output == "-":
        stream = sys.stdout.buffer
        yield lambda line: stream.write(line.encode() + b"\n")
        stream.flush()
        return
    path = Path(os.path.realpath(output))  # a link stays one
    aside = ""
    try:
        if os.path.exists(output) and not os.path.isfile(output):
            handle = os.open(output, os.O_WRONLY)
        else:
            handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise Fault(f"{output!r} can't be written: {error.strerror}") from error
    try:
        with os.fdopen(handle, "wb") as file:
            yield lambda line: file.write(line.encode() + b"\n")
        if aside:
            os.replace(aside, path)
    except BaseException:
        if aside:
            with suppress(OSError):
                os.unlink(aside)
        raise


@click.command("import")
@click.argument("files", nargs=-1, required=True, type=click.Path(), metavar="FILE...")
@click.option(
    "--if-exists", type=click.Choice(["error", "skip", "copy"]), default="error", show_default=True,
    help="What to do about a session that is there already; copy gives it a new id.",
)  # fmt: skip
@listing_option
@db_option
@debug_option
def import_command(
    *, files: tuple[str, ...], if_exists: Literal["error", "skip", "copy"], as_json: bool, db: str | None, debug: bool
) -> None:
    """Put the sessions of exported FILES back, exactly as they were; - reads what is piped in.

    Of each session all is stored or nothing.
    """
    sizes: dict[str, int | None] = {}
    for name in files:
        if name == "-":
            standard_input()
        elif not Path(name).exists() or Path(name).is_dir():
            raise Fault(f"there is no file {name!r}")
        sizes[name] = Path(name).stat().st_size if Path(name).is_file() else None
    count = 0
    at = ""

    async def work() -> None:
        nonlocal at, count
        async with opened(db, create=True) as stores:
            for name, size in sizes.items():
                at = f"{name}: " if name != "-" else ""
                with (
                    FileIO(standard_input().fileno(), closefd=False) if name == "-" else FileIO(name) as file,
                    progress(f"Importing {name}", size, unit="bytes", quiet=as_json) as advance,
                ):
                    async with aclosing(_lines(file, advance)) as lines:
                        async for info in import_sessions(
                            lines, sessions=stores.sessions, artifacts=stores.artifacts, if_exists=if_exists
                        ):
                            count += 1
                            if as_json:
                                click.echo(json.dumps(as_object(info), ensure_ascii=False))

    try:
        run_async(work, debug=debug)
    except Failure as failure:
        hint = ": try --if-exists skip, or copy" if isinstance(failure.__cause__, SessionExists) else ""
        raise Failure(f"{at}{failure.message}{hint}; {plural(count, 'session')} imported") from failure
    except KeyboardInterrupt:
        click.echo(f"{plural(count, 'session')} imported; --if-exists skip goes on from there", err=True)
        raise
    if not as_json:
        click.echo(f"{plural(count, 'session')} imported", err=True)


async def _lines(file: FileIO, advance: Advance) -> AsyncGenerator[bytes]:
    """The lines of a file. Ctrl-C is heard also while a pipe or a terminal has none."""
    parts: list[bytes] = []
    while True:
        if sys.platform != "win32":
            with suppress(PermissionError):  # of a file, which never keeps one waiting
                await anyio.wait_readable(file)
        chunk = file.read(_CHUNK)
        if not chunk:
            break
        advance(len(chunk))
        first, *more = chunk.split(b"\n")
        parts.append(first)
        for line in more:
            yield b"".join(parts)
            parts = [line]
    yield b"".join(parts)
