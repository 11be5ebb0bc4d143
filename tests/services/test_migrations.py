"""The tables in a file are those that the code knows, whatever version made it; an upgrade is whole or not at all."""

import sqlite3
from pathlib import Path

import pytest
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect

from agentflow import ServiceError, SessionKey, SQLiteStore
from agentflow.services.sql import migrate
from agentflow.services.sql.query import Query
from agentflow.services.sql.schema import metadata


def test_the_migrations_make_the_tables_that_the_code_knows(empty: Path) -> None:
    """Columns, types, keys and indexes. Alembic compares no primary keys and no defaults: SQLAlchemy does it here."""
    from alembic.autogenerate import compare_metadata

    engine = create_engine(f"sqlite:///{empty}")
    try:
        with engine.connect() as connection:
            context = MigrationContext.configure(
                connection,
                opts={
                    "compare_type": True,
                    "include_name": lambda name, kind, _: kind != "table" or "_words" not in name,
                },
            )
            found = [change for change in compare_metadata(context, metadata) if "af_version" not in str(change)]
            assert found == []
            known = inspect(connection)
            for table in metadata.tables.values():
                assert set(known.get_pk_constraint(table.name)["constrained_columns"]) == {
                    column.name for column in table.primary_key
                }
                assert [column["nullable"] for column in known.get_columns(table.name)] == [
                    column.nullable for column in table.columns
                ]
    finally:
        engine.dispose()


async def test_no_query_reads_a_whole_table(empty: Path) -> None:
    """Each is answered by a key or an index, so that what is asked costs the same however much there is."""
    async with SQLiteStore(empty) as store:
        services = [store.sessions._q, store.sessions._state, store.artifacts._q, store.memory]
        queries = {name: query for service in services for name, query in vars(service).items() if type(query) is Query}
        assert len(queries) > 40
        for name, query in queries.items():
            values = [query._defaults.get(name) or "1" for name in query._names] if query.text else []
            asked = f"EXPLAIN QUERY PLAN {query.text}"
            plan = await store._database.read(lambda c, asked=asked, values=values: c.execute(asked, values).fetchall())
            steps = [step for *_, step in plan if step.startswith("SCAN") and "VIRTUAL TABLE" not in step]
            assert steps == [], name


def test_the_head_is_the_last_migration() -> None:
    assert ScriptDirectory(str(migrate._SCRIPTS)).get_heads() == [migrate.HEAD]


async def test_a_file_that_the_first_version_made_opens_with_all_that_is_in_it(tmp_path: Path) -> None:
    """`golden-0001.sql` was written once, and is never written again."""
    golden = Path(__file__).parent / "golden-0001.sql"
    path = tmp_path / "golden.db"
    connection = sqlite3.connect(path)
    connection.executescript(golden.read_text(encoding="utf-8"))
    connection.execute("PRAGMA application_id = 0x61666C77")
    connection.close()
    async with SQLiteStore(path) as store:
        key = SessionKey("shop", "ada", "s1")
        session = await store.sessions.get(key)
        assert (session.title, session.version) == ("Owls", 4)
        assert [event.text for event in session.events if event.text] == ["About owls?", "Owls hunt at night."]
        assert session.state == {"topic": "owls", "user:name": "Ada", "app:theme": "dark", "seen": [1, None, "🦉"]}
        assert (await store.artifacts.load(key, "owl.txt")).text == "hoo"
        assert [hit.text for hit in await store.memory.search("shop", "ada", "night")] == ["Owls hunt at night."]
        assert await store.check() == []


@pytest.mark.parametrize("at", [1, 3, 8, 15])
async def test_an_upgrade_that_fails_half_way_leaves_nothing(tmp_path: Path, at: int) -> None:
    class Connection(sqlite3.Connection):
        made = 0

        def cursor(self, *args):
            class Cursor(sqlite3.Cursor):
                def execute(self, sql, *values):
                    if sql.lstrip().startswith("CREATE"):
                        Connection.made += 1
                        if Connection.made == at:
                            raise sqlite3.OperationalError("disk I/O error")
                    return super().execute(sql, *values)

            return super().cursor(Cursor)

    path = tmp_path / "new.db"
    async with SQLiteStore(path) as store:
        store._driver.factory = Connection
        with pytest.raises(ServiceError, match="disk I/O error"):
            await store.upgrade()
        connection = sqlite3.connect(path)
        assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
        connection.close()
        await store.sessions.create("app", "ada", "s1")
        assert await store.check() == []


async def test_an_upgrade_is_seen_whole_or_not_at_all(tmp_path: Path) -> None:
    """Whoever looks between any two steps finds an empty file, or one that is ready and marked as a store."""
    path, seen = tmp_path / "new.db", []

    class Connection(sqlite3.Connection):
        def commit(self):
            super().commit()
            other = sqlite3.connect(path)
            (tables,) = other.execute("SELECT count(*) FROM sqlite_master").fetchone()
            (marked,) = other.execute("PRAGMA application_id").fetchone()
            other.close()
            seen.append((tables > 0, marked > 0))

    async with SQLiteStore(path) as store:
        store._driver.factory = Connection
        await store.upgrade()
    assert set(seen) == {(True, True)}
