"""How a SQLite file is opened, locked, looked after and complained about: all of the store that needs SQLAlchemy."""

import logging
import os
import sqlite3
import threading
import time
from pathlib import Path

from sqlalchemy import create_engine
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from agentflow.errors import ConfigError, ServiceError
from agentflow.services.sql.artifacts import SQLArtifactService as SQLArtifactService
from agentflow.services.sql.database import Database as Database
from agentflow.services.sql.fts5 import SQLiteMemoryService as SQLiteMemoryService
from agentflow.services.sql.migrate import HEAD as HEAD, VERSION_TABLE, check, upgrade
from agentflow.services.sql.query import Driver
from agentflow.services.sql.schema import SERIAL_BITS
from agentflow.services.sql.sessions import SQLSessionService as SQLSessionService
from agentflow.services.sqlite import Durability

logger = logging.getLogger(__name__)

APPLICATION_ID = 0x61666C77
"""What marks a file as ours: "aflw", in its header."""

_OLDEST = (3, 35)
_TICK = 0.1
"""Seconds that are longer than any tick of the clock by which a file's changes are dated."""

_Stamp = tuple[int, ...]


class Connection(sqlite3.Connection):
    """One of our connections.

    Attributes:
        stamp: What told the file's state when it was opened, where SQLite itself doesn't watch it.
    """

    stamp: _Stamp | None = None


_LOG = 4000
"""Pages of the write-ahead log: when there are so many, they are moved into the file, and it begins anew."""


class SQLiteDriver(Driver):
    """How a SQLite file is opened, locked and complained about.

    Attributes:
        factory: The class of its connections.
        found: The revision that the file's tables had; `None` if it was new.
    """

    def __init__(self, path: Path, durability: Durability, lock_timeout: float, read_only: bool) -> None:
        self.dialect = sqlite.dialect()
        self.insert = sqlite.insert
        self.factory: type[sqlite3.Connection] = Connection
        self.found: str | None = None
        self._path = path
        self._durability = durability
        self._lock_timeout = lock_timeout
        self._read_only = read_only
        self._lock = threading.Lock()
        self._prepared = False
        self._seen = -1

    def connect(self, *, writes: bool) -> sqlite3.Connection:
        with self._lock:
            if not self._prepared:
                self._prepare()
                self._prepared = True
        if not writes:
            return self._open_to_read()
        if self._read_only:
            raise ServiceError(f"{self._path}: it was opened to read, and can't be written to; nothing was written")
        connection = self._open("mode=rw")
        self._seen = -1
        connection.execute(f"PRAGMA synchronous = {'FULL' if self._durability == 'power' else 'NORMAL'}")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA cache_size = -16000")  # KiB
        connection.execute("PRAGMA journal_size_limit = 67108864")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG}")  # a slow disk is waited for less often
        if self._durability == "power":
            self._lengthen_log(connection)
        return connection

    def begin(self, connection: sqlite3.Connection, *, writes: bool) -> bool:
        if not writes:
            connection.execute("BEGIN")
            return True
        connection.execute("BEGIN IMMEDIATE")
        version: int = connection.execute("PRAGMA data_version").fetchone()[0]
        changed = version != self._seen
        self._seen = version
        return changed

    def still(self, connection: sqlite3.Connection) -> bool:
        stamp = getattr(connection, "stamp", None)
        return stamp is None or stamp == self._stamp()

    def concerns_one(self, raised: Exception) -> bool:
        return not _name(raised).startswith(_CONCERNS_ALL)

    def error(self, raised: Exception) -> Exception:
        if not isinstance(raised, (sqlite3.Error, UnicodeError, OverflowError, OSError)):
            return raised
        name = _name(raised)
        error = ServiceError(f"{self._path}: {self._explain(name, raised)}")
        error.__cause__ = raised
        return error

    def vacuum(self, before: float) -> int:
        """Give unused space back, and remove what was begun before such a time and never finished; gives the bytes."""
        size = _size(self._path)
        try:
            connection = self.connect(writes=True)
            try:
                self.begin(connection, writes=True)
                _remove_leftovers(connection, before)
                connection.commit()
                connection.execute("VACUUM")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise self.error(error) from error
        return size - _size(self._path)

    def _explain(self, name: str, raised: Exception) -> str:
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return f"another process has it locked for longer than {self._lock_timeout:g} s; nothing was written"
        for start, told in _EXPLAINED.items():
            if name.startswith(start):
                return f"{told} ({raised})"
        return f"{type(raised).__name__}: {raised}; nothing was written"

    def _open(self, how: str) -> sqlite3.Connection:
        return sqlite3.connect(
            f"{self._path.as_uri()}?{how}",
            uri=True,
            timeout=self._lock_timeout,
            isolation_level=None,
            check_same_thread=False,
            factory=self.factory,
        )

    def _open_to_read(self) -> sqlite3.Connection:
        """A connection that can't write.

        With write-ahead logging SQLite makes files beside this one even to read it. A store that only reads leaves the
        folder as it is, and some folders can't be written to. So where nothing waits in a log, the file alone is read,
        as one that doesn't change, and whether it did is asked after each reading (`still`).
        """
        stamp = self._settled() if self._read_only else None
        if stamp is None:
            connection = self._open("mode=ro" if self._read_only else "mode=rw")
            try:
                connection.execute("SELECT 1 FROM sqlite_master").fetchone()
                connection.execute("PRAGMA query_only = ON")
                return connection
            except sqlite3.OperationalError as error:
                connection.close()
                if _name(error) not in _NEEDS_FOLDER or not os.access(self._path, os.R_OK):
                    raise
                stamp = self._settled()
                if stamp is None:
                    raise ServiceError(
                        f"{self._path}: what was written last is in a log beside it that can't be used, since the "
                        f"folder can't be written to: copy {self._path.name}* to a folder of yours"
                    ) from error
        connection = self._open("mode=ro&immutable=1")
        connection.stamp = stamp  # type: ignore[attr-defined]  # a subclass has it, or can be given it
        return connection

    def _lengthen_log(self, connection: sqlite3.Connection) -> None:
        """Make the log as long as it gets: the disk syncs what is written over sooner than what makes a file longer.

        What a transaction can't keep in memory goes to the log, and stays there, worth nothing, when it is undone.
        """
        log = self._path.with_name(self._path.name + "-wal")
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
        (page,) = connection.execute("PRAGMA page_size").fetchone()
        if mode != "wal" or (log.exists() and log.stat().st_size >= _LOG * page):
            return
        connection.execute("PRAGMA busy_timeout = 0")  # this isn't worth waiting for another process
        connection.execute("PRAGMA cache_size = 10")
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("CREATE TABLE af_log (content)")
            connection.execute("INSERT INTO af_log VALUES (zeroblob(?))", [_LOG * page])
        except sqlite3.OperationalError:
            logger.debug("%s: its log stays short", self._path, exc_info=True)  # whoever writes will hear of it
        finally:
            if connection.in_transaction:
                connection.rollback()
        connection.execute("PRAGMA cache_size = -16000")
        connection.execute(f"PRAGMA busy_timeout = {int(self._lock_timeout * 1000)}")

    def _settled(self) -> _Stamp | None:
        """The file's stamp, such that whatever is written from now on changes it; `None` where a log is in use."""
        while True:
            stamp = self._stamp()
            if stamp is None or not 0 <= time.time() - stamp[0] / 1e9 < _TICK:
                return stamp
            time.sleep(_TICK)

    def _stamp(self) -> _Stamp | None:
        """What tells whether the file was written to, when nothing of it is in a log."""
        try:
            if any(_bytes(self._path.with_name(self._path.name + end)) for end in ("-wal", "-journal")):
                return None
            found = self._path.stat()
        except OSError:
            return None
        return found.st_ctime_ns, found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev

    def _prepare(self) -> None:
        """See what the file is; make it, or bring its tables up to date."""
        if sqlite3.sqlite_version_info < _OLDEST:
            raise ConfigError(f"SQLiteStore needs SQLite 3.35 or newer; this Python has {sqlite3.sqlite_version}")
        if not self._read_only and not self._path.exists():
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))  # what agents are told is nobody else's affair
        self.found = self._look()
        if self.found == HEAD:
            return
        if self._read_only:
            check(self.found, str(self._path))
            if self.found is None:
                raise ServiceError(f"{self._path}: nothing was ever stored in it")
            raise ServiceError(f"{self._path}: its tables are of an older version: `agentflow db upgrade` renews them")
        connection = self._open("mode=rw")
        try:
            self._use_wal(connection)
            self._upgrade(connection)
        finally:
            connection.close()

    def _look(self) -> str | None:
        """The revision of the file's tables, as they are now."""
        while True:
            connection = self._open_to_read()
            try:
                connection.execute("BEGIN")  # others may be making it
                found = self._revision(connection)
            except (sqlite3.Error, ServiceError):
                if self.still(connection):
                    raise
            else:
                if self.still(connection):
                    return found
            finally:
                connection.close()

    def _revision(self, connection: sqlite3.Connection) -> str | None:
        (marked,) = connection.execute("PRAGMA application_id").fetchone()
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        if marked != APPLICATION_ID and (marked or tables):
            raise ServiceError(f"{self._path}: this is a database of something else: choose another file")
        if VERSION_TABLE not in tables:
            return None
        row = connection.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchone()
        return row[0] if row else None

    def _use_wal(self, connection: sqlite3.Connection) -> None:
        end = time.monotonic() + self._lock_timeout
        mode = ""
        while not mode:
            try:
                (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            except sqlite3.OperationalError as error:  # who changes the mode isn't waited for
                if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() > end:
                    raise
                time.sleep(0.01)
        if mode != "wal":
            logger.warning("%s can't use write-ahead logging here (%s): readers and writers wait for each other",
                           self._path, mode)  # fmt: skip

    def _upgrade(self, raw: sqlite3.Connection) -> None:
        """Bring the tables up to date, all of it in one transaction that shuts everybody else out."""
        engine = create_engine("sqlite://", creator=lambda: raw, poolclass=StaticPool)
        # In a transaction of the engine's, or Alembic would commit after each step, before the file is marked as ours.
        with engine.connect() as connection, connection.begin():
            raw.execute("BEGIN EXCLUSIVE")  # not before: an engine's first connection is rolled back
            try:
                self.found = self._revision(raw)  # another process may have been faster
                upgrade(connection, self.found, str(self._path))
                raw.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                raw.commit()
            except DBAPIError as error:
                raw.rollback()
                raise error.orig or error from error
            except BaseException:
                raw.rollback()
                raise


_CONCERNS_ALL = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_NOTADB")
_NEEDS_FOLDER = ("SQLITE_CANTOPEN", "SQLITE_READONLY_DIRECTORY", "SQLITE_READONLY_CANTINIT")
_EXPLAINED = {
    "SQLITE_NOTADB": "this file is no SQLite database: choose another one",
    "SQLITE_CORRUPT": "the file is damaged; `check` says where",
    "SQLITE_READONLY": "the file can't be written to; nothing was written",
    "SQLITE_FULL": "the disk is full; nothing was written",
    "SQLITE_IOERR": "the disk failed; nothing was written",
    "SQLITE_CANTOPEN": "the file can't be opened: is its folder there, and yours?",
    "SQLITE_TOOBIG": "one value is larger than SQLite can store; nothing was written",
    "SQLITE_PERM": "the file can't be accessed",
}


def _name(raised: Exception) -> str:
    return str(getattr(raised, "sqlite_errorname", ""))


def _size(path: Path) -> int:
    return _bytes(path) + _bytes(path.with_name(path.name + "-wal"))


def _bytes(path: Path) -> int:
    """The size of a file; 0 if it isn't there."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _remove_leftovers(connection: sqlite3.Connection, before: float) -> None:
    """Remove sessions that were being restored and files that were being saved when their process ended."""
    gone = "SELECT id FROM af_sessions WHERE app = '' AND created_at < ?"
    runs = f"SELECT id FROM af_runs WHERE session IN ({gone})"
    for query in (
        f"DELETE FROM af_events WHERE run IN ({runs})",
        f"DELETE FROM af_lines WHERE run IN ({runs})",
        f"DELETE FROM af_runs WHERE session IN ({gone})",
        "DELETE FROM af_sessions WHERE app = '' AND created_at < ?",
    ):
        connection.execute(query, [before])
    gone = "SELECT id FROM af_files WHERE version IS NULL AND created_at < ?"
    connection.execute(f"DELETE FROM af_chunks WHERE file IN ({gone})", [before])
    connection.execute("DELETE FROM af_files WHERE version IS NULL AND created_at < ?", [before])


def problems(connection: sqlite3.Connection) -> list[str]:
    """Read all of a file, and say what is wrong with it."""
    values = {"mask": (1 << SERIAL_BITS) - 1, "bits": SERIAL_BITS}
    asked = {
        "{}": "SELECT * FROM pragma_integrity_check(20) WHERE integrity_check <> 'ok'",
        "row {1} of {0} belongs to nothing in {2}": "SELECT * FROM pragma_foreign_key_check",
        "session {}/{}/{}: {} events, but the last is number {}": (
            'SELECT s.app, s."user", s.name, count(*), max(e.id & :mask) FROM af_events e '
            "JOIN af_sessions s ON s.id = e.id >> :bits GROUP BY s.id HAVING count(*) <> max(e.id & :mask)"
        ),
        "run {}, branch {!r}: {} events, but the last is number {}": (
            "SELECT r.run, l.branch, count(*), max(e.seq) FROM af_events e JOIN af_lines l ON l.id = e.line "
            "JOIN af_runs r ON r.id = l.run GROUP BY l.id HAVING count(*) <> max(e.seq)"
        ),
        "event {} of session number {} is no JSON": (
            "SELECT id & :mask, id >> :bits FROM af_events WHERE NOT json_valid(body)"
        ),
        "state {!r} of {}/{} is no JSON": 'SELECT name, app, "user" FROM af_state WHERE NOT json_valid(value)',
        "version {} of file {!r}: {} bytes, but {} are stored": (
            "SELECT f.version, f.filename, f.size_bytes, coalesce(sum(length(c.data)), 0) FROM af_files f "
            "LEFT JOIN af_chunks c ON c.file = f.id WHERE f.version IS NOT NULL GROUP BY f.id "
            "HAVING f.size_bytes <> coalesce(sum(length(c.data)), 0)"
        ),
    }
    problems: list[str] = []
    for told, query in asked.items():
        used = {name: value for name, value in values.items() if f":{name}" in query}
        try:
            problems += [told.format(*row) for row in connection.execute(query, used).fetchmany(20)]
        except sqlite3.DatabaseError as error:
            problems.append(str(error))
    return list(dict.fromkeys(problems))
