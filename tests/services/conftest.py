"""Stores in files of their own, quickly: each is a copy of one that is new."""

import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path

import anyio
import pytest

from agentflow import SQLiteStore


@pytest.fixture(scope="session")
def empty(tmp_path_factory) -> Path:
    """A store's file that is new. Making one takes longer than most tests."""
    path = tmp_path_factory.mktemp("stores") / "empty.db"

    async def make() -> None:
        async with SQLiteStore(path) as store:
            await store.upgrade()

    anyio.run(make)
    return path


@pytest.fixture
def new_store(empty: Path, tmp_path: Path) -> Callable[..., SQLiteStore]:
    """Makes a store on a file of its own; takes what `SQLiteStore` takes besides the path."""
    numbers = count(1)

    def new(**settings: object) -> SQLiteStore:
        return SQLiteStore(shutil.copy(empty, tmp_path / f"{next(numbers)}.db"), **settings)

    return new
