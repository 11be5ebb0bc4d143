"""Sessions in an SQL database."""

import json
import os
import time
from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence
from typing import Any

import anyio

from agentflow.content import clean_json
from agentflow.errors import ServiceError
from agentflow.events import Event, commit_event
from agentflow.services.sessions import (
    InOrder,
    Session,
    SessionInfo,
    SessionKey,
    SessionService,
    check_key,
    check_serial,
    check_session,
    check_title,
    no_session,
    session_exists,
    stale,
)
from agentflow.services.sql.database import Database
from agentflow.services.sql.log import MASK, Append, Log, body_of
from agentflow.services.sql.query import NO_LIMIT
from agentflow.services.sql.schema import SERIAL_BITS
from agentflow.services.sql.session_queries import SessionQueries
from agentflow.services.sql.state import StateTable, encode, own

_PAGE = 500
"""Events that are read, or restored, in one transaction: others wait no longer than for these."""


class SQLSessionService(SessionService):
    """Sessions in a database; made by a store, for instance `SQLiteStore`.

    Args:
        database: Where they are.
        time: What tells the time, for `created_at`.
    """

    def __init__(self, database: Database, *, time: Callable[[], float] = time.time) -> None:
        self._database = database
        self._time = time
        self._q = SessionQueries(database.driver)
        self._state = StateTable(database.driver)
        self._log = Log(self._q, self._state)
        database.on_change(self._log.forget)

    async def create(
        self, app_name: str, user_id: str, session_id: str | None = None, *, state: Mapping[str, Any] | None = None
    ) -> Session:
        """Make a session; see `SessionService.create`."""
        key = SessionKey(*check_key(app_name, user_id, session_id))
        first = clean_json(dict(state), "the session's first state")[0] if state else {}
        now = self._time()

        def work(connection: Any) -> Session:
            if self._q.find.one(connection, **_names(key)) is not None:
                raise session_exists(key)
            session = self._new(connection, key, "", now, own(first), self._log.next_change(connection))
            self._state.apply(connection, key, session, first)
            return Session(**self._info(connection, self._row(connection, key)))

        return await self._database.write(work)

    async def get(
        self, key: SessionKey, *, recent: int | None = None, after: int | None = None, limit: int | None = None
    ) -> Session | None:
        """Read a session; see `SessionService.get`. Long ones are read a page at a time."""
        check_session(key)

        def begin(connection: Any) -> tuple[int, Session, int, int] | None:
            row = self._q.find.one(connection, **_names(key))
            if row is None:
                return None
            session = Session(**self._info(connection, row))
            first = max(after or 0, 0)
            if recent is not None:
                first = max(first, session.version - max(recent, 0))
            last = session.version if limit is None else min(session.version, first + max(limit, 0))
            self._more(connection, row[0], session, first, min(last, first + _PAGE))
            return row[0], session, first + _PAGE, last

        def go_on(connection: Any) -> bool:
            now = self._q.find.one(connection, **_names(key))
            if now is None or now[0] != number or self._log.version(connection, number) < session.version:
                return False
            self._more(connection, number, session, first, min(last, first + _PAGE))
            return True

        while True:
            begun = await self._database.read(begin)
            if begun is None:
                return None
            number, session, first, last = begun
            while first < last and await self._database.read(go_on):
                first += _PAGE
            if first >= last:
                return session  # else it was rewound or deleted meanwhile: once more

    async def list(
        self,
        app_name: str | None = None,
        user_id: str | None = None,
        *,
        limit: int | None = None,
        before: int | None = None,
    ) -> Sequence[SessionInfo]:
        """Sessions, the one changed last first; see `SessionService.list`."""
        if app_name is None:
            query = self._q.list_all if user_id is None else self._q.list_anywhere
        else:
            query = self._q.list_app if user_id is None else self._q.list_user
        values = {"app": app_name, "user": user_id, "before": NO_LIMIT if before is None else before}
        values["limit"] = NO_LIMIT if limit is None else max(limit, 0)

        def work(connection: Any) -> list[SessionInfo]:
            return [SessionInfo(**self._info(connection, row)) for row in query.all(connection, **values)]

        return await self._database.read(work)

    async def first_events(self, keys: Sequence[SessionKey]) -> Sequence[Event | None]:
        """The first event of each of these sessions; see `SessionService.first_events`. One transaction reads them."""

        def work(connection: Any) -> list[Event | None]:
            rows = [self._q.first_event.one(connection, **_names(key)) for key in keys]
            return [_first(row, key.session_id) if row else None for row, key in zip(rows, keys, strict=True)]

        return await self._database.read(work)

    async def apps(self) -> Sequence[str]:
        """The names of the apps that have sessions, sorted; see `SessionService.apps`."""

        def work(connection: Any) -> list[str]:
            names: list[str] = []
            while (row := self._q.next_app.one(connection, app=names[-1] if names else "")) and row[0] is not None:
                names.append(row[0])
            return sorted(names)

        return await self._database.read(work)

    async def append(self, key: SessionKey, events: Sequence[Event], *, expected_version: int | None = None) -> None:
        """Commit events; see `SessionService.append`. Waits for its own commit alone, which others may share."""
        check_session(key)
        if len(events) > 1 and len({id(event) for event in events}) < len(events):
            raise ServiceError("the same event is in the batch twice: not appended")
        await self._database.do(Append(self._log.append, key, events, expected_version))

    async def rename(self, key: SessionKey, title: str) -> None:
        """Give a session a title; see `SessionService.rename`."""
        check_session(key)
        title = check_title(title)

        def work(connection: Any) -> None:
            session = self._row(connection, key)[0]
            self._q.rename.run(connection, session=session, to_title=title)
            self._changed(connection, key, session)

        await self._database.write(work)

    async def delete(self, key: SessionKey, *, expected_version: int | None = None) -> None:
        """Remove a session; see `SessionService.delete`."""
        check_session(key)

        def work(connection: Any) -> None:
            row = self._q.find.one(connection, **_names(key))
            if row is None:
                return
            version = self._log.version(connection, row[0])
            if expected_version is not None and version != expected_version:
                raise stale(key, expected_version, version)
            self._state.clear(connection, key, row[0])
            self._drop(connection, row[0])
            self._log.forget_session(key)

        await self._database.write(work)

    async def rewind(self, key: SessionKey, to: int) -> None:
        """Remove what came after an event; see `SessionService.rewind`."""
        check_session(key)

        def work(connection: Any) -> None:
            row = self._row(connection, key)
            check_serial(SessionInfo(**self._info(connection, row)), to, "rewind")
            session = row[0]
            values = self._state_at(connection, session, row[7], to)
            self._q.drop_events.run(connection, first=_id(session, to), last=_id(session, MASK))
            self._q.drop_empty_lines.run(connection, session=session)
            self._q.drop_empty_runs.run(connection, session=session)
            self._state.replace(connection, key, session, values)
            self._changed(connection, key, session)

        await self._database.write(work)

    async def fork(self, key: SessionKey, *, at: int | None = None, session_id: str | None = None) -> SessionKey:
        """Copy a session up to an event; see `SessionService.fork`."""
        check_session(key)
        copy = SessionKey(*check_key(key.app_name, key.user_id, session_id))

        def work(connection: Any) -> None:
            row = self._row(connection, key)
            info = SessionInfo(**self._info(connection, row))
            end = check_serial(info, info.version if at is None else at, "fork")
            if self._q.find.one(connection, **_names(copy)) is not None:
                raise session_exists(copy)
            old = row[0]
            values = self._state_at(connection, old, row[7], end)
            change = self._log.next_change(connection)
            new = self._new(connection, copy, info.title, info.created_at, info.initial, change)
            last = _id(old, end)
            self._q.copy_runs.run(connection, session=old, to=new, last=last)
            self._q.copy_lines.run(connection, session=old, to=new, last=last)
            self._q.copy_events.run(connection, to=new, offset=_id(new - old, 0), first=_id(old, 0), last=last)
            self._state.apply(connection, copy, new, values)

        await self._database.write(work)
        return copy

    async def restore(self, info: SessionInfo, events: AsyncIterable[Event] | Iterable[Event]) -> None:
        """Put a whole session there; see `SessionService.restore`. What was written half-way is removed again."""
        key = SessionKey(*check_key(*info.key))
        title = check_title(info.title)
        initial = clean_json(dict(info.initial), "the session's first state")[0]
        seen = clean_json(dict(info.state), "the session's state")[0]
        aside = SessionKey("", "", f"restored {os.urandom(16).hex()}")

        def begin(connection: Any) -> int:
            if self._q.find.one(connection, **_names(key)) is not None:
                raise session_exists(key)
            return self._new(connection, aside, title, self._time(), initial, 0)

        def publish(connection: Any) -> None:
            if self._q.find.one(connection, **_names(key)) is not None:
                raise session_exists(key)
            to = {"to_app": key.app_name, "to_user": key.user_id, "to_name": key.session_id}
            change = self._log.next_change(connection)
            self._q.publish.run(connection, session=session, at=info.created_at, to=change, **to)
            self._state.fill_in(connection, key, seen)
            self._state.apply(connection, key, session, values)

        values = dict(own(initial))
        session = await self._database.write(begin)
        try:
            page: list[Event] = []
            async for event in InOrder(events):
                page.append(event)
                if event.actions is not None:
                    _write(values, event.actions.state_delta, event.actions.state_removed)
                if len(page) == _PAGE:
                    await self._database.write(self._restoring(session, page))
                    page = []
            await self._database.write(self._restoring(session, page))
            await self._database.write(publish)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._database.write(lambda connection: self._drop(connection, session))
            raise

    async def aclose(self) -> None:
        """Close the store that it belongs to."""
        await self._database.aclose()

    def _restoring(self, session: int, page: Sequence[Event]) -> Callable[[Any], None]:
        """What writes a page of events."""
        rows = [(event.serial or 0, event.seq, *body_of(event, numbered=True)[1:5]) for event in page]

        def work(connection: Any) -> None:
            lines: dict[tuple[str, str], tuple[int, int]] = {}
            values = []
            for serial, seq, run, branch, timestamp, body in rows:
                line = lines.get((run, branch))
                if line is None:
                    number = self._log.run_id(connection, session, run)
                    line = lines[run, branch] = (number, self._log.line_id(connection, number, branch))
                values.append((_id(session, serial), *line, seq, timestamp, body))
            self._q.add_event.many(connection, values)

        return work

    def _new(
        self, connection: Any, key: SessionKey, title: str, now: float, initial: Mapping[str, Any], changed: int
    ) -> int:
        row = self._q.add.one(
            connection, **_names(key), title=title, created_at=now, changed=changed, initial=encode(initial)
        )
        assert row is not None
        number: int = row[0]
        return number

    def _row(self, connection: Any, key: SessionKey) -> tuple[Any, ...]:
        row = self._q.find.one(connection, **_names(key))
        if row is None:
            raise no_session(key)
        return row

    def _info(self, connection: Any, row: tuple[Any, ...]) -> dict[str, Any]:
        session, app, user, name, title, created_at, changed, initial = row
        key = SessionKey(app, user, name)
        last = self._q.last_event.one(connection, first=_id(session, 0), last=_id(session + 1, 0))
        return {
            "key": key,
            "state": self._state.read(connection, key, session),
            "version": last[0] & MASK if last else 0,
            "created_at": created_at,
            "updated_at": last[1] if last else created_at,
            "title": title,
            "initial": _loads(initial, f"the first state of session {name!r}"),
            "changed": changed,
        }

    def _more(self, connection: Any, number: int, session: Session, first: int, last: int) -> None:
        """Read events `first` to `last` of a session into `session`."""
        serial = first
        for place, seq, body in self._q.read_events.all(connection, first=_id(number, first), last=_id(number, last)):
            serial += 1
            if place & MASK != serial:
                break
            session.events.append(_event(seq, body, serial, session.id))
        else:
            if serial == max(first, last):
                return
            serial += 1
        raise _missing(serial, session.id)

    def _state_at(self, connection: Any, session: int, initial: str, serial: int) -> dict[str, Any]:
        """A session's own state as it was after an event."""
        values: dict[str, Any] = _loads(initial, "a session's first state")
        for *_, body in self._q.writing_events.all(connection, first=_id(session, 0), last=_id(session, serial)):
            try:
                actions = Event.from_json(body).actions
            except ValueError as error:
                raise ServiceError(f"an event of the session is damaged: {error}") from error
            if actions is not None:
                _write(values, actions.state_delta, actions.state_removed)
        return values

    def _changed(self, connection: Any, key: SessionKey, session: int) -> None:
        self._log.touch(connection, session)
        self._log.forget_session(key)

    def _drop(self, connection: Any, session: int) -> None:
        self._q.drop_events.run(connection, first=_id(session, 0), last=_id(session, MASK))
        self._q.drop_empty_lines.run(connection, session=session)
        self._q.drop_empty_runs.run(connection, session=session)
        self._q.drop_session.run(connection, session=session)


def _id(session: int, serial: int) -> int:
    return (session << SERIAL_BITS) + serial


def _event(seq: int, body: str, serial: int, session: str) -> Event:
    """An event as it is stored."""
    try:
        event = Event.from_json(body)
    except ValueError as error:
        raise ServiceError(f"event {serial} of session {session!r} is damaged: {error}") from error
    commit_event(event, seq=seq, serial=serial)
    return event


def _first(row: Sequence[Any], session: str) -> Event:
    """A session's first event, of the row that comes first."""
    place, seq, body = row
    if place & MASK != 1:
        raise _missing(1, session)
    return _event(seq, body, 1, session)


def _missing(serial: int, session: str) -> ServiceError:
    return ServiceError(f"event {serial} of session {session!r} is missing: its log is damaged")


def _names(key: SessionKey) -> dict[str, str]:
    return {"app": key.app_name, "user": key.user_id, "name": key.session_id}


def _write(values: dict[str, Any], delta: Mapping[str, Any], removed: Sequence[str]) -> None:
    values.update(own(delta))
    for name in removed:
        values.pop(name, None)


def _loads(text: str, what: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ServiceError(f"{what} is damaged: {error}") from error
    if not isinstance(value, dict):
        raise ServiceError(f"{what} is damaged: it is no mapping")
    return value
