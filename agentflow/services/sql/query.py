"""Statements of SQLAlchemy Core, compiled once and run on the driver's own connection, and what a driver is.

Core says what is asked, in every database's words; running it through its `Connection` costs more than SQLite's answer.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

from sqlalchemy import BigInteger, BindParameter, Dialect, Table, bindparam
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ClauseElement

Row = tuple[Any, ...]
NO_LIMIT = 2**62
"""What `:limit` is when all are wanted."""

_ROWS = 128
"""The most rows that one statement inserts."""


def param(name: str) -> BindParameter[Any]:
    """A value that is given when the statement is run."""
    return bindparam(name)


def whole(name: str) -> BindParameter[Any]:
    """The same for a whole number that may be used in a sum."""
    return bindparam(name, type_=BigInteger)


class Driver(ABC):
    """What databases do differently. Its methods are called in the threads of a `Database`.

    Attributes:
        dialect: What SQLAlchemy compiles for.
    """

    dialect: Dialect

    insert: Callable[[Table], Any]
    """The dialect's own `insert`, which can say what to do on a conflict."""

    @abstractmethod
    def connect(self, *, writes: bool) -> Any:
        """A DBAPI connection in autocommit mode; the one that writes brings the tables up to date first."""

    @abstractmethod
    def begin(self, connection: Any, *, writes: bool) -> bool:
        """Begin a transaction; gives whether someone else may have written since this connection's last one."""

    def still(self, connection: Any) -> bool:
        """Whether what was read since `begin` is one state of the database; if not, it is read again, elsewhere."""
        return True

    @abstractmethod
    def error(self, raised: Exception) -> Exception:
        """A `ServiceError` for what the driver raised; anything else as it is."""

    @abstractmethod
    def concerns_one(self, raised: Exception) -> bool:
        """Whether of several writes in one transaction others might succeed without the one that raised this."""


class Query:
    """One statement."""

    def __init__(self, driver: Driver, statement: Executable) -> None:
        self._dialect = driver.dialect
        self._statement = statement
        self._compiled: SQLCompiler | None = None
        self._text = ""
        self._texts: dict[int, str] = {}
        self._names: Sequence[str] = ()
        self._defaults: Mapping[str, Any] = {}

    @property
    def text(self) -> str:
        """Its SQL."""
        if self._compiled is None:
            assert isinstance(self._statement, ClauseElement)
            compiled = self._statement.compile(dialect=self._dialect)
            assert isinstance(compiled, SQLCompiler)
            self._text, self._defaults = compiled.string, compiled.params
            self._names = compiled.positiontup or ()
            self._compiled = compiled
        return self._text

    def all(self, connection: Any, **values: Any) -> list[Row]:
        """All its rows."""
        rows: list[Row] = self._run(connection, values).fetchall()
        return rows

    def one(self, connection: Any, **values: Any) -> Row | None:
        """Its first row."""
        row: Row | None = self._run(connection, values).fetchone()
        return row

    def run(self, connection: Any, **values: Any) -> int:
        """Run it; gives how many rows it changed."""
        count: int = self._run(connection, values).rowcount
        return count

    def many(self, connection: Any, rows: Sequence[Row]) -> None:
        """Run an `INSERT` for each of `rows`, whose values are in the order of the statement's.

        As few statements as can be: at each one the thread lets go of the interpreter, and a busy event loop may keep
        it for milliseconds.
        """
        cursor = connection.cursor()
        text = self.text
        if not self._names:
            cursor.executemany(text, [dict(zip(self._defaults, row, strict=True)) for row in rows])
            return
        done, size = 0, _ROWS
        while done < len(rows):
            while size > len(rows) - done:
                size //= 2
            cursor.execute(self._text_of(size), list(chain.from_iterable(rows[done : done + size])))
            done += size

    def _run(self, connection: Any, values: Mapping[str, Any]) -> Any:
        cursor = connection.cursor()
        text = self.text
        if self._names:
            defaults = self._defaults
            cursor.execute(text, [values[name] if name in values else defaults[name] for name in self._names])
        else:
            cursor.execute(text, {**self._defaults, **values})
        return cursor

    def _text_of(self, size: int) -> str:
        """Its SQL for so many rows."""
        text = self._texts.get(size)
        if text is None:
            row = self.text[self.text.index(" VALUES ") + len(" VALUES ") :]
            text = self._texts[size] = ", ".join([self.text, *[row] * (size - 1)])
        return text
