"""The first tables.

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_id = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def _text(name: str, **options: object) -> "sa.Column[str]":
    return sa.Column(name, sa.Text, nullable=False, **options)  # type: ignore[arg-type]  # Column's own options


def upgrade() -> None:
    """Make all tables."""
    _sessions()
    _log()
    _artifacts()
    _memory()


def _sessions() -> None:
    op.create_table(
        "af_sessions",
        sa.Column("id", _id, primary_key=True, autoincrement=True),
        _text("app"),
        _text("user"),
        _text("name"),
        _text("title", server_default=""),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("changed", sa.BigInteger, nullable=False),
        _text("initial"),
        sa.UniqueConstraint("app", "user", "name", name="af_sessions_key"),
        sqlite_autoincrement=True,
    )
    op.create_index("af_sessions_changed", "af_sessions", ["changed"])
    op.create_index("af_sessions_app", "af_sessions", ["app", "changed"])
    op.create_index("af_sessions_user", "af_sessions", ["app", "user", "changed"])
    op.create_table(
        "af_state",
        _text("app", primary_key=True),
        _text("user", primary_key=True),
        sa.Column("session", sa.BigInteger, primary_key=True, autoincrement=False),
        _text("name", primary_key=True),
        _text("value"),
        sqlite_with_rowid=False,
    )


def _log() -> None:
    op.create_table(
        "af_runs",
        sa.Column("id", _id, primary_key=True, autoincrement=True),
        sa.Column("session", sa.BigInteger, sa.ForeignKey("af_sessions.id"), nullable=False),
        _text("run"),
        sa.Column("status", sa.Text),
        sa.Column("epoch", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("owner", sa.Text),
        sa.Column("heartbeat_at", sa.Double),
        sa.Column("deadline_at", sa.Double),
        sa.Column("tree_fingerprint", sa.Text),
        sa.Column("tree", sa.Text),
        sa.Column("input", sa.Text),
        sa.UniqueConstraint("session", "run", name="af_runs_key"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "af_lines",
        sa.Column("id", _id, primary_key=True, autoincrement=True),
        sa.Column("run", sa.BigInteger, sa.ForeignKey("af_runs.id"), nullable=False),
        _text("branch"),
        sa.UniqueConstraint("run", "branch", name="af_lines_key"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "af_leases",
        sa.Column("line", sa.BigInteger, sa.ForeignKey("af_lines.id"), primary_key=True, autoincrement=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("owner", sa.Text),
        sa.Column("heartbeat_at", sa.Double),
    )
    op.create_table(
        "af_events",
        sa.Column("id", _id, primary_key=True, autoincrement=False),
        sa.Column("run", sa.BigInteger, nullable=False),
        sa.Column("line", sa.BigInteger, nullable=False),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("timestamp", sa.Double, nullable=False),
        _text("body"),
        sa.UniqueConstraint("run", "seq", "line", name="af_events_key"),
    )


def _artifacts() -> None:
    op.create_table(
        "af_files",
        sa.Column("id", _id, primary_key=True, autoincrement=True),
        _text("app"),
        _text("user"),
        _text("session"),
        _text("filename"),
        sa.Column("version", sa.Integer),
        _text("mime_type"),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        _text("sha256"),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.UniqueConstraint("app", "user", "session", "filename", "version", name="af_files_key"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "af_file_versions",
        _text("app", primary_key=True),
        _text("user", primary_key=True),
        _text("session", primary_key=True),
        _text("filename", primary_key=True),
        sa.Column("last", sa.Integer, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "af_chunks",
        sa.Column("file", sa.BigInteger, sa.ForeignKey("af_files.id"), primary_key=True, autoincrement=False),
        sa.Column("place", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
    )


def _memory() -> None:
    op.create_table(
        "af_memories",
        sa.Column("id", _id, primary_key=True, autoincrement=True),
        _text("app"),
        _text("user"),
        _text("session"),
        _text("author"),
        sa.Column("timestamp", sa.Double, nullable=False),
    )
    op.create_index("af_memories_session", "af_memories", ["app", "user", "session"])
    if op.get_bind().dialect.name == "sqlite":
        # Its rowid is the memory's id; `scope` holds a word for each user of each app, to search theirs alone.
        op.execute(
            'CREATE VIRTUAL TABLE af_memory_words USING fts5(scope, text, tokenize = "unicode61 remove_diacritics 2")'
        )
