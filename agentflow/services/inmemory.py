"""Sessions, artifacts and memory that live as long as the process."""

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from agentflow.content import clean_json
from agentflow.errors import ConfigError, ServiceError, SessionExists, SessionNotFound, StaleSession
from agentflow.events import Event
from agentflow.services.artifacts import USER, Artifact, ArtifactService, Content, check_filename, read_content
from agentflow.services.memory import MemoryHit, MemoryService
from agentflow.services.sessions import Session, SessionInfo, SessionKey, SessionService
from agentflow.state import TEMP

APP_STATE, USER_STATE = "app:", "user:"


@dataclass(slots=True)
class _Record:
    state: dict[str, Any]
    created_at: float
    changed: int
    events: list[Event] = field(default_factory=list)
    seqs: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def updated_at(self) -> float:
        return self.events[-1].timestamp if self.events else self.created_at


def _check_fresh(event: Event) -> None:
    if event.partial or event.serial is not None:
        raise ServiceError(f"event {event.id!r} is {'partial' if event.partial else 'stored already'}: not appended")


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
        if key in self._records:
            raise SessionExists(f"session {key.session_id!r} of user {user_id!r} in {app_name!r} is there already")
        now = self._time()
        record = self._records[key] = _Record({}, now, self._next_change())
        self._apply(key, record, initial, ())
        return Session(key=key, state=self._state(key, record), version=0, created_at=now, updated_at=now)

    async def get(self, key: SessionKey, *, recent: int | None = None, after: int | None = None) -> Session | None:
        """Read a session; see `SessionService.get`."""
        record = self._records.get(key)
        if record is None:
            return None
        count = len(record.events)
        first = min(after, count) if after is not None and after > 0 else 0
        if recent is not None:
            first = max(first, count - max(recent, 0))
        return Session(
            key=key,
            state=self._state(key, record),
            version=count,
            created_at=record.created_at,
            updated_at=record.updated_at,
            events=record.events[first:],
        )

    async def list(self, app_name: str, user_id: str | None = None) -> Sequence[SessionInfo]:
        """The sessions of an app or a user; see `SessionService.list`."""
        mine = [(key, record) for key, record in self._records.items()
                if key.app_name == app_name and user_id in (None, key.user_id)]  # fmt: skip
        mine.sort(key=lambda item: item[1].changed, reverse=True)
        return [
            SessionInfo(
                key=key,
                state=self._state(key, record),
                version=len(record.events),
                created_at=record.created_at,
                updated_at=record.updated_at,
            )
            for key, record in mine
        ]

    async def delete(self, key: SessionKey) -> None:
        """Remove a session; see `SessionService.delete`."""
        self._records.pop(key, None)

    async def append(self, key: SessionKey, events: Sequence[Event], *, expected_version: int | None = None) -> None:
        """Commit events; see `SessionService.append`. Never suspends."""
        record = self._records.get(key)
        if record is None:
            raise SessionNotFound(f"there is no session {key.session_id!r} of user {key.user_id!r} in {key.app_name!r}")
        log = record.events
        serial = len(log)
        if expected_version is not None and expected_version != serial:
            raise StaleSession(
                f"session {key.session_id!r} has version {serial}, not {expected_version}: read it again, then write",
                expected=expected_version,
                actual=serial,
            )
        if len(events) > 1:
            for event in events:
                _check_fresh(event)
            if len({id(event) for event in events}) < len(events):
                raise ServiceError("the same event is in the batch twice: not appended")
        for event in events:
            fields = event.__dict__
            if fields["serial"] is not None or fields["partial"]:
                _check_fresh(event)
            run, branch = fields["invocation_id"], fields["branch"]
            seqs = record.seqs.get(run)
            if seqs is None:
                seqs = record.seqs[run] = {}
            serial += 1
            fields["serial"] = serial
            fields["seq"] = seqs[branch] = seqs.get(branch, 0) + 1
            log.append(event)
            actions = fields["actions"]
            if actions is not None:
                self._apply(key, record, actions.state_delta, actions.state_removed)
        record.changed = self._next_change()

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
        for name, value in self._app_state.get(key.app_name, {}).items():
            state[APP_STATE + name] = deepcopy(value)
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
        check_filename(filename)
        content, kind = await read_content(data, mime_type)
        scope = _scope(key, filename)
        version = self._last[scope, filename] = self._last.get((scope, filename), 0) + 1
        artifact = Artifact(filename, version, content, kind, sha256(content).hexdigest(), self._time())
        self._files.setdefault(scope, {}).setdefault(filename, {})[version] = artifact
        return version

    async def load(self, key: SessionKey, filename: str, *, version: int | None = None) -> Artifact | None:
        """One version; see `ArtifactService.load`."""
        versions = self._files.get(_scope(key, check_filename(filename)), {}).get(filename, {})
        if version is None:
            version = max(versions, default=0)
        return versions.get(version)

    async def list(self, key: SessionKey) -> Sequence[str]:
        """The names that the session sees; see `ArtifactService.list`."""
        names = [
            *self._files.get((key.app_name, key.user_id, key.session_id), {}),
            *self._files.get((key.app_name, key.user_id, None), {}),
        ]
        return sorted(names)

    async def versions(self, key: SessionKey, filename: str) -> Sequence[int]:
        """The versions of a file; see `ArtifactService.versions`."""
        return sorted(self._files.get(_scope(key, check_filename(filename)), {}).get(filename, {}))

    async def delete(self, key: SessionKey, filename: str, *, version: int | None = None) -> None:
        """Remove one version, or all; see `ArtifactService.delete`."""
        files = self._files.get(_scope(key, check_filename(filename)), {})
        versions = files.get(filename, {})
        if version is not None:
            versions.pop(version, None)
        if version is None or not versions:
            files.pop(filename, None)


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


def check_key(app_name: str, user_id: str, session_id: str | None) -> tuple[str, str, str]:
    """The three names of a session, a new id where it is `None`.

    Raises:
        ConfigError: One is empty or no string.
    """
    if session_id is None:
        session_id = os.urandom(16).hex()
    for what, value in (("app_name", app_name), ("user_id", user_id), ("session_id", session_id)):
        if not isinstance(value, str) or not value.strip():
            raise ConfigError(f"a session needs {what}: a string that isn't empty, not {value!r}")
    return app_name, user_id, session_id
