"""Opening the file: one dispatcher a file, no network file system, no newer schema, no corrupt file.

Only the writer's connection writes and checkpoints; readers are `query_only` and never checkpoint. That, and the
SQLite in apsw's wheel, keeps the WAL-reset race of SQLite before 3.51.3 away.
"""

import fcntl
import os
import time
from pathlib import Path

import apsw

from common import file_systems
from dispatcher.errors import CannotOpen, InUse
from dispatcher.store.sqlite.migrations import migrate

CHECK_SECONDS = 1.0
CACHE_KIB = 32 * 1024


def lock(path: Path) -> int:
    """Take the dispatcher's lock on a database file: a descriptor that holds it for the life of the process.

    The lock lies on a file of its own: closing any descriptor of the database itself would drop SQLite's locks.
    """
    if kind := file_systems.network_kind_of(path.parent):
        raise CannotOpen(f"{path} lies on a network file system ({kind}), where SQLite's locks cannot be trusted")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CannotOpen(f"{path} cannot be opened: {error.strerror}") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise InUse(path) from None
    return fd


def open_writer(path: Path, vfs: str | None = None) -> apsw.Connection:
    """The writing connection, checked and migrated; raises CannotOpen with one clear line."""
    db = None
    try:
        db = apsw.Connection(str(path), vfs=vfs)
        os.chmod(path, 0o600)
        _check(db, path)
        _refuse_moved(db, path)
        _keep_plans(db)
        _tune(db)
        migrate(db, str(path))
        return db
    except (apsw.CorruptError, apsw.NotADBError) as error:
        reason = f"{path} is corrupt ({error}): put a backup in its place"
    except (apsw.Error, OSError) as error:
        reason = f"{path} cannot be opened: {error}"
    except CannotOpen as error:
        reason = str(error)
    if db is not None:
        db.close()
    raise CannotOpen(reason) from None


def open_reader(path: Path, vfs: str | None = None) -> apsw.Connection:
    """A connection that cannot write and does not checkpoint."""
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs)
    db.set_busy_timeout(5000)
    _keep_plans(db)
    for pragma in ("query_only = ON", "wal_autocheckpoint = 0", "trusted_schema = OFF"):
        db.execute(f"PRAGMA {pragma}")
    return db


def _keep_plans(db: apsw.Connection) -> None:
    """A prepared statement stays prepared: else a SQLite with STAT4 plans it anew whenever a bound value might matter,
    which for a short read takes several times as long as the read."""
    db.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)


def _tune(db: apsw.Connection) -> None:
    db.set_busy_timeout(5000)
    if not db.pragma("page_count"):
        db.pragma("auto_vacuum", 2)  # incremental, so that pruning can give space back; fixed at the first table
    if db.pragma("journal_mode", "wal") != "wal":
        raise CannotOpen(f"{db.filename} does not support write-ahead logging")
    settings = {"synchronous": "FULL", "journal_size_limit": 64 << 20, "cache_size": -CACHE_KIB, "trusted_schema": 0,
                "cell_size_check": 1, "temp_store": 2}  # fmt: skip
    for name, value in settings.items():
        db.pragma(name, value)


def _refuse_moved(db: apsw.Connection, path: Path) -> None:
    """A queue that lives elsewhere by now must not go on here as well."""
    if db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'meta'").get is None:
        return
    there = db.execute("SELECT value FROM meta WHERE key = 'moved_to'").get
    if there is not None:
        raise CannotOpen(f"the queue in {path} has moved to {there}: set DATABASE_URL to that database")


def _check(db: apsw.Connection, path: Path) -> None:
    """Refuse a corrupt file; a large one is checked as far as a second reaches."""
    found = examined(db, CHECK_SECONDS) if path.stat().st_size else None
    if found not in (None, "ok"):
        raise CannotOpen(f"{path} is corrupt ({found}): put a backup in its place")


def examined(db: apsw.Connection, seconds: float) -> str | None:
    """What SQLite says of the pages: `ok` or the first fault; None: there was no time to read them all."""
    deadline = time.monotonic() + seconds
    db.set_progress_handler(lambda: time.monotonic() > deadline, 10_000)
    try:
        return " ".join(str(db.pragma("quick_check", 1)).split())
    except apsw.InterruptError:
        return None
    finally:
        db.set_progress_handler(None)
