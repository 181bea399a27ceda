"""The PostgreSQL store: the writer's session, a pool of readers, and hints from one dispatcher to the others.

Dispatchers on one database are equal and know nothing of each other. All time is the database's; leases, keys and
counts are right under any number of writers (`leases.py`, `counts.py`); nothing relies on LISTEN/NOTIFY, on advisory
locks or on transactional DDL. The pool serves reads alone and nobody holds a reader while it waits for the writer, so a
pool that is used up makes callers wait or fail, never hang.
"""

import logging
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout

from dispatcher.clock import Clock, Now
from dispatcher.errors import CannotOpen, Unavailable
from dispatcher.meters import StoreMeters
from dispatcher.store.postgres.clock import DatabaseClock
from dispatcher.store.postgres.connecting import (
    READING,
    cause,
    configure,
    connect,
    first_line,
    look_at_durability,
    parameters,
    shown,
)
from dispatcher.store.postgres.hints import Hints
from dispatcher.store.postgres.migrations import migrate
from dispatcher.store.postgres.reader import PostgresReader
from dispatcher.store.postgres.session import Session
from dispatcher.store.postgres.tx import PostgresTx
from dispatcher.store.writer import Serving, Writer

logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # each try of an outage would be a warning
A = TypeVar("A")
T = TypeVar("T")
READERS = 8
READER_WAIT_S = 3.0
RECONNECT_S = 1.0  # longer, and readers would come back late after an outage
# not where a queue is moving in (dispatcher/move): it brings its own
NEW = """INSERT INTO meta SELECT 'store_id', %s WHERE NOT EXISTS (SELECT FROM meta WHERE key = 'moving_from')
    ON CONFLICT (key) DO NOTHING"""


class PostgresStore:
    """One queue in one database, shared with any number of other dispatchers."""

    shared = True
    writes = None

    def __init__(self, url: str, clock: Clock | None = None, notify: bool = True) -> None:
        given = parameters(url)
        self._clock = clock or DatabaseClock()
        self.store_id, self._version = _prepare(url, given)
        self._hints = Hints(given) if notify else None
        session = Session(given, self._clock, self._hints.ring if self._hints else lambda: None)
        self._writer: Writer[PostgresTx] = Writer(session)
        self._pool = _pool(given)
        try:
            self._writer.run(lambda tx: None)  # learns the time
        except BaseException:
            self.close()
            raise

    def on_commit(self, before: Callable[[PostgresTx], Serving | None], after: Callable[[list[int]], None]) -> None:
        """Hooks: serve waiting claims inside each transaction; hear which tasks it ended."""
        self._writer.before_commit, self._writer.after_commit = before, after

    def on_news(self, call: Callable[[], None]) -> None:
        """Hook: another dispatcher made tasks ready (a hint; none may come)."""
        if self._hints:
            self._hints.listen(call)

    @property
    def meters(self) -> StoreMeters:
        """What the writer counts."""
        return self._writer.meters

    @property
    def healthy(self) -> bool:
        """Whether the last transaction could be committed."""
        return self._writer.healthy

    def now(self) -> Now:
        """The store's time."""
        return self._clock.now()

    def write(self, op: Callable[[PostgresTx], T]) -> T:
        """Run one operation durably."""
        return self._writer.run(op)

    def write_together(self, op: Callable[[PostgresTx, Sequence[A]], Sequence[T]], asked: A) -> T:
        """Run one operation durably, at once with others of its kind."""
        return self._writer.run_together(op, asked)

    @contextmanager
    def read(self) -> Iterator[PostgresReader]:
        """A reader; its reads see one moment."""
        try:
            with self._pool.connection() as db:
                yield PostgresReader(db, self._clock.now())
        except PoolClosed:
            raise Unavailable("the dispatcher is stopping") from None
        except PoolTimeout:
            raise Unavailable("the database gives no connection for a read") from None
        except psycopg.Error as error:
            raise cause(error) from error

    def describe(self) -> dict[str, Any]:
        """Engine and version, for /health."""
        return {"store": "postgresql", "server_version": self._version}

    def close(self) -> None:
        """Finish what was accepted, let go of the database."""
        self._writer.close()
        self._pool.close()
        if self._hints:
            self._hints.close()


def _prepare(url: str, given: dict[str, Any]) -> tuple[str, str]:
    """Migrate, and read what stays the same: the store's id and the server's version. Raises CannotOpen."""
    try:
        with connect(given) as db:
            look_at_durability(db)
            migrate(db, shown(url))
            db.execute(NEW, (secrets.token_hex(8),))
            row = db.execute("SELECT value, version() FROM meta WHERE key = 'store_id'").fetchone()
    except psycopg.Error as error:
        raise CannotOpen(f"{shown(url)} cannot be opened: {first_line(error)}") from None
    if row is None:
        raise CannotOpen(f"{shown(url)} is the target of a move that is not finished: run ./taskmill migrate again")
    return row[0], " ".join(row[1].split()[:2])


def _pool(given: dict[str, Any]) -> ConnectionPool:
    pool = ConnectionPool(
        kwargs={**given, "autocommit": False},
        min_size=0,
        max_size=READERS,
        timeout=READER_WAIT_S,
        reconnect_timeout=RECONNECT_S,
        configure=_configure_reader,
        check=ConnectionPool.check_connection,
        name="taskmill-readers",
        open=False,
    )
    pool.open(wait=False)
    return pool


def _configure_reader(db: psycopg.Connection) -> None:
    db.autocommit = True
    configure(db, READING)
    db.autocommit = False
    db.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    db.read_only = True
