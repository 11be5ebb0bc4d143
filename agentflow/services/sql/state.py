"""State of sessions, users and apps: a row for each key."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import and_, delete, literal, select

from agentflow.errors import ServiceError
from agentflow.services.sessions import SessionKey
from agentflow.services.sql.query import Driver, Query, param
from agentflow.services.sql.schema import state
from agentflow.state import TEMP

APP, USER = "app:", "user:"
encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def shared(name: str) -> bool:
    """Whether a key belongs to the app or the user."""
    return name.startswith((APP, USER))


def own(values: Mapping[str, Any]) -> dict[str, Any]:
    """What belongs to the session itself."""
    return {name: value for name, value in values.items() if not shared(name) and not name.startswith(TEMP)}


class StateTable:
    """Reads and writes it, in whatever thread and transaction it is called."""

    def __init__(self, driver: Driver) -> None:
        app, user, session = param("app"), param("user"), param("session")
        place = and_(state.c.app == app, state.c.user == user, state.c.session == session)
        self._read = Query(
            driver,
            select(state.c.user, state.c.session, state.c.name, state.c.value).where(
                state.c.app == app,
                state.c.user.in_([literal(""), user]),  # IN, not OR: only so does SQLite use the key for both
                state.c.session.in_([literal(0), session]),
            ),
        )
        values = {name: param(name) for name in ("app", "user", "session", "name", "value")}
        add = driver.insert(state).values(values)
        key = [state.c.app, state.c.user, state.c.session, state.c.name]
        self._set = Query(driver, add.on_conflict_do_update(index_elements=key, set_={"value": add.excluded.value}))
        self._set_new = Query(driver, add.on_conflict_do_nothing(index_elements=key))
        self._remove = Query(driver, delete(state).where(place, state.c.name == param("name")))
        self._clear = Query(driver, delete(state).where(place))

    def read(self, connection: Any, key: SessionKey, session: int) -> dict[str, Any]:
        """The state that a session sees: its own, its user's and its app's, with their prefixes."""
        found: dict[str, Any] = {}
        for user, owner, name, value in self._read.all(connection, app=key.app_name, user=key.user_id, session=session):
            prefix = "" if owner else USER if user else APP
            try:
                found[prefix + name] = json.loads(value)
            except ValueError as error:
                raise ServiceError(
                    f"state {prefix + name!r} of session {key.session_id!r} is damaged: {error}"
                ) from error
        return found

    def apply(
        self, connection: Any, key: SessionKey, session: int, delta: Mapping[str, Any], removed: Sequence[str] = ()
    ) -> None:
        """Write and remove keys, each where it belongs."""
        for name, value in delta.items():
            if not name.startswith(TEMP):
                self._set.run(connection, value=encode(value), **_place(key, session, name))
        for name in removed:
            if not name.startswith(TEMP):
                self._remove.run(connection, **_place(key, session, name))

    def fill_in(self, connection: Any, key: SessionKey, values: Mapping[str, Any]) -> None:
        """Write those keys of the user and the app that aren't there yet."""
        for name, value in values.items():
            if shared(name):
                self._set_new.run(connection, value=encode(value), **_place(key, 0, name))

    def replace(self, connection: Any, key: SessionKey, session: int, values: Mapping[str, Any]) -> None:
        """Make `values` all that a session itself has."""
        self.clear(connection, key, session)
        self.apply(connection, key, session, values)

    def clear(self, connection: Any, key: SessionKey, session: int) -> None:
        """Remove what a session itself has."""
        self._clear.run(connection, app=key.app_name, user=key.user_id, session=session)


def _place(key: SessionKey, session: int, name: str) -> dict[str, Any]:
    if name.startswith(APP):
        return {"app": key.app_name, "user": "", "session": 0, "name": name[len(APP) :]}
    if name.startswith(USER):
        return {"app": key.app_name, "user": key.user_id, "session": 0, "name": name[len(USER) :]}
    return {"app": key.app_name, "user": key.user_id, "session": session, "name": name}
