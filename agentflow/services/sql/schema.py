"""The tables. What changes here needs a migration; `tests/services/test_migrations.py` compares the two.

An event's `id` is its session's id and its serial in one integer: a session's events lie together, in their order, and
need no index of their own for it. Its other key is run, branch and seq, the names written down once, as a run and its
lines. That index begins with run and seq: what a run's branches write at one moment lies together there, and a commit
changes one page of it, not one for each branch. JSON is text, which every database keeps as it is.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

SERIAL_BITS = 32
"""How many of an event's id are its serial."""

metadata = MetaData()
_id = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts by itself only what is called INTEGER

sessions = Table(
    "af_sessions",
    metadata,
    Column("id", _id, primary_key=True, autoincrement=True),
    Column("app", Text, nullable=False),  # empty while the session is being restored: nobody sees it
    Column("user", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("title", Text, nullable=False, server_default=""),
    Column("created_at", Double, nullable=False),
    Column("changed", BigInteger, nullable=False),
    Column("initial", Text, nullable=False),
    UniqueConstraint("app", "user", "name", name="af_sessions_key"),
    Index("af_sessions_changed", "changed"),
    Index("af_sessions_app", "app", "changed"),
    Index("af_sessions_user", "app", "user", "changed"),
    sqlite_autoincrement=True,
)

runs = Table(
    "af_runs",
    metadata,
    Column("id", _id, primary_key=True, autoincrement=True),
    Column("session", BigInteger, ForeignKey(sessions.c.id), nullable=False),
    Column("run", Text, nullable=False),
    # Of durable runs, which nobody writes yet: who owns one, what it is, and what it began with.
    Column("status", Text),
    Column("epoch", Integer, nullable=False, server_default=text("0")),
    Column("owner", Text),
    Column("heartbeat_at", Double),
    Column("deadline_at", Double),
    Column("tree_fingerprint", Text),
    Column("tree", Text),
    Column("input", Text),
    UniqueConstraint("session", "run", name="af_runs_key"),
    sqlite_autoincrement=True,
)

lines = Table(
    "af_lines",
    metadata,
    Column("id", _id, primary_key=True, autoincrement=True),
    Column("run", BigInteger, ForeignKey(runs.c.id), nullable=False),
    Column("branch", Text, nullable=False),
    UniqueConstraint("run", "branch", name="af_lines_key"),
    sqlite_autoincrement=True,
)

leases = Table(  # of durable runs whose branches are on several machines: written by nobody yet
    "af_leases",
    metadata,
    Column("line", BigInteger, ForeignKey(lines.c.id), primary_key=True, autoincrement=False),
    Column("epoch", Integer, nullable=False),
    Column("owner", Text),
    Column("heartbeat_at", Double),
)

events = Table(
    "af_events",
    metadata,
    Column("id", _id, primary_key=True, autoincrement=False),
    Column("run", BigInteger, nullable=False),
    Column("line", BigInteger, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("epoch", Integer, nullable=False, server_default=text("0")),  # of who wrote it
    Column("timestamp", Double, nullable=False),
    Column("body", Text, nullable=False),
    UniqueConstraint("run", "seq", "line", name="af_events_key"),
)

state = Table(
    "af_state",
    metadata,
    Column("app", Text, primary_key=True),
    Column("user", Text, primary_key=True),  # empty: the app's
    Column("session", BigInteger, primary_key=True, autoincrement=False),  # 0: the user's, or the app's
    Column("name", Text, primary_key=True),  # without its prefix
    Column("value", Text, nullable=False),
    sqlite_with_rowid=False,
)

files = Table(
    "af_files",
    metadata,
    Column("id", _id, primary_key=True, autoincrement=True),
    Column("app", Text, nullable=False),
    Column("user", Text, nullable=False),
    Column("session", Text, nullable=False),  # empty: the user's
    Column("filename", Text, nullable=False),
    Column("version", Integer),  # none while it is being written: nobody sees it
    Column("mime_type", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    UniqueConstraint("app", "user", "session", "filename", "version", name="af_files_key"),
    sqlite_autoincrement=True,
)

file_versions = Table(
    "af_file_versions",
    metadata,
    Column("app", Text, primary_key=True),
    Column("user", Text, primary_key=True),
    Column("session", Text, primary_key=True),
    Column("filename", Text, primary_key=True),
    Column("last", Integer, nullable=False),  # the highest version there ever was
    sqlite_with_rowid=False,
)

chunks = Table(
    "af_chunks",
    metadata,
    Column("file", BigInteger, ForeignKey(files.c.id), primary_key=True, autoincrement=False),
    Column("place", Integer, primary_key=True, autoincrement=False),
    Column("data", LargeBinary, nullable=False),
)

memories = Table(
    "af_memories",
    metadata,
    Column("id", _id, primary_key=True, autoincrement=True),
    Column("app", Text, nullable=False),
    Column("user", Text, nullable=False),
    Column("session", Text, nullable=False),
    Column("author", Text, nullable=False),
    Column("timestamp", Double, nullable=False),
    Index("af_memories_session", "app", "user", "session"),
)
