"""The database that the queue moves into: marked as such until the end, every batch read back before it counts.

Until the move is finished `meta` holds no store_id but the marks of the move: whose queue is on its way
(`moving_from`), by which change log (`moving_log`), up to which change (`moving_seq`) and up to which key of each table
(`moving_at …`).
The marks change in the transactions that write the rows, so a move that was cut anywhere goes on where it was. No
dispatcher starts on a database with such a mark (store/postgres/store.py).
"""

import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import psycopg
from psycopg import Cursor, errors

from dispatcher.errors import CannotOpen
from dispatcher.move.errors import Away, CannotMove
from dispatcher.move.tables import Key, Piece, Row, Table, fitted
from dispatcher.store.postgres.clock import NOW
from dispatcher.store.postgres.connecting import AWAY, BY_CHANCE, connect, look_at_durability, parameters, shown
from dispatcher.store.postgres.migrations import migrate
from dispatcher.store.postgres.session import NEW_SPELL

log = logging.getLogger("taskmill.move")
T = TypeVar("T")
PATIENCE_S = 5.0  # for a database that does not answer, before the move ends
PAUSE_S = 0.2
# batches are found by their keys, whatever the planner thinks of tables that it does not know yet
SETTINGS = ("statement_timeout = 0", "enable_hashjoin = off", "enable_mergejoin = off")
TYPES = """SELECT table_name, column_name, data_type FROM information_schema.columns
    WHERE table_schema = current_schema()"""
IDENTITIES = """SELECT table_name, column_name FROM information_schema.columns
    WHERE table_schema = current_schema() AND is_identity = 'YES'"""
MARK = "INSERT INTO meta VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
MINE = "INSERT INTO meta VALUES ('moving_from', %s) ON CONFLICT (key) DO NOTHING"
RECOUNT = "SELECT lane_id, state, count(*), count(*) FILTER (WHERE ready) FROM tasks GROUP BY 1, 2"
EXTEND = f"UPDATE tasks SET lease_expires = ({NOW}) + greatest(lease_length, %s) WHERE lease_expires IS NOT NULL"
MARKS = "key LIKE 'moving\\_%'"


class Target:
    """One connection to the database at a URL. `name` is the URL as it may be shown."""

    def __init__(self, url: str) -> None:
        self._given, self.name = _read(url), shown(url)
        self._db: psycopg.Connection | None = None
        self.tables: list[Table] = []
        self.patience_s = 0.0  # until it has answered once

    # transactions
    def run(self, step: Callable[[Cursor[Any]], T]) -> T:
        """One transaction, tried again after what happens by chance and when the database is away for a moment. It may
        have been committed all the same, so steps are such that twice is once. Raises CannotMove, Away."""
        deadline = time.monotonic() + self.patience_s
        while True:
            try:
                return self._run(step)
            except (*BY_CHANCE, *AWAY) as error:
                self.close()
                if time.monotonic() > deadline:
                    raise Away(f"{self.name} cannot be used now: {_line(error)}") from None
            except (psycopg.Error, CannotOpen) as error:
                raise CannotMove(f"{self.name}: {_line(error)}") from None
            time.sleep(random.uniform(0, PAUSE_S))  # noqa: S311  jitter, not a secret

    def _run(self, step: Callable[[Cursor[Any]], T]) -> T:
        db = self._connection()
        with db.transaction(), db.cursor() as cursor:
            return step(cursor)

    def _connection(self) -> psycopg.Connection:
        if self._db is None or self._db.closed:
            self._db = connect(self._given)
            for setting in SETTINGS:
                try:
                    self._db.execute(f"SET {setting}")
                except (errors.UndefinedObject, errors.FeatureNotSupported):  # some engines plan in other ways
                    continue
        return self._db

    def close(self) -> None:
        """Let go of the connection."""
        if self._db is not None:
            self._db.close()

    # beginning
    def look(self, store_id: str, tables: Sequence[Table]) -> str:
        """Whether the queue could move here, in words; nothing is changed. Raises CannotMove."""
        return self.run(lambda db: _look(db, self.name, store_id, tables))

    def prepare(self, store_id: str, tables: Sequence[Table]) -> None:
        """Make the schema, and mark the database as the target of this queue's move. Raises CannotMove."""
        self.look(store_id, tables)
        self.patience_s = PATIENCE_S
        try:
            look_at_durability(self._connection())
            migrate(self._connection(), self.name)
        except (psycopg.Error, CannotOpen) as error:
            raise CannotMove(f"{self.name} cannot be prepared: {_line(error)}") from None
        self.run(lambda db: db.execute(MINE, (store_id,)) and None)
        self.look(store_id, tables)  # another move, or a dispatcher with a queue of its own, may have come first
        self.tables = fitted(tables, self.run(_types))

    def begun(self, log: str) -> tuple[int, dict[str, str]] | None:
        """How far an earlier run came, by this change log: up to which change, and the last key of each table."""
        marks = self.run(lambda db: dict(db.execute(f"SELECT key, value FROM meta WHERE {MARKS}").fetchall()))
        if marks.get("moving_log") != log:
            return None
        found = {key.removeprefix("moving_at "): value for key, value in marks.items() if key.startswith("moving_at ")}
        return int(marks["moving_seq"]), found

    def begin(self, log: str, seq: int) -> None:
        """Empty it, and follow this change log from there on."""
        names = ", ".join(["counts", "spells", *(table.name for table in self.tables)])

        def step(db: Cursor[Any]) -> None:
            db.execute(f"TRUNCATE {names}")
            db.execute("DELETE FROM meta WHERE key LIKE 'moving_at %'")
            _mark(db, "moving_log", log)
            _mark(db, "moving_seq", str(seq))

        self.run(step)

    # rows
    def put(self, pieces: Sequence[Piece], mark: tuple[str, str] | None = None) -> None:
        """Make what stands under the pieces' keys be their rows, and no more; read back and compared before it counts.
        The mark says how far the move is with that."""

        def step(db: Cursor[Any]) -> None:
            for piece in pieces:
                _put(db, *piece)
            if mark:
                _mark(db, *mark)

        self.run(step)

    def counts(self) -> dict[tuple[int, str], int]:
        """Tasks by lane and state, counted."""
        rows = self.run(lambda db: db.execute(RECOUNT).fetchall())
        found = {(lane, state): n for lane, state, n, _ in rows}
        return found | {(lane, "ready"): ready for lane, _, _, ready in rows if ready}

    def learn(self) -> None:
        """Let the planner know the tables, before they are worked with."""
        try:
            for table in self.tables:
                self._connection().execute(f"ANALYZE {table.name}")
        except psycopg.Error as error:  # some engines have none of it; the others do it by themselves, later
            log.info("no statistics yet: %s", _line(error))

    # the end
    def identities(self) -> list[tuple[str, str]]:
        """The (table, column) of ids that the database hands out."""
        return [(row[0], row[1]) for row in self.run(lambda db: db.execute(IDENTITIES).fetchall())]

    def hand_out_above(self, table: str, column: str, highest: int) -> None:
        """The next id is higher."""
        sql = "SELECT setval(pg_get_serial_sequence(%s, %s), %s)"
        self.run(lambda db: db.execute(sql, (table, column, highest)) and None)

    def finish(self, store_id: str, counts: dict[tuple[int, str], int], floor_ms: int) -> None:
        """From here on it is the queue. Twice is once."""

        def step(db: Cursor[Any]) -> None:
            if not db.execute("DELETE FROM meta WHERE key = 'moving_from' RETURNING value").fetchone():
                return
            db.execute("INSERT INTO meta VALUES ('store_id', %s)", (store_id,))
            db.execute(f"DELETE FROM meta WHERE {MARKS}")
            spell = db.execute(NEW_SPELL, (0,)).fetchone()  # of nobody: folded in time
            assert spell is not None
            rows = [(spell[0], *key, n) for key, n in counts.items()]
            db.executemany("INSERT INTO counts (spell, lane_id, state, n) VALUES (%s, %s, %s, %s)", rows)
            db.execute(EXTEND, (floor_ms,))  # on the database's clock now, and the freeze was no fault of theirs

        self.run(step)


def for_settings(url: str) -> str:
    """The URL with its user, for the one who puts it into `.env`; the password is left to them."""
    given = _read(url)
    user = f"{given['user']}{':(password)' if given.get('password') else ''}@" if given.get("user") else ""
    return shown(url).replace("://", f"://{user}", 1)


def _read(url: str) -> dict[str, Any]:
    """What to connect with; what cannot be read is not repeated, since a password may be in it."""
    wrong = "the target must be a URL like postgresql://user:password@host:5432/database (in it, % / @ # ? : of a password are written %25 %2F %40 %23 %3F %3A)"  # noqa: E501
    if not url.startswith(("postgresql://", "postgres://")):
        raise CannotMove(wrong)
    try:
        given = parameters(url)
    except CannotOpen:
        raise CannotMove(wrong) from None
    ports = str(given.get("port", "")).split(",")
    if any("@" in str(given.get(part, "")) for part in ("host", "dbname")) or not all(
        port == "" or port.isdecimal() for port in ports
    ):
        raise CannotMove(wrong)
    return given


def _look(db: Cursor[Any], name: str, store_id: str, tables: Sequence[Table]) -> str:
    encoding = db.execute("SHOW server_encoding").fetchone()
    if encoding is None or encoding[0] != "UTF8":
        raise CannotMove(f"{name} does not store UTF-8")
    there = {row[0] for row in db.execute(TYPES).fetchall()}
    meta = dict(db.execute("SELECT key, value FROM meta").fetchall()) if "meta" in there else {}
    if "store_id" in meta:
        raise CannotMove(f"{name} holds a queue already (store {meta['store_id']}): name an empty database")
    if meta.get("moving_from", store_id) != store_id:
        raise CannotMove(f"{name} holds a part of another queue (store {meta['moving_from']}): name an empty database")
    if "moving_from" in meta:
        return "holds a part of this queue: the move goes on"
    full = [t.name for t in tables if t.name in there and db.execute(f"SELECT 1 FROM {t.name} LIMIT 1").fetchone()]
    if full:
        raise CannotMove(f"{name} is not empty (it has rows in {', '.join(full)}): name an empty database")
    may = db.execute("SELECT has_schema_privilege(current_schema(), 'CREATE')").fetchone()
    if may is None or not may[0]:
        raise CannotMove(f"{name}: this user may not create tables there")
    return "is empty"


def holder(target: Target) -> str | None:
    """The store_id of the queue that lives in a database, if one does."""

    def step(db: Cursor[Any]) -> str | None:
        if db.execute("SELECT to_regclass('meta')").fetchone() == (None,):
            return None
        row = db.execute("SELECT value FROM meta WHERE key = 'store_id'").fetchone()
        return str(row[0]) if row else None

    return target.run(step)


def _types(db: Cursor[Any]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for table, column, kind in db.execute(TYPES).fetchall():
        found.setdefault(table, {})[column] = kind
    return found


def _mark(db: Cursor[Any], key: str, value: str) -> None:
    db.execute(MARK, (key, value))


def _among(table: Table, columns: Sequence[str], values: Sequence[Row]) -> tuple[str, list[list[Any]]]:
    """A FROM item `n` of these values, its condition on the table, and the values as columns."""
    arrays = ", ".join(f"%s::{kind}[]" for kind in table.types_of(columns))
    names = ", ".join(f"k{number}" for number in range(len(columns)))
    same = " AND ".join(f"t.{column} = n.k{number}" for number, column in enumerate(columns))
    return f"unnest({arrays}) AS n ({names}) WHERE {same}", [list(column) for column in zip(*values, strict=True)]


def _put(db: Cursor[Any], table: Table, keys: Sequence[Key], rows: Sequence[Row]) -> None:
    _delete(db, table, table.key, keys)
    for other in table.others:  # a row that had these values has lost them, which a later change will tell
        values = [table.values_of(row, other) for row in rows]
        _delete(db, table, other, [value for value in values if None not in value])
    _copy(db, table, rows)
    _compare(table, rows, _select(db, table, keys))


def _delete(db: Cursor[Any], table: Table, columns: Sequence[str], values: Sequence[Row]) -> None:
    if values:
        among, arrays = _among(table, columns, values)
        db.execute(f"DELETE FROM {table.name} AS t USING {among}", arrays)


def _select(db: Cursor[Any], table: Table, keys: Sequence[Key]) -> list[Row]:
    if not keys:
        return []
    among, arrays = _among(table, table.key, keys)
    columns = ", ".join(f"t.{column}" for column in table.columns)
    return db.execute(f"SELECT {columns} FROM {table.name} AS t, {among}", arrays).fetchall()


def _copy(db: Cursor[Any], table: Table, rows: Sequence[Row]) -> None:
    if rows:
        with db.copy(f"COPY {table.name} ({', '.join(table.columns)}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)


def _compare(table: Table, sent: Sequence[Row], found: Sequence[Row]) -> None:
    if len(found) != len(sent) or {table.key_of(row): row for row in found} != {table.key_of(row): row for row in sent}:
        raise CannotMove(f"rows of {table.name} came back from the target other than they were sent")


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
