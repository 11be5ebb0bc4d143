"""Sessions, artifacts and memory in one SQLite file."""

import time
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from anyio import to_thread

from agentflow._settings import check_flags, check_functions
from agentflow.errors import ConfigError
from agentflow.services.artifacts import ArtifactService
from agentflow.services.memory import MemoryService
from agentflow.services.sessions import SessionService

Durability = Literal["process", "power"]

_LEFTOVER = 24 * 3600.0
"""Seconds after which what was written aside and never finished is nobody's any more."""


class SQLiteStore:
    """One SQLite file for everything: `Runner(agent, sessions=store.sessions, artifacts=store.artifacts, ...)`.

    The file is made, and its tables are brought up to date, when it is first used. Several processes may use one file.
    Close the store when its last Runner has ended; it is an async context manager for that.

    Args:
        path: The file. Its folder must be there, on a local disk.
        durability: What survives once an event is acknowledged: `"process"`, the end of the process, however violent,
            and of the system in all but the last moments; `"power"`, that of the machine too, at the price of waiting
            for the disk at each commit, and of 16 MB of log beside the file while it is open.
        lock_timeout: Seconds to wait while another process writes.
        commit_timeout: Seconds after which a write that wasn't answered is given up on (`CommitUnknown`).
        read_only: Never write to the file. It must be there, with tables of this version; its folder may be one that
            can't be written to.
        time: What tells the time.

    Attributes:
        path: The file.
        sessions: Its sessions.
        artifacts: Its artifacts.
        memory: Its memory.

    Raises:
        ConfigError: A setting can't work, or the extra `sqlite` isn't installed.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        durability: Durability = "process",
        lock_timeout: float = 10.0,
        commit_timeout: float = 60.0,
        read_only: bool = False,
        time: Callable[[], float] = time.time,
    ) -> None:
        if not isinstance(path, (str, PathLike)):
            raise ConfigError(f"SQLiteStore needs the path of a file, not {path!r}")
        if str(path) in ("", ":memory:") or str(path).startswith("file:"):
            raise ConfigError(f"SQLiteStore needs the path of a file, not {str(path)!r}")
        if durability not in ("process", "power"):
            raise ConfigError(f"durability must be 'process' or 'power', not {durability!r}")
        check_flags("SQLiteStore", read_only=read_only)
        check_functions("SQLiteStore", time=time)
        for name, value in (("lock_timeout", lock_timeout), ("commit_timeout", commit_timeout)):
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise ConfigError(f"SQLiteStore: {name} must be a number of seconds, not {value!r}")
        if not 0 <= lock_timeout < commit_timeout:
            raise ConfigError("lock_timeout must be 0 or more, and commit_timeout more than that")
        if find_spec("sqlalchemy") is None:
            raise ConfigError("SQLiteStore needs the extra `sqlite`: pip install 'agentflow-py[sqlite]'")
        self.path = Path(path).absolute()
        self._time = time
        self._parts = parts = import_module("agentflow.services._sqlite")
        self._driver = parts.SQLiteDriver(self.path, durability, lock_timeout, read_only)
        self._database = parts.Database(self._driver, timeout=commit_timeout, name=f"agentflow {self.path.name}")
        self.sessions: SessionService = parts.SQLSessionService(self._database, time=time)
        self.artifacts: ArtifactService = parts.SQLArtifactService(self._database, time=time)
        self.memory: MemoryService = parts.SQLiteMemoryService(self._database)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Finish what was asked for and close the file. Closing twice is no error."""
        await self._database.aclose()

    async def upgrade(self) -> tuple[str | None, str]:
        """Bring the tables up to date, as any first use does; gives their revision before and now.

        Before is `None` for a file that was new.

        Raises:
            ServiceError: It can't be opened, or is from a newer version.
        """
        await self._database.read(lambda _: None)
        return self._driver.found, self._parts.HEAD

    async def check(self) -> list[str]:
        """Read all of the file and say what is wrong with it; nothing, if nothing is.

        Raises:
            ServiceError: It can't be read at all.
        """
        found: list[str] = await self._database.read(self._parts.problems)
        return found

    async def vacuum(self) -> int:
        """Give the file's unused space back, and remove what was never finished; gives the bytes that were saved.

        Others can't write meanwhile: not while agents run.

        Raises:
            ServiceError: It failed; nothing was changed.
        """
        return await to_thread.run_sync(self._driver.vacuum, self._time() - _LEFTOVER)
