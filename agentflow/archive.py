"""Whole sessions as lines of JSON, and back: to move them to another store, to keep them, to send them to someone.

A session is a line that tells of it, one for each event, its files in pieces, and a line that ends it. Files of several
sessions may be put one after the other.
"""

import json
from binascii import Error as Base64Error, a2b_base64, b2a_base64
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal

import anyio

from agentflow.errors import InvalidArchive
from agentflow.events import Event
from agentflow.services.artifacts import USER, ArtifactService
from agentflow.services.retention import delete_session
from agentflow.services.sessions import SessionInfo, SessionKey, SessionService, check_key, no_session

FORMAT = 1
"""The version of the format; a file of a higher one is refused."""
SHARED = ("app:", "user:")
_PIECE = 192 * 1024
_PATIENCE = 30.0
"""Seconds that removing what was half imported may take."""


async def export_session(
    key: SessionKey, *, sessions: SessionService, artifacts: ArtifactService | None = None
) -> AsyncIterator[str]:
    """A session as lines of JSON, without line feeds. Nothing is held in memory but a page of events or a piece.

    Title, times, numbers, state (that of its app and user included) and events are all there; of its files and its
    user's each version with its content and type.

    Args:
        key: The session.
        sessions: Where it is.
        artifacts: Where its files are; `None` leaves them out.

    Raises:
        SessionNotFound: There is no such session.
        ServiceError: Storage failed.
    """
    info = await sessions.get(key, recent=0)
    if info is None:
        raise no_session(key)
    shared = {name: value for name, value in info.state.items() if name.startswith(SHARED)}
    yield _line(
        session={
            "format": FORMAT,
            "app": key.app_name,
            "user": key.user_id,
            "id": key.session_id,
            "title": info.title,
            "createdAt": info.created_at,
            "updatedAt": info.updated_at,
            "version": info.version,
            "initial": info.initial,
            "shared": shared,
        }
    )
    async for event in sessions.events(key, until=info.version):
        yield f'{{"event":{event.to_json()}}}'
    files = 0
    for filename in await artifacts.list(key) if artifacts is not None else ():
        for version in await artifacts.versions(key, filename) if artifacts is not None else ():
            stored = await artifacts.open(key, filename, version=version) if artifacts is not None else None
            if stored is None:
                continue  # deleted meanwhile
            files += 1
            yield _line(file={"name": filename, "version": version, "type": stored.mime_type, "sha256": stored.sha256})
            async for chunk in stored:
                for start in range(0, len(chunk), _PIECE):
                    yield _line(piece=b2a_base64(chunk[start : start + _PIECE], newline=False).decode())
    yield _line(end=key.session_id, files=files)


def _line(**fields: Any) -> str:
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))


async def import_sessions(
    lines: AsyncIterable[str | bytes] | Iterable[str | bytes],
    *,
    sessions: SessionService,
    artifacts: ArtifactService | None = None,
    if_exists: Literal["error", "skip", "copy"] = "error",
) -> AsyncIterator[SessionInfo]:
    """Put sessions there exactly as they were exported, and give each one, as it is stored, when all of it is there.

    Of each session all is stored or nothing. State of its app and user, and files of its user, are set where there are
    none yet. Files get a new `created_at`, and keep the numbers of their versions.

    Args:
        lines: As `export_session` made them, of any number of sessions.
        sessions: Where they go.
        artifacts: Where their files go; `None` drops them.
        if_exists: What to do about a session that is there already: `"error"`, `"skip"` it, or import a `"copy"` under
            a new id.

    Raises:
        InvalidArchive: The lines are no export, or damaged, or end too early. The sessions before are there.
        SessionExists: A session is there already.
        ServiceError: Storage failed.
    """
    reader = _Reader(lines)
    while (head := await reader.take()) is not None:
        if "session" not in head:
            raise reader.bad("a session should begin here")
        info = _info(head["session"], reader)
        there = await sessions.get(info.key, recent=0) is not None
        if there and if_exists == "copy":
            info = replace(info, key=SessionKey(*check_key(info.app_name, info.user_id, None)))
        elif there and if_exists == "skip":
            await reader.skip()
            continue
        restored = False
        try:
            events = _Events(reader)
            await sessions.restore(info, events)
            restored = True
            if events.count != info.version:
                raise reader.bad(f"the session has {events.count:,} of {info.version:,} events")
            await _files(reader, info.key, artifacts)
        except BaseException:
            if restored:  # half of a session is none
                with anyio.move_on_after(_PATIENCE, shield=True):
                    await delete_session(info.key, sessions=sessions, artifacts=artifacts)
            raise
        yield await sessions.get(info.key, recent=0) or info


async def _files(reader: "_Reader", key: SessionKey, artifacts: ArtifactService | None) -> None:
    """The files up to the line that ends the session."""
    known: dict[str, int] = {}
    count = 0
    while (line := await reader.take()) is not None and "file" in line:
        file = line["file"]
        count += 1
        try:
            name, version, kind, digest = str(file["name"]), int(file["version"]), str(file["type"]), file["sha256"]
        except (KeyError, TypeError, ValueError) as error:
            raise reader.bad("a file lacks its name, version, type or hash") from error
        pieces = _Pieces(reader)
        if artifacts is None or (name.startswith(USER) and name not in known and await artifacts.versions(key, name)):
            async for _ in pieces:  # dropped, or there already
                pass
            continue
        last = known.get(name, 0)
        while last < version - 1:  # deleted ones: their numbers are never used again
            last = await artifacts.save(key, name, b"")
            await artifacts.delete(key, name, version=last)
        known[name] = await artifacts.save(key, name, pieces, mime_type=kind)
        stored = await artifacts.open(key, name)
        if stored is None or stored.sha256 != digest:
            raise reader.bad(f"the file {name!r} is damaged")
    if line is None or "end" not in line:
        raise reader.bad("the session has no end: the file was cut short" if line is None else "unknown line")
    if line.get("files") != count:
        raise reader.bad(f"the session has {count} of {line.get('files')} files")


def _info(fields: Any, reader: "_Reader") -> SessionInfo:
    if not isinstance(fields, Mapping) or not isinstance(fields.get("format"), int):
        raise reader.bad("these are no exported sessions")
    if fields["format"] > FORMAT:
        raise reader.bad(f"written by a newer agentflow (format {fields['format']}, this one reads {FORMAT})")
    try:
        return SessionInfo(
            key=SessionKey(*check_key(fields["app"], fields["user"], fields["id"])),
            state=dict(fields["shared"]),
            version=int(fields["version"]),
            created_at=float(fields["createdAt"]),
            updated_at=float(fields["updatedAt"]),
            title=fields["title"],
            initial=dict(fields["initial"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise reader.bad(f"the session's line is damaged ({error})") from error


class _Reader:
    """The lines, read as JSON, one of which may be put back."""

    def __init__(self, lines: AsyncIterable[str | bytes] | Iterable[str | bytes]) -> None:
        self._lines = aiter(lines) if isinstance(lines, AsyncIterable) else iter(lines)
        self._back: dict[str, Any] | None = None
        self.number = 0

    async def take(self) -> dict[str, Any] | None:
        """The next line; `None` at the end."""
        if self._back is not None:
            line, self._back = self._back, None
            return line
        while True:
            if isinstance(self._lines, AsyncIterator):
                text = await anext(self._lines, None)
            else:
                text = next(self._lines, None)
            if text is None:
                return None
            self.number += 1
            if text.strip():
                break
        try:
            read = json.loads(text)
        except ValueError as error:
            raise self.bad("no JSON: the file is damaged, cut short, or something else") from error
        if not isinstance(read, dict):
            raise self.bad("these are no exported sessions")
        return read

    def put_back(self, line: dict[str, Any] | None) -> None:
        self._back = line

    async def skip(self) -> None:
        """Go on after the session's end."""
        while (line := await self.take()) is not None:
            if "end" in line:
                return
        raise self.bad("the session has no end: the file was cut short")

    def bad(self, what: str) -> InvalidArchive:
        return InvalidArchive(f"line {self.number}: {what}", line=self.number)


class _Events:
    """The events of the session that is being read."""

    def __init__(self, reader: _Reader) -> None:
        self._reader = reader
        self.count = 0

    def __aiter__(self) -> "_Events":
        return self

    async def __anext__(self) -> Event:
        line = await self._reader.take()
        if line is None:
            raise self._reader.bad("the session has no end: the file was cut short")
        if "event" not in line:
            self._reader.put_back(line)
            raise StopAsyncIteration
        self.count += 1
        try:
            return Event.model_validate(line["event"])
        except ValueError as error:
            raise self._reader.bad("the event is damaged") from error


class _Pieces:
    """The content of the file that is being read."""

    def __init__(self, reader: _Reader) -> None:
        self._reader = reader

    def __aiter__(self) -> "_Pieces":
        return self

    async def __anext__(self) -> bytes:
        line = await self._reader.take()
        if line is None or "piece" not in line:
            self._reader.put_back(line)
            raise StopAsyncIteration
        try:
            return a2b_base64(line["piece"], strict_mode=True)
        except (Base64Error, TypeError, ValueError) as error:
            raise self._reader.bad("a piece of a file is damaged") from error
