"""The file that the queue moves out of: short reads beside its writer, and the few writes that a move needs."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

import apsw

from dispatcher.errors import DispatcherError
from dispatcher.move import tables
from dispatcher.move.errors import CannotMove
from dispatcher.move.tables import Key, Piece, Row, Table
from dispatcher.store.sqlite import SqliteStore, opening

T = TypeVar("T")
PIECE_BYTES = 4 * 2**20  # of rows read at a time
COUNTS = "SELECT lane_id, state, n FROM counts WHERE n <> 0"
MOVED = "SELECT value FROM meta WHERE key = 'moved_to'"
MOVES = "the queue is moving to another database"


class Source:
    """One SQLite file. Without a store nothing writes to it any more: it has moved, all but the last step."""

    def __init__(self, path: Path, store: SqliteStore | None) -> None:
        self.path, self._store = path, store
        self.db = opening.open_reader(path)
        self.store_id = str(self.db.execute("SELECT value FROM meta WHERE key = 'store_id'").get)
        self.tables = tables.read(self.db)

    # reads
    def moved_to(self) -> str | None:
        """Where the queue has moved."""
        found = self.db.execute(MOVED).get
        return None if found is None else str(found)

    def rows(self, table: Table) -> int:
        """How many rows a table has."""
        return int(self.db.execute(f"SELECT count(*) FROM {table.name}").get)

    def counts(self) -> dict[tuple[int, str], int]:
        """Tasks by lane and state, as they are kept."""
        return {(row[0], row[1]): row[2] for row in self.db.execute(COUNTS)}

    def highest(self, table: Table, column: str) -> int:
        """The highest id ever handed out."""
        known = self.db.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table.name,)).get or 0
        return max(int(known), int(self.db.execute(f"SELECT coalesce(max({column}), 0) FROM {table.name}").get))

    def last_key(self, table: Table) -> Key | None:
        """The highest key there is."""
        order = ", ".join(f"{column} DESC" for column in table.key)
        found = self.db.execute(f"SELECT {', '.join(table.key)} FROM {table.name} ORDER BY {order} LIMIT 1").fetchone()
        return None if found is None else tuple(found)

    def between(self, table: Table, after: Key | None, last: Key, limit: int) -> list[Row]:
        """The next rows in the order of their keys, up to that one, as many as fit a piece."""
        columns, order, marks = ", ".join(table.columns), ", ".join(table.key), ", ".join("?" * len(table.key))
        where = f"({order}) <= ({marks})" + (f" AND ({order}) > ({marks})" if after else "")
        sql = f"SELECT {columns} FROM {table.name} WHERE {where} ORDER BY {order} LIMIT {limit}"
        return list(_fitting(self.db.execute(sql, (*last, *(after or ())))))

    def at(self, table: Table, keys: Sequence[Key]) -> Iterator[Piece]:
        """The rows of these keys as they are now, piece by piece."""
        where = " AND ".join(f"{column} = ?" for column in table.key)
        sql = f"SELECT {', '.join(table.columns)} FROM {table.name} WHERE {where}"
        asked, found, size = list[Key](), list[Row](), 0
        for key in keys:
            asked.append(key)
            for row in self.db.execute(sql, key):
                found.append(row)
                size += _size(row)
            if size > PIECE_BYTES:
                yield Piece(table, asked, found)
                asked, found, size = [], [], 0
        if asked:
            yield Piece(table, asked, found)

    @contextmanager
    def moment(self) -> Iterator[None]:
        """Reads within are of one moment; the writer goes on."""
        self.db.execute("BEGIN; SELECT count(*) FROM meta").fetchall()
        try:
            yield
        finally:
            self.db.execute("ROLLBACK")

    # writes
    def write(self, op: Callable[[apsw.Connection], T]) -> T:
        """Run something in a transaction of the writer's. Raises CannotMove."""
        if self._store is None:
            raise CannotMove(f"{self.path} has moved")
        try:
            return self._store.writer.run(lambda tx: op(tx.db), even_frozen=True)
        except (DispatcherError, apsw.Error) as error:
            raise CannotMove(f"{self.path}: {error}") from error

    @property
    def is_written(self) -> bool:
        """Whether the queue still lives here."""
        return self._store is not None

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Within, nothing but the move writes, and all that was accepted before is there. When the block fails, the
        queue goes on here, unless the file says that it has moved."""
        if self._store is None:
            yield
            return
        try:
            self._store.writer.freeze(MOVES)
            yield
        except BaseException:
            if self.moved_to() is None:
                self._store.writer.thaw()
            raise

    def leave(self, name: str) -> None:
        """The commit point: from here on no dispatcher starts on this file."""
        if self._store is None:
            return
        try:
            self.write(lambda db: db.execute("INSERT INTO meta VALUES ('moved_to', ?)", (name,)))
        except CannotMove:
            if self.moved_to() is None:  # else only the answer was lost
                raise

    def close(self) -> None:
        """Let go of the reader."""
        self.db.close()


def _fitting(rows: Iterator[Row]) -> Iterator[Row]:
    size = 0
    for row in rows:
        yield row
        size += _size(row)
        if size > PIECE_BYTES:
            return


def _size(row: Row) -> int:
    return sum(len(value) for value in row if isinstance(value, (str, bytes)))


def moved_to(path: Path) -> str | None:
    """Where the queue of a file has moved. Raises CannotMove."""
    try:
        with closing(opening.open_reader(path)) as db:
            found = db.execute(MOVED).get
    except apsw.Error as error:
        raise CannotMove(f"{path} is no queue that could be moved: {error}") from None
    return None if found is None else str(found)
