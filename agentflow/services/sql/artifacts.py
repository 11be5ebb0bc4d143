"""Artifacts in an SQL database: their content in chunks, so that none is ever whole in memory unless asked for."""

import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Self

import anyio
from sqlalchemy import delete, insert, select, update

from agentflow.content import clean_text
from agentflow.errors import ServiceError
from agentflow.services.artifacts import (
    CHUNK,
    USER,
    ArtifactService,
    Content,
    StoredArtifact,
    check_filename,
    read_content,
)
from agentflow.services.sessions import SessionKey, check_session
from agentflow.services.sql.database import Database
from agentflow.services.sql.query import Driver, Query, param, whole
from agentflow.services.sql.schema import chunks, file_versions, files


class _Queries:
    def __init__(self, driver: Driver) -> None:
        app, user, session = param("app"), param("user"), param("session")
        name, number = param("filename"), whole("number")
        place = (files.c.app == app, files.c.user == user, files.c.session == session)
        named = (*place, files.c.filename == name)
        shown = (
            files.c.id, files.c.filename, files.c.version, files.c.mime_type, files.c.size_bytes, files.c.sha256,
            files.c.created_at,
        )  # fmt: skip
        complete = files.c.version.is_not(None)
        known = (file_versions.c.app == app, file_versions.c.user == user, file_versions.c.session == session)
        names = ("app", "user", "session", "filename", "mime_type", "size_bytes", "sha256", "created_at")
        self.add = Query(driver, insert(files).values({name: param(name) for name in names}).returning(files.c.id))
        chunk = {"file": number, "place": param("at"), "data": param("data")}
        self.add_chunk = Query(driver, insert(chunks).values(chunk))
        last = select(file_versions.c.last).where(*known, file_versions.c.filename == name)
        self.last_version = Query(driver, last)
        values = {"app": app, "user": user, "session": session, "filename": name, "last": param("version")}
        count = driver.insert(file_versions).values(values)
        key = [file_versions.c.app, file_versions.c.user, file_versions.c.session, file_versions.c.filename]
        self.count = Query(driver, count.on_conflict_do_update(index_elements=key, set_={"last": count.excluded.last}))
        publish: dict[str, Any] = {"version": param("to"), "size_bytes": param("size"), "sha256": param("hash")}
        self.publish = Query(driver, update(files).where(files.c.id == number).values(publish))
        self.latest = Query(driver, select(*shown).where(*named, complete).order_by(files.c.version.desc()).limit(1))
        self.one = Query(driver, select(*shown).where(*named, files.c.version == param("version")))
        here = (chunks.c.file == number, chunks.c.place == param("at"))
        self.chunk = Query(driver, select(chunks.c.data).where(*here))
        mine = (files.c.session == session) | (files.c.session == "")
        self.names = Query(driver, select(files.c.filename).where(*place[:2], mine, complete).distinct())
        self.versions = Query(driver, select(files.c.version).where(*named, complete).order_by(files.c.version))
        self.ids = Query(driver, select(files.c.id).where(*named, complete))
        self.session_ids = Query(driver, select(files.c.id).where(*place, complete))
        self.drop_chunks = Query(driver, delete(chunks).where(chunks.c.file == number))
        self.drop = Query(driver, delete(files).where(files.c.id == number))
        self.forget = Query(driver, delete(file_versions).where(*known))


class SQLArtifactService(ArtifactService):
    """Artifacts in a database; made by a store, for instance `SQLiteStore`.

    Args:
        database: Where they are.
        time: What tells the time, for `created_at`.
    """

    def __init__(self, database: Database, *, time: Callable[[], float] = time.time) -> None:
        self._database = database
        self._time = time
        self._q = _Queries(database.driver)

    async def save(self, key: SessionKey, filename: str, data: Content, *, mime_type: str | None = None) -> int:
        """Save a new version; see `ArtifactService.save`. A stream is seen when it is whole."""
        check_session(key)
        place = _place(key, check_filename(filename))
        if isinstance(data, AsyncIterable):
            return await self._save_stream(place, data, clean_text(mime_type or "application/octet-stream"))
        content, kind = await read_content(data, mime_type)
        pieces = [content[start : start + CHUNK] for start in range(0, len(content), CHUNK)]
        digest = sha256(content).hexdigest()
        now = self._time()

        def work(connection: Any) -> int:
            number = self._begin(connection, place, clean_text(kind), now)
            for at, piece in enumerate(pieces):
                self._q.add_chunk.run(connection, number=number, at=at, data=piece)
            return self._publish(connection, place, number, len(content), digest)

        return await self._database.write(work)

    async def _save_stream(self, place: dict[str, str], data: AsyncIterable[bytes], kind: str) -> int:
        now = self._time()
        number = await self._database.write(lambda connection: self._begin(connection, place, kind, now))

        async def add(piece: bytes, at: int) -> None:
            await self._database.write(
                lambda connection: self._q.add_chunk.run(connection, number=number, at=at, data=piece)
            )

        try:
            digest, size, count = sha256(), 0, 0
            waiting = bytearray()
            async for chunk in data:
                digest.update(chunk)
                size += len(chunk)
                waiting += chunk
                while len(waiting) >= CHUNK:
                    await add(bytes(waiting[:CHUNK]), count)
                    del waiting[:CHUNK]
                    count += 1
            if waiting:
                await add(bytes(waiting), count)
            return await self._database.write(
                lambda connection: self._publish(connection, place, number, size, digest.hexdigest())
            )
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._database.write(lambda connection: self._drop(connection, number))
            raise

    async def open(self, key: SessionKey, filename: str, *, version: int | None = None) -> StoredArtifact | None:
        """One version, piece by piece; see `ArtifactService.open`."""
        check_session(key)
        place = _place(key, check_filename(filename))

        def work(connection: Any) -> tuple[Any, ...] | None:
            if version is None:
                return self._q.latest.one(connection, **place)
            return self._q.one.one(connection, **place, version=version)

        row = await self._database.read(work)
        if row is None:
            return None
        number, name, found, kind, size, digest, created_at = row

        async def piece(at: int) -> bytes | None:
            row = await self._database.read(lambda connection: self._q.chunk.one(connection, number=number, at=at))
            return None if row is None else bytes(row[0])

        return _SQLArtifact(
            filename=name,
            version=found,
            mime_type=kind,
            size_bytes=size,
            sha256=digest,
            created_at=created_at,
            piece=piece,
        )

    async def list(self, key: SessionKey) -> Sequence[str]:
        """The names that the session sees; see `ArtifactService.list`."""
        check_session(key)
        place = {"app": key.app_name, "user": key.user_id, "session": key.session_id}
        rows = await self._database.read(lambda connection: self._q.names.all(connection, **place))
        return sorted(name for (name,) in rows)

    async def versions(self, key: SessionKey, filename: str) -> Sequence[int]:
        """The versions of a file; see `ArtifactService.versions`."""
        check_session(key)
        place = _place(key, check_filename(filename))
        rows = await self._database.read(lambda connection: self._q.versions.all(connection, **place))
        return [version for (version,) in rows]

    async def delete(self, key: SessionKey, filename: str, *, version: int | None = None) -> None:
        """Remove one version, or all; see `ArtifactService.delete`."""
        check_session(key)
        place = _place(key, check_filename(filename))

        def work(connection: Any) -> None:
            if version is None:
                found = self._q.ids.all(connection, **place)
            else:
                found = self._q.one.all(connection, **place, version=version)
            for number, *_ in found:
                self._drop(connection, number)

        await self._database.write(work)

    async def delete_session(self, key: SessionKey) -> None:
        """Remove all files of a session; see `ArtifactService.delete_session`."""
        check_session(key)
        place = {"app": key.app_name, "user": key.user_id, "session": key.session_id}

        def work(connection: Any) -> None:
            for (number,) in self._q.session_ids.all(connection, **place):
                self._drop(connection, number)
            self._q.forget.run(connection, **place)

        await self._database.write(work)

    async def aclose(self) -> None:
        """Close the store that it belongs to."""
        await self._database.aclose()

    def _begin(self, connection: Any, place: dict[str, str], kind: str, now: float) -> int:
        row = self._q.add.one(connection, **place, mime_type=kind, size_bytes=0, sha256="", created_at=now)
        assert row is not None
        number: int = row[0]
        return number

    def _publish(self, connection: Any, place: dict[str, str], number: int, size: int, digest: str) -> int:
        row = self._q.last_version.one(connection, **place)
        version: int = (row[0] if row else 0) + 1
        self._q.count.run(connection, **place, version=version)
        self._q.publish.run(connection, number=number, to=version, size=size, hash=digest)
        return version

    def _drop(self, connection: Any, number: int) -> None:
        self._q.drop_chunks.run(connection, number=number)
        self._q.drop.run(connection, number=number)


@dataclass(slots=True, eq=False, repr=False, kw_only=True)
class _SQLArtifact(StoredArtifact):
    piece: Callable[[int], Any]

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _Pieces(self)


class _Pieces:
    """The chunks of a file, each read when it is asked for: no transaction is held open between them."""

    def __init__(self, artifact: _SQLArtifact) -> None:
        self._artifact = artifact
        self._digest = sha256()
        self._count = 0
        self._read = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        artifact = self._artifact
        name = f"version {artifact.version} of {artifact.filename!r}"
        if self._read >= artifact.size_bytes:
            if self._digest.hexdigest() != artifact.sha256:
                raise ServiceError(f"{name} is damaged: its content isn't what was saved")
            raise StopAsyncIteration
        piece: bytes | None = await artifact.piece(self._count)
        if not piece:
            raise ServiceError(f"{name} was deleted while it was read, or is damaged")
        self._count += 1
        self._read += len(piece)
        self._digest.update(piece)
        return piece


def _place(key: SessionKey, filename: str) -> dict[str, str]:
    session = "" if filename.startswith(USER) else key.session_id
    return {"app": key.app_name, "user": key.user_id, "session": session, "filename": filename}
