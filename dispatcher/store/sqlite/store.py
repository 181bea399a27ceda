"""The SQLite store: the writer's session, the readers, and the life of the file."""

import contextlib
import logging
import os
import queue
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import apsw

from dispatcher.clock import Clock, Now, SystemClock
from dispatcher.errors import DispatcherError, StorageFull, Unavailable
from dispatcher.meters import StoreMeters
from dispatcher.store.sqlite import opening
from dispatcher.store.sqlite.reader import SqliteReader
from dispatcher.store.sqlite.tx import SqliteTx
from dispatcher.store.writer import GroupFailed, Serving, Writer

log = logging.getLogger("taskmill.store")
A = TypeVar("A")
T = TypeVar("T")
READERS = 4
# the steady clock is another one in each life of the dispatcher: what waits for a moment of it is looked at anew
LOOK_AGAIN = "UPDATE key_rates SET wake_at = 0 WHERE wake_at IS NOT NULL"
# what says that the file or its disk is in trouble, not that one operation was wrong
BROKEN = (apsw.FullError, apsw.IOError, apsw.CorruptError, apsw.ReadOnlyError, apsw.CantOpenError, apsw.NoMemError)


class SqliteStore:
    """One queue in one SQLite file, held by one dispatcher."""

    shared = False

    def __init__(self, path: Path, clock: Clock | None = None, vfs: str | None = None) -> None:
        self._path, self._vfs = path, vfs
        self._clock = clock or SystemClock()
        self._lock = opening.lock(path)
        try:
            session = _Session(lambda: opening.open_writer(path, vfs), self._clock)
        except BaseException:
            os.close(self._lock)
            raise
        self.store_id = session.store_id
        self._writer: Writer[SqliteTx] = Writer(session)
        self._closed = False
        self._readers: queue.LifoQueue[apsw.Connection | None] = queue.LifoQueue()  # None: the store is closed
        for _ in range(READERS):
            self._readers.put(opening.open_reader(path, vfs))

    def on_commit(self, before: Callable[[SqliteTx], Serving | None], after: Callable[[list[int]], None]) -> None:
        """Hooks: serve waiting claims inside each transaction; hear which tasks it ended."""
        self._writer.before_commit, self._writer.after_commit = before, after

    def on_news(self, call: Callable[[], None]) -> None:
        """Never: there are no other dispatchers."""

    @property
    def writer(self) -> Writer[SqliteTx]:
        """Who writes: for a move, which freezes it and writes on."""
        return self._writer

    @property
    def meters(self) -> StoreMeters:
        """What the writer counts."""
        return self._writer.meters

    @property
    def writes(self) -> int:
        """A number that rises with each transaction that wrote."""
        return self._writer.writes

    @property
    def healthy(self) -> bool:
        """Whether the last transaction could be committed."""
        return self._writer.healthy

    def now(self) -> Now:
        """The store's time."""
        return self._clock.now()

    def write(self, op: Callable[[SqliteTx], T]) -> T:
        """Run one operation durably."""
        return self._writer.run(op)

    def write_together(self, op: Callable[[SqliteTx, Sequence[A]], Sequence[T]], asked: A) -> T:
        """Run one operation durably, at once with others of its kind."""
        return self._writer.run_together(op, asked)

    @contextmanager
    def read(self) -> Iterator[SqliteReader]:
        """A reader; its reads see one moment."""
        db = self._readers.get()
        if db is None:
            self._readers.put(None)
            raise Unavailable("the dispatcher is stopping")
        try:
            with _one_moment(db):
                yield SqliteReader(db, self._clock.now())
        except apsw.Error as error:
            raise cause(error) from error
        finally:
            self._readers.put(db)

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    def describe(self) -> dict[str, Any]:
        """Engine, version and sizes, for /health."""
        sizes = {"bytes": self._size(""), "wal_bytes": self._size("-wal")}
        return {"store": "sqlite", "sqlite_version": apsw.sqlite_lib_version(), **sizes}

    def _size(self, suffix: str) -> int:
        try:
            return os.stat(f"{self._path}{suffix}").st_size
        except OSError:
            return 0

    def close(self) -> None:
        """Finish what was accepted, checkpoint, let go of the file."""
        if self._closed:
            return
        self._closed = True
        for _ in range(READERS):
            if db := self._readers.get():
                db.close()
        self._readers.put(None)
        self._writer.close()
        os.close(self._lock)


@contextmanager
def _one_moment(db: apsw.Connection) -> Iterator[None]:
    db.execute("BEGIN")
    try:
        yield
    finally:
        db.execute("ROLLBACK")


class _Session:
    """The one connection that writes and checkpoints; lives in the writer's thread after the start."""

    def __init__(self, connect: Callable[[], apsw.Connection], clock: Clock) -> None:
        self._connect, self._clock = connect, clock
        self._db: apsw.Connection | None = None
        self._tx: SqliteTx | None = None
        self._broken = False
        self._changes = 0
        self._ends: Mapping[str, int] = {}
        self._reopen()
        self.store_id = self._identify()
        self._connection().execute(LOOK_AGAIN)

    def begin(self) -> None:
        """Start a transaction, on a fresh connection if the last one failed."""
        try:
            if self._broken:
                self._reopen()
            self._connection().execute("BEGIN IMMEDIATE")
            self._changes = self._connection().total_changes()
        except Exception as error:  # whatever keeps the file from being opened
            raise GroupFailed(cause(error)) from error
        self.tx().start(self._clock.now())

    def attempt(self, op: Callable[[SqliteTx], T]) -> T:
        """Run one operation in a savepoint; when it raises, undo just that."""
        db, tx = self._connection(), self.tx()
        mark = tx.mark(self._clock.now())
        try:
            db.execute("SAVEPOINT op")
            answer = op(tx)
            db.execute("RELEASE op")
            return answer
        except BROKEN as error:
            raise GroupFailed(cause(error)) from error
        except Exception:
            self._undo(mark)
            raise

    def _undo(self, mark: tuple[int, int, Any]) -> None:
        db = self._connection()
        if not db.in_transaction:  # SQLite rolled the whole transaction back by itself
            raise GroupFailed(Unavailable("the store lost its transaction"))
        try:
            db.execute("ROLLBACK TO op; RELEASE op")
        except apsw.Error as error:  # half an operation must not be committed
            raise GroupFailed(cause(error)) from error
        self.tx().undo(mark)

    def commit(self) -> bool:
        """Make the group durable; whether it wrote anything."""
        db = self._connection()
        try:
            self.tx().settle_keys()
            self.tx().flush()
            wrote = db.total_changes() != self._changes
            db.execute("COMMIT")
        except apsw.Error as error:
            raise GroupFailed(cause(error)) from error
        self._ends = self.tx().counts.ends() if self.tx().finished else {}
        self.tx().settled()
        return wrote

    def rollback(self) -> None:
        """Drop the group; the next one starts on a fresh connection, whose caches are read anew."""
        self._broken = True
        with contextlib.suppress(Exception):
            self._connection().execute("ROLLBACK")

    def finished(self) -> list[int]:
        """The tasks that this transaction brought to an end."""
        return self.tx().finished

    def ends(self) -> Mapping[str, int]:
        """How many tasks this transaction brought to each final state."""
        return self._ends

    def close(self) -> None:
        """Checkpoint and let go."""
        db = self._connection()
        with contextlib.suppress(apsw.Error):
            db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        with contextlib.suppress(apsw.Error):  # a full disk: the WAL keeps what was accepted
            db.close()

    def tx(self) -> SqliteTx:
        """The operations of the present connection."""
        assert self._tx is not None
        return self._tx

    def _connection(self) -> apsw.Connection:
        assert self._db is not None
        return self._db

    def _reopen(self) -> None:
        if self._db is not None:
            self._db.close(True)
        self._db = self._connect()
        self._tx = SqliteTx(self._db, self._clock.now())
        self._broken = False

    def _identify(self) -> str:
        db = self._connection()
        db.execute("INSERT OR IGNORE INTO meta VALUES ('store_id', ?)", (secrets.token_hex(8),))
        return str(db.execute("SELECT value FROM meta WHERE key = 'store_id'").get)


def cause(error: Exception) -> DispatcherError:
    """What callers are told of a failure of SQLite."""
    # a quota or a limit on the size of files shows as a write that failed
    if "disk is full" in str(error) or getattr(error, "extendedresult", 0) == apsw.SQLITE_IOERR_WRITE:
        return StorageFull()
    return Unavailable(f"the store cannot be used now: {error}")
