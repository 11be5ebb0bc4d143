"""Where the command line keeps sessions, and how it finds one by what a person types."""

import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import anyio
import click
from click.shell_completion import CompletionItem

from agentflow.cli._errors import Failure, Fault, describe, traced
from agentflow.errors import AgentflowError, ConfigError, ServiceError
from agentflow.services.artifacts import ArtifactService
from agentflow.services.memory import MemoryService
from agentflow.services.sessions import SessionInfo, SessionService
from agentflow.services.sqlite import SQLiteStore
from agentflow.timeline.words import clean

F = TypeVar("F", bound=Callable[..., object])
R = TypeVar("R")

VARIABLE = "AGENTFLOW_DB"
_PAGE = 500
_COMPARED = 1_000
"""Sessions, those used last, among whose ids one is looked for that is nearly what was typed."""
_NAMED = 5
"""Sessions that are named where one had to be chosen."""


@dataclass(slots=True)
class Stores:
    """The three stores of one file."""

    sessions: SessionService
    artifacts: ArtifactService
    memory: MemoryService


def default_path() -> Path:
    """The file for whoever says nothing: `AGENTFLOW_DB`, else in the user's data directory, as platforms have it."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named)
    home = Path.home()
    if sys.platform == "win32":
        place = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        place = home / "Library" / "Application Support"
    else:
        place = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    return place / "agentflow" / "agentflow.db"


def _or_above(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """What was said here or, in a group, before."""
    if value is None and ctx.parent is not None:
        above = ctx.parent.params.get(param.name or "")
        return above if isinstance(above, str) else None
    return value


def db_option(function: F) -> F:
    """`--db`; in a command of a group, also before it."""
    return click.option(
        "--db", type=click.Path(), metavar="FILE", callback=_or_above,
        help=f"Where sessions are kept; by default ${VARIABLE}, else a file in your data directory.",
    )(function)  # fmt: skip


def in_memory_option(function: F) -> F:
    """`--in-memory`."""
    return click.option("--in-memory", is_flag=True, help="Keep nothing: the session ends with the command.")(function)


def app_options(function: F) -> F:
    """`--app` and `--user`."""
    function = click.option("--user", callback=_or_above, help="Sessions of this user only.")(function)
    return click.option("--app", callback=_or_above, help="Sessions of this app only: the root agent's name.")(function)


def session_argument(*, required: bool = False, many: bool = False) -> Callable[[F], F]:
    """`SESSION`: an id, the beginning of one, or `last`."""
    return click.argument(
        "session", required=required, nargs=-1 if many else 1, shell_complete=complete_session,
        metavar="SESSION..." if many else "SESSION" if required else "[SESSION]",
    )  # fmt: skip


def open_file(path: Path, *, read_only: bool = False) -> SQLiteStore:
    """The `SQLiteStore` of a file. Its libraries are imported now, not by who asks for help.

    Raises:
        Fault: They aren't installed.
    """
    try:
        return SQLiteStore(path, read_only=read_only)
    except ConfigError as error:
        raise Fault(describe(error)) from error


def existing(db: str | None) -> Path:
    """The file that is meant.

    Raises:
        Fault: It isn't there.
    """
    path = Path(db) if db is not None else default_path()
    if not path.exists():
        hint = "" if db is not None else ": `agentflow run` makes it"
        raise Fault(f"there is no file {str(path)!r}{hint}")
    if path.is_dir():
        raise Fault(f"{str(path)!r} is a folder: name the file in it")
    return path


@asynccontextmanager
async def opened(db: str | None, *, create: bool = False, read_only: bool = False) -> AsyncIterator[Stores]:
    """The stores in a file, found to work. One that is only read stays as it is.

    Raises:
        Fault: There is no such file, and none is to be made.
        ServiceError: It, or its folder, can't be opened or made.
    """
    if create:
        path = Path(db) if db is not None else default_path()
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise ServiceError(f"the folder {str(path.parent)!r} can't be made: {error.strerror}") from error
    else:
        path = existing(db)
    async with open_file(path, read_only=read_only) as store:
        await store.upgrade()  # of one that is only read: sees that it needs none
        yield Stores(store.sessions, store.artifacts, store.memory)


def run_async(work: Callable[[], Any], *, debug: bool = False) -> Any:
    """Run what a command does, and end with its exit code: 1 and a paragraph if it fails."""
    try:
        return anyio.run(work)
    except BrokenPipeError:
        raise
    except (AgentflowError, OSError) as error:
        if debug:
            click.echo(traced(error) + "\n", err=True)
        raise Failure(describe(error)) from error


async def find(
    sessions: SessionService, text: str | None, *, app: str | None = None, user: str | None = None
) -> SessionInfo:
    """The session that a person means: an id, the beginning of one, or `last` (as is nothing).

    Raises:
        Fault: There is none, or several.
    """
    if text in (None, "", "last"):
        latest = await sessions.list(app, user, limit=1)
        if not latest:
            raise Fault("there is no session yet")
        return latest[0]
    assert text is not None
    found: list[SessionInfo] = []
    others: list[str] = []
    async for info in each(sessions, app, user):
        if info.id == text:
            found = [other for other in found if other.id == text]
            found.append(info)
        elif info.id.startswith(text) and not (found and found[0].id == text):
            found.append(info)
        else:
            others.append(info.id)
    if len(found) == 1:
        return found[0]
    if not found:
        near = get_close_matches(text, others[:_COMPARED], 1)
        hint = f"did you mean {clean(near[0])!r}?" if near else "`agentflow sessions` lists them"
        raise Fault(f"there is no session {text!r}; {hint}")
    some = ", ".join(f"{info.id} ({clean(info.app_name)}, {clean(info.user_id)})" for info in found[:_NAMED])
    more = f" and {len(found) - _NAMED:,} more" if len(found) > _NAMED else ""
    raise Fault(f"{text!r} could be {some}{more}: write more of the id, or add --app or --user")


async def each(sessions: SessionService, app: str | None, user: str | None) -> AsyncIterator[SessionInfo]:
    """All sessions, the one changed last first, read page by page."""
    last: int | None = None
    while page := await sessions.list(app, user, limit=_PAGE, before=last):
        last = page[-1].changed
        for info in page:
            yield info


def complete_session(ctx: click.Context, param: click.Parameter, incomplete: str) -> Sequence[CompletionItem]:
    """Session ids that begin with what has been typed, for the shell."""

    async def look() -> list[CompletionItem]:
        async with opened(ctx.params.get("db"), read_only=True) as stores:
            page = await stores.sessions.list(ctx.params.get("app"), ctx.params.get("user"), limit=_PAGE)
        return [
            CompletionItem(info.id, help=clean(info.title or info.app_name))
            for info in page
            if info.id.startswith(incomplete)
        ]

    try:
        return anyio.run(look)
    except Exception:  # a shell has no place to read what went wrong
        return []
