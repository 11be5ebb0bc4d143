"""Brings a database's tables up to date: Alembic, without its files, in one locked transaction."""

from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from agentflow.errors import ServiceError

HEAD = "0001"
"""The revision that this version's tables have."""

VERSION_TABLE = "af_version"
_SCRIPTS = Path(__file__).parent / "migrations"


def check(found: str | None, name: str) -> None:
    """Refuse the database called `name` if its tables, of revision `found`, are newer than this version knows.

    Raises:
        ServiceError: They are.
    """
    from alembic.script import ScriptDirectory  # as below

    _check(ScriptDirectory(str(_SCRIPTS)), found, name)


def upgrade(connection: Connection, found: str | None, name: str) -> None:
    """Run the migrations of the database called `name` from revision `found` on, in the transaction that is open.

    Raises:
        ServiceError: The tables are newer than this version knows.
    """
    if found == HEAD:
        return
    # Alembic takes as long to import as all of the rest, and is needed once in a file's life.
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(_SCRIPTS))
    _check(scripts, found, name)

    def steps(revision: Any, _: Any) -> Any:
        return scripts._upgrade_revs("head", revision)

    with EnvironmentContext(Config(), scripts, fn=steps, destination_rev="head") as environment:
        environment.configure(connection=connection, version_table=VERSION_TABLE, transactional_ddl=False)
        environment.run_migrations()


def _check(scripts: Any, found: str | None, name: str) -> None:
    if found is not None and found not in {script.revision for script in scripts.walk_revisions()}:
        raise ServiceError(
            f"{name}: it was written by a newer version of agentflow (its tables are revision {found}, this one knows "
            f"{HEAD}): update agentflow to open it"
        )
