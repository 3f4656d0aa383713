"""Statements for many rows at once, in text that SQLAlchemy compiled once for the dialect.

What a group of rows costs is not the rows: the driver gives Python's lock up at every step of a
statement, and has to win it back from the reactor.  So a group is written in statements of 256,
128, ... 1 rows, each compiled when its size is first met, and looked up in answers of one row.
PostgreSQL gets the statement of one row, prepared, for all rows in one pipeline.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any

from sqlalchemy import (
    BindParameter,
    Column,
    ColumnElement,
    Dialect,
    Executable,
    Select,
    Table,
    Values,
    bindparam,
    column,
    insert,
    update,
)
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.dml import Insert, Update

ROWS_AT_MOST = 256
"""Rows, or keys, of one statement: at 29 columns well below what SQLite and PostgreSQL take."""

Row = tuple[Any, ...]
Binds = list[BindParameter[Any]]


class Statement:
    """A statement, compiled once, and run with values in the order of its binds."""

    def __init__(self, statement: Executable, binds: Iterable[Binds], dialect: Dialect) -> None:
        compiled = statement.compile(  # type: ignore[attr-defined]
            dialect=dialect, compile_kwargs={"render_postcompile": True}
        )
        names = [bind.key for bind in chain.from_iterable(binds)]
        self._text = str(compiled)
        self._names = None if compiled.positional else names
        assert self._names or compiled.positiontup == names, "values come in the order of the rows"

    @classmethod
    def finding(cls, what: Select[Any], key: Column[Any], dialect: Dialect) -> Statement:
        """Selects ``what`` where ``key`` is the value it is run with."""
        bind = _bind(key, 0)
        return cls(what.where(key == bind), [[bind]], dialect)

    def run(self, cursor: DBAPICursor, values: Sequence[Any]) -> None:
        """Run it once."""
        names = self._names
        cursor.execute(
            self._text, values if names is None else dict(zip(names, values, strict=True))
        )

    def find(self, cursor: DBAPICursor, key: str) -> Any:
        """The first row it selects for a key, or None."""
        self.run(cursor, (key,))
        return cursor.fetchone()

    def run_each(self, cursor: DBAPICursor, rows: Sequence[Row]) -> None:
        """Run it for every row, where values have names."""
        names = self._names
        assert names is not None, "rows of a driver whose values have names"
        cursor.executemany(self._text, [dict(zip(names, row, strict=True)) for row in rows])


class ManyRows:
    """Writes any number of rows: ``build`` makes the statement for as many rows of binds.

    ``one`` writes a single row at the least cost.
    """

    def __init__(
        self,
        build: Callable[[list[Binds]], Executable],
        columns: Sequence[Column[Any]],
        dialect: Dialect,
    ) -> None:
        self._build = build
        self._columns = columns
        self._dialect = dialect
        self._texts: dict[int, Statement] = {}
        self.one = self._text(1)

    def run(self, cursor: DBAPICursor, rows: Sequence[Row]) -> int:
        """Write the rows, in their order; how many rows of the table were touched."""
        if rows and not self._dialect.positional:
            # PostgreSQL: its driver reads a long statement anew each time, which takes far longer
            # than sending a short one, prepared, for each row in a pipeline.
            self.one.run_each(cursor, rows)
            return cursor.rowcount
        touched = start = 0
        while left := len(rows) - start:
            size = min(ROWS_AT_MOST, 1 << (left.bit_length() - 1))
            values = list(chain.from_iterable(rows[start : start + size]))
            self._text(size).run(cursor, values)
            touched += cursor.rowcount
            start += size
        return touched

    def _text(self, size: int) -> Statement:
        if size not in self._texts:
            binds = [_binds(self._columns, number) for number in range(size)]
            self._texts[size] = Statement(self._build(binds), binds, self._dialect)
        return self._texts[size]


class LookUp:
    """Finds what is kept of any number of keys: ``build`` selects, for as many keys, one value of
    one row (an aggregate), or NULL where none is there."""

    def __init__(
        self, build: Callable[[Binds], Select[Any]], key: Column[Any], dialect: Dialect
    ) -> None:
        self._build = build
        self._key = key
        self._dialect = dialect
        self._texts: dict[int, Statement] = {}

    def run(self, cursor: DBAPICursor, keys: Sequence[str]) -> list[str]:
        """The answers of its statements that are not NULL."""
        found: list[str] = []
        for start in range(0, len(keys), ROWS_AT_MOST):
            some = keys[start : start + ROWS_AT_MOST]
            size = 1 << (len(some) - 1).bit_length()
            values = [*some, *[some[-1]] * (size - len(some))]
            self._text(size).run(cursor, values)
            found += [answer for (answer,) in cursor.fetchall() if answer is not None]
        return found

    def _text(self, size: int) -> Statement:
        if size not in self._texts:
            binds = [_bind(self._key, number) for number in range(size)]
            self._texts[size] = Statement(self._build(binds), [binds], self._dialect)
        return self._texts[size]


def inserting(table: Table) -> Callable[[list[Binds]], Insert]:
    """Statements that insert rows with the values of all columns."""

    def build(rows: list[Binds]) -> Insert:
        names = table.columns.keys()
        return insert(table).values([dict(zip(names, row, strict=True)) for row in rows])

    return build


def updating(
    table: Table, columns: Sequence[Column[Any]], only: ColumnElement[bool]
) -> Callable[[list[Binds]], Update]:
    """Statements that set ``columns`` in the rows, among those that are ``only`` such, whose
    primary key is the last value of each row.  No two rows of one call may have one key."""
    (key,) = table.primary_key.columns
    # The names are those that SQLite gives to columns of VALUES.
    names = [
        column(f"column{number}", each.type) for number, each in enumerate((*columns, key), start=1)
    ]

    def build(rows: list[Binds]) -> Update:
        new: Sequence[ColumnElement[Any]] = rows[0]
        if len(rows) > 1:
            new = [*_Changed(*names, name="changed").data([tuple(row) for row in rows]).c]
        *wanted, kept = new
        changes = {each.name: value for each, value in zip(columns, wanted, strict=True)}
        return update(table).where(key == kept, only).values(changes)

    return build


class _Changed(Values):
    """VALUES as a table: SQLite knows no names for its columns but its own."""

    inherit_cache = False


@compiles(_Changed, "sqlite")
def _without_names(element: _Changed, compiler: SQLCompiler, **kwargs: Any) -> str:
    text: str = compiler.visit_values(element, **kwargs)  # type: ignore[no-untyped-call]
    names = ", ".join(each.name for each in element.c)
    return text.removesuffix(f" ({names})")


def _binds(columns: Sequence[Column[Any]], number: int) -> Binds:
    return [_bind(each, number) for each in columns]


def _bind(column: Column[Any], number: int) -> BindParameter[Any]:
    return bindparam(f"{column.name}_{number}", None, type_=column.type)
