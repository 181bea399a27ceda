"""What there is to move, read from the catalogues of both sides: a table that lands later moves by itself."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import apsw

from dispatcher.move.errors import CannotMove

APART = frozenset({"meta", "counts"})  # are not copied row by row: the one says where a queue lives, the other sums
OURS = "move_"  # tables of the move itself
Row = tuple[Any, ...]
Key = tuple[Any, ...]


class Table(NamedTuple):
    """A table; `others` are its further unique columns, `types` those of the target's columns."""

    name: str
    columns: tuple[str, ...]
    kinds: tuple[str, ...]  # INTEGER, TEXT, BLOB or REAL
    key: tuple[str, ...]
    others: tuple[tuple[str, ...], ...]
    types: tuple[str, ...] = ()

    def key_of(self, row: Row) -> Key:
        """A row's key."""
        return self.values_of(row, self.key)

    def values_of(self, row: Row, columns: Sequence[str]) -> Row:
        """Some columns of a row."""
        return tuple(row[self.columns.index(column)] for column in columns)

    def types_of(self, columns: Sequence[str]) -> list[str]:
        """The target's types of some columns."""
        return [self.types[self.columns.index(column)] for column in columns]

    def read_key(self, text: str) -> Key:
        """A key as the change log and the progress marks hold it."""
        return tuple(json.loads(text))


class Piece(NamedTuple):
    """Rows of a table: the keys that were looked up, and those rows that exist."""

    table: Table
    keys: Sequence[Key]
    rows: Sequence[Row]


def read(db: apsw.Connection) -> list[Table]:
    """The tables of a queue's file, in the order in which they were made."""
    sql = "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY rowid"
    names = [row[0] for row in db.execute(sql) if not row[0].startswith(("sqlite_", OURS))]
    return [_read(db, name) for name in names if name not in APART]


def _read(db: apsw.Connection, name: str) -> Table:
    columns = list(db.execute("SELECT name, type, pk FROM pragma_table_info(?) ORDER BY cid", (name,)))
    primary = tuple(row[0] for row in sorted(columns, key=lambda row: row[2]) if row[2])
    found = db.execute(
        'SELECT name FROM pragma_index_list(?) WHERE "unique" AND NOT partial ORDER BY seq DESC', (name,)
    )
    uniques = [tuple(r[0] for r in db.execute("SELECT name FROM pragma_index_info(?)", index)) for index in list(found)]
    key = primary or (uniques[0] if uniques else ())
    if not key:
        raise CannotMove(f"table {name} has no key by which its rows could be followed")
    others = tuple(unique for unique in uniques if unique != key)
    return Table(name, tuple(row[0] for row in columns), tuple(row[1] for row in columns), key, others)


def fitted(tables: Sequence[Table], types: Mapping[str, Mapping[str, str]]) -> list[Table]:
    """The tables with the types of their columns in the target. Raises CannotMove where the two differ."""
    for table in tables:
        there = types.get(table.name, {})
        if set(there) != set(table.columns):
            raise CannotMove(f"table {table.name} has other columns in the target database than here")
    return [table._replace(types=tuple(types[table.name][column] for column in table.columns)) for table in tables]
