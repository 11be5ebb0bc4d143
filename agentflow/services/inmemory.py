"""Sessions, artifacts and memory that live as long as the process."""

import re
import time
from collections import defaultdict
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, fields
from hashlib import sha256
from typing import Any, Self

from agentflow.content import clean_json
from agentflow.errors import ServiceError
from agentflow.events import Event
from agentflow.services.artifacts import (
    CHUNK,
    USER,
    Artifact,
    ArtifactService,
    Content,
    StoredArtifact,
    check_filename,
    read_content,
)
from agentflow.services.memory import MemoryHit, MemoryService
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
from agentflow.state import TEMP

APP_STATE, USER_STATE = "app:", "user:"


@dataclass(slots=True)
class _Record:
    initial: dict[str, Any]
    state: dict[str, Any]
    created_at: float
    changed: int
    title: str = ""
    events: list[Event] = field(default_factory=list)
    seqs: dict[str, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))  # by run and branch

    @property
    def updated_at(self) -> float:
        return self.events[-1].timestamp if self.events else self.created_at


def _check_version(key: SessionKey, record: _Record, expected: int | None) -> None:
    version = len(record.events)
    if expected is not None and expected != version:
        raise stale(key, expected, version)


def _shared(name: str) -> bool:
    return name.startswith((APP_STATE, USER_STATE))


class InMemorySessionService(SessionService):
    """Keeps sessions in this process. Events are kept as they are: nothing is copied, nothing is searched.

    Args:
        time: What tells the time, for `created_at` and `updated_at`.
    """

    def __init__(self, *, time: Callable[[], float] = time.time) -> None:
        self._time = time
        self._changes = 0
        self._records: dict[SessionKey, _Record] = {}
        self._app_state: dict[str, dict[str, Any]] = {}
        self._user_state: dict[tuple[str, str], dict[str, Any]] = {}

    async def create(
        self, app_name: str, user_id: str, session_id: str | None = None, *, state: Mapping[str, Any] | None = None
    ) -> Session:
        """Make a session; see `SessionService.create`."""
        key = SessionKey(*check_key(app_name, user_id, session_id))
        initial = clean_json(dict(state), "the session's first state")[0] if state else {}
        self._check_free(key)
        now = self._time()
        record = self._records[key] = _Record({}, {}, now, self._next_change())
        if initial:
            self._apply(key, record, initial, ())
            record.initial = deepcopy(record.state)
        return Session(**self._info(key, record))

    async def get(
        self, key: SessionKey, *, recent: int | None = None, after: int | None = None, limit: int | None = None
    ) -> Session | None:
        """Read a session; see `SessionService.get`."""
        check_session(key)
        record = self._records.get(key)
        if record is None:
            return None
        count = len(record.events)
        first = min(after, count) if after is not None and after > 0 else 0
        if recent is not None:
            first = max(first, count - max(recent, 0))
        last = count if limit is None else first + max(limit, 0)
        return Session(**self._info(key, record), events=record.events[first:last])

    async def list(
        self,
        app_name: str | None = None,
        user_id: str | None = None,
        *,
        limit: int | None = None,
        before: int | None = None,
    ) -> Sequence[SessionInfo]:
        """Sessions, the one changed last first; see `SessionService.list`."""
        mine = [
            (key, record)
            for key, record in self._records.items()
            if app_name in (None, key.app_name)
            and user_id in (None, key.user_id)
            and (before is None or record.changed < before)
        ]
        mine.sort(key=lambda item: item[1].changed, reverse=True)
        page = mine if limit is None else mine[: max(limit, 0)]
        return [SessionInfo(**self._info(key, record)) for key, record in page]

    async def rename(self, key: SessionKey, title: str) -> None:
        """Give a session a title; see `SessionService.rename`."""
        record = self._known(key)
        record.title = check_title(title)
        record.changed = self._next_change()

    async def delete(self, key: SessionKey, *, expected_version: int | None = None) -> None:
        """Remove a session; see `SessionService.delete`."""
        check_session(key)
        record = self._records.get(key)
        if record is not None:
            _check_version(key, record, expected_version)
            del self._records[key]

    async def rewind(self, key: SessionKey, to: int) -> None:
        """Remove what came after an event; see `SessionService.rewind`."""
        record = self._known(key)
        check_serial(SessionInfo(**self._info(key, record)), to, "rewind")
        kept = _Record(record.initial, deepcopy(record.initial), record.created_at, self._next_change(), record.title)
        for event in record.events[:to]:
            self._add(key, kept, event)
        self._records[key] = kept

    async def restore(self, info: SessionInfo, events: AsyncIterable[Event] | Iterable[Event]) -> None:
        """Put a whole session there; see `SessionService.restore`."""
        key = SessionKey(*check_key(*info.key))
        self._check_free(key)
        initial = clean_json(dict(info.initial), "the session's first state")[0]
        record = _Record(initial, deepcopy(initial), info.created_at, 0, check_title(info.title))
        async for event in InOrder(events):
            self._add(key, record, event)
        self._check_free(key)
        for name, value in clean_json(dict(info.state), "the session's state")[0].items():
            if name.startswith((APP_STATE, USER_STATE)):
                home, short = self._home(key, record, name)
                home.setdefault(short, value)
        record.changed = self._next_change()
        self._records[key] = record

    async def append(self, key: SessionKey, events: Sequence[Event], *, expected_version: int | None = None) -> None:
        """Commit events; see `SessionService.append`. Never suspends."""
        _check_version(key, self._known(key), expected_version)
        for event in events:
            if event.partial or event.serial is not None:
                how = "partial" if event.partial else "stored already"
                raise ServiceError(f"event {event.id!r} is {how}: not appended")
        if len(events) > 1 and len({id(event) for event in events}) < len(events):
            raise ServiceError("the same event is in the batch twice: not appended")
        for event in events:
            InMemorySessionService.append_now(self, key, event)  # a subclass may have no such thing

    def append_now(self, key: SessionKey, event: Event) -> bool:
        """Commit an event; see `SessionService.append_now`."""
        try:
            record = self._records[key]
        except (KeyError, TypeError):
            check_session(key)
            raise no_session(key) from None
        fields, log = event.__dict__, record.events
        seqs, branch = record.seqs[fields["invocation_id"]], fields["branch"]
        fields["seq"] = seqs[branch] = seqs.get(branch, 0) + 1
        log.append(event)
        fields["serial"] = len(log)
        actions = fields["actions"]
        if actions is not None:
            self._apply(key, record, actions.state_delta, actions.state_removed)
        record.changed = self._changes = self._changes + 1
        return True

    def _known(self, key: SessionKey) -> _Record:
        check_session(key)
        record = self._records.get(key)
        if record is None:
            raise no_session(key)
        return record

    def _check_free(self, key: SessionKey) -> None:
        if key in self._records:
            raise session_exists(key)

    def _info(self, key: SessionKey, record: _Record) -> dict[str, Any]:
        return {
            "key": key,
            "state": self._state(key, record),
            "version": len(record.events),
            "created_at": record.created_at,
            "updated_at": record.updated_at,
            "title": record.title,
            "initial": deepcopy(record.initial) if record.initial else {},
            "changed": record.changed,
        }

    def _add(self, key: SessionKey, record: _Record, event: Event) -> None:
        """Take in an event that has its numbers already."""
        record.events.append(event)
        record.seqs[event.invocation_id][event.branch] = event.seq or 0
        if event.actions is not None:
            delta = {name: value for name, value in event.actions.state_delta.items() if not _shared(name)}
            self._apply(key, record, delta, [name for name in event.actions.state_removed if not _shared(name)])

    def _next_change(self) -> int:
        self._changes += 1
        return self._changes

    def _apply(self, key: SessionKey, record: _Record, delta: Mapping[str, Any], removed: Sequence[str]) -> None:
        for name, value in delta.items():
            if not name.startswith(TEMP):
                home, short = self._home(key, record, name)
                home[short] = value
        for name in removed:
            home, short = self._home(key, record, name)
            home.pop(short, None)

    def _home(self, key: SessionKey, record: _Record, name: str) -> tuple[dict[str, Any], str]:
        if name.startswith(APP_STATE):
            return self._app_state.setdefault(key.app_name, {}), name[len(APP_STATE) :]
        if name.startswith(USER_STATE):
            return self._user_state.setdefault((key.app_name, key.user_id), {}), name[len(USER_STATE) :]
        return record.state, name

    def _state(self, key: SessionKey, record: _Record) -> dict[str, Any]:
        state = deepcopy(record.state) if record.state else {}
        if self._app_state:
            for name, value in self._app_state.get(key.app_name, {}).items():
                state[APP_STATE + name] = deepcopy(value)
        if self._user_state:
            for name, value in self._user_state.get((key.app_name, key.user_id), {}).items():
                state[USER_STATE + name] = deepcopy(value)
        return state


class InMemoryArtifactService(ArtifactService):
    """Keeps artifacts in this process.

    Args:
        time: What tells the time, for `created_at`.
    """

    def __init__(self, *, time: Callable[[], float] = time.time) -> None:
        self._time = time
        self._files: dict[tuple[str, str, str | None], dict[str, dict[int, Artifact]]] = {}
        self._last: dict[tuple[tuple[str, str, str | None], str], int] = {}

    async def save(self, key: SessionKey, filename: str, data: Content, *, mime_type: str | None = None) -> int:
        """Save a new version; see `ArtifactService.save`."""
        check_session(key)
        check_filename(filename)
        content, kind = await read_content(data, mime_type)
        scope = _scope(key, filename)
        version = self._last[scope, filename] = self._last.get((scope, filename), 0) + 1
        artifact = Artifact(
            filename=filename,
            version=version,
            mime_type=kind,
            size_bytes=len(content),
            sha256=sha256(content).hexdigest(),
            created_at=self._time(),
            data=content,
        )
        self._files.setdefault(scope, {}).setdefault(filename, {})[version] = artifact
        return version

    async def open(self, key: SessionKey, filename: str, *, version: int | None = None) -> StoredArtifact | None:
        """One version, piece by piece; see `ArtifactService.open`."""
        check_session(key)
        versions = self._files.get(_scope(key, check_filename(filename)), {}).get(filename, {})
        found = versions.get(max(versions, default=0) if version is None else version)
        return _InMemoryArtifact(**{f.name: getattr(found, f.name) for f in fields(found)}) if found else None

    async def list(self, key: SessionKey) -> Sequence[str]:
        """The names that the session sees; see `ArtifactService.list`."""
        check_session(key)
        names = [
            *self._files.get((key.app_name, key.user_id, key.session_id), {}),
            *self._files.get((key.app_name, key.user_id, None), {}),
        ]
        return sorted(names)

    async def versions(self, key: SessionKey, filename: str) -> Sequence[int]:
        """The versions of a file; see `ArtifactService.versions`."""
        check_session(key)
        return sorted(self._files.get(_scope(key, check_filename(filename)), {}).get(filename, {}))

    async def delete(self, key: SessionKey, filename: str, *, version: int | None = None) -> None:
        """Remove one version, or all; see `ArtifactService.delete`."""
        check_session(key)
        files = self._files.get(_scope(key, check_filename(filename)), {})
        versions = files.get(filename, {})
        if version is not None:
            versions.pop(version, None)
        if version is None or not versions:
            files.pop(filename, None)

    async def delete_session(self, key: SessionKey) -> None:
        """Remove all files of a session; see `ArtifactService.delete_session`."""
        check_session(key)
        scope = (key.app_name, key.user_id, key.session_id)
        self._files.pop(scope, None)
        self._last = {file: last for file, last in self._last.items() if file[0] != scope}


@dataclass(slots=True, eq=False, repr=False, kw_only=True)
class _InMemoryArtifact(StoredArtifact):
    data: bytes

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _Chunks(self.data)


class _Chunks:
    def __init__(self, data: bytes) -> None:
        self._chunks = (data[start : start + CHUNK] for start in range(0, len(data), CHUNK))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        for chunk in self._chunks:
            return chunk
        raise StopAsyncIteration


def _scope(key: SessionKey, filename: str) -> tuple[str, str, str | None]:
    return key.app_name, key.user_id, None if filename.startswith(USER) else key.session_id


class InMemoryMemoryService(MemoryService):
    """Finds what shares words with the query: the more different words, the better; then the newer.

    Source: adk-go `memory/inmemory.go`; unlike there, results are ranked and words are split at punctuation.
    """

    def __init__(self) -> None:
        self._remembered: dict[tuple[str, str], dict[str, list[tuple[frozenset[str], MemoryHit]]]] = {}

    async def add_session(self, session: Session) -> None:
        """Remember a session; see `MemoryService.add_session`."""
        self._remembered.setdefault((session.app_name, session.user_id), {})[session.id] = [
            (_words(text), MemoryHit(text, event.author, session.id, event.timestamp, 0.0))
            for event in session.events
            if event.lifecycle is None and not event.partial and (text := event.text)
        ]

    async def delete_session(self, key: SessionKey) -> None:
        """Forget a session; see `MemoryService.delete_session`."""
        check_session(key)
        self._remembered.get((key.app_name, key.user_id), {}).pop(key.session_id, None)

    async def search(self, app_name: str, user_id: str, query: str, *, limit: int = 10) -> Sequence[MemoryHit]:
        """What fits; see `MemoryService.search`."""
        wanted = _words(query)
        hits = [
            (len(wanted & words) / len(wanted), hit)
            for session in self._remembered.get((app_name, user_id), {}).values()
            for words, hit in session
            if wanted & words
        ]
        hits.sort(key=lambda scored: (scored[0], scored[1].timestamp), reverse=True)
        return [
            MemoryHit(hit.text, hit.author, hit.session_id, hit.timestamp, score)
            for score, hit in hits[: max(limit, 0)]
        ]


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.lower()))
