"""Memory in SQLite: its full-text index, ranked by BM25."""

import re
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from sqlalchemy import delete, insert, select, text

from agentflow.content import clean_text
from agentflow.services.memory import MemoryHit, MemoryService
from agentflow.services.sessions import Session, SessionKey, check_session
from agentflow.services.sql.database import Database
from agentflow.services.sql.query import Query, param
from agentflow.services.sql.schema import memories

_WORDS = 64
"""How many different words of a query count."""

_FIND = """
SELECT w.text, m.author, m.session, m.timestamp, -bm25(af_memory_words, 0.0, 1.0) AS score
FROM af_memory_words AS w JOIN af_memories AS m ON m.id = w.rowid
WHERE af_memory_words MATCH :words AND m.app = :app AND m."user" = :user
ORDER BY score DESC, m.timestamp DESC, m.id DESC LIMIT :limit
"""


class SQLiteMemoryService(MemoryService):
    """Finds what shares words with the query, whatever their case and accents; rare words count for more.

    Made by a `SQLiteStore`. How rare a word is is counted over all users; what is found is the one user's alone.

    Args:
        database: Where it is.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        driver = database.driver
        place = (
            memories.c.app == param("app"),
            memories.c.user == param("user"),
            memories.c.session == param("session"),
        )
        names = ("app", "user", "session", "author", "timestamp")
        add = insert(memories).values({name: param(name) for name in names})
        self._add = Query(driver, add.returning(memories.c.id))
        self._ids = Query(driver, select(memories.c.id).where(*place))
        self._drop = Query(driver, delete(memories).where(*place))
        words = "INSERT INTO af_memory_words (rowid, scope, text) VALUES (:id, :scope, :text)"
        self._add_words = Query(driver, text(words))
        self._drop_words = Query(driver, text("DELETE FROM af_memory_words WHERE rowid = :id"))
        self._find = Query(driver, text(_FIND))

    async def add_session(self, session: Session) -> None:
        """Remember a session; see `MemoryService.add_session`."""
        key, scope = session.key, _scope(session.app_name, session.user_id)
        said = [
            (event.author, event.timestamp, clean_text(words))
            for event in session.events
            if event.lifecycle is None and not event.partial and (words := event.text)
        ]

        def work(connection: Any) -> None:
            self._forget(connection, key)
            for author, timestamp, words in said:
                row = self._add.one(connection, **_place(key), author=author, timestamp=timestamp)
                assert row is not None
                self._add_words.run(connection, id=row[0], scope=scope, text=words)

        await self._database.write(work)

    async def delete_session(self, key: SessionKey) -> None:
        """Forget a session; see `MemoryService.delete_session`."""
        check_session(key)
        await self._database.write(lambda connection: self._forget(connection, key))

    async def search(self, app_name: str, user_id: str, query: str, *, limit: int = 10) -> Sequence[MemoryHit]:
        """What fits; see `MemoryService.search`."""
        words = list(dict.fromkeys(re.findall(r"\w+", clean_text(query).lower())))[:_WORDS]
        if not words or limit < 1:
            return []
        any_word = " OR ".join(f'"{word}"' for word in words)
        values = {"app": app_name, "user": user_id, "limit": limit}
        values["words"] = f'scope : "{_scope(app_name, user_id)}" AND text : ({any_word})'
        rows = await self._database.read(lambda connection: self._find.all(connection, **values))
        return [MemoryHit(*row) for row in rows]

    async def aclose(self) -> None:
        """Close the store that it belongs to."""
        await self._database.aclose()

    def _forget(self, connection: Any, key: SessionKey) -> None:
        for (number,) in self._ids.all(connection, **_place(key)):
            self._drop_words.run(connection, id=number)
        self._drop.run(connection, **_place(key))


def _place(key: SessionKey) -> dict[str, str]:
    return {"app": key.app_name, "user": key.user_id, "session": key.session_id}


def _scope(app_name: str, user_id: str) -> str:
    """A word that stands for one user of one app."""
    return "s" + sha256(f"{app_name}\0{user_id}".encode()).hexdigest()[:32]
