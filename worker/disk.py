"""The outbox's database: a diskcache that neither executes what it reads nor evicts what it holds.

diskcache would unpickle values and keys it finds (CVE-2025-69872), keep large values in files without fsync, drop the
least recently stored entries beyond 1 GiB, and delete any file that a row names. Here keys and values are bytes, stored
raw in the database (not text: one flipped bit would make SQLite refuse to hand it out even for the quarantine).
Everything else that stands in a row is handed out as damage that nobody interprets. One process, one thread and one
connection use it at a time: SQLite before 3.51.3 can lose commits otherwise (WAL reset).
"""

import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any

import diskcache

_RAW = 1  # diskcache's mode of a value that stands in the row as it is
# All of them at each open: diskcache keeps settings in its database and would trust what it finds there.
_SETTINGS = {
    "statistics": 0,
    "tag_index": 0,
    "eviction_policy": "none",
    "size_limit": 2**60,
    "cull_limit": 0,
    "sqlite_auto_vacuum": 0,
    "sqlite_cache_size": 2**11,
    "sqlite_journal_mode": "wal",
    "sqlite_mmap_size": 0,
    "sqlite_synchronous": 2,
    "disk_min_file_size": 2**60,
    "disk_pickle_protocol": 0,
}
DISK_FAULTS = (sqlite3.OperationalError, diskcache.Timeout, OSError)  # full, read-only, gone, busy: may pass


class Damaged(Exception):
    """A row that the outbox did not write like this; `content` is what stands in it."""

    def __init__(self, reason: str, content: object) -> None:
        super().__init__(reason)
        self.reason, self.content = reason, content


class OddKey:
    """A key that is not ours, as it stands in its row, so that the row can be shown and removed."""

    def __init__(self, stored: object, raw: object) -> None:
        self.stored, self.raw = stored, raw


class RawDisk(diskcache.Disk):  # type: ignore[misc]  # diskcache has no types
    """Bytes in, bytes out; no pickle, no file."""

    def put(self, key: Any) -> tuple[Any, Any]:
        if isinstance(key, OddKey):
            return key.stored, key.raw
        if type(key) is not bytes:
            raise TypeError(f"an outbox key is bytes, not {type(key).__name__}")
        return key, True

    def get(self, key: Any, raw: Any) -> bytes | OddKey:
        return key if raw == 1 and type(key) is bytes else OddKey(key, raw)

    def store(self, value: Any, read: bool, key: Any = None) -> tuple[int, int, None, bytes]:
        if read or type(value) is not bytes:
            raise TypeError(f"an outbox value is bytes, not {type(value).__name__}")
        return 0, _RAW, None, value

    def fetch(self, mode: Any, filename: Any, value: Any, read: Any) -> bytes:
        if mode != _RAW or filename is not None or type(value) is not bytes:
            raise Damaged(f"not a raw value (mode {mode}, file {filename!r})", value)
        return value

    def remove(self, file_path: Any) -> None:
        """No row of ours names a file; one that does was planted, and its file is not ours to delete."""


class Database:
    """Keys and values, each change durable when its call returns. Raises DISK_FAULTS; DatabaseError when corrupt."""

    def __init__(self, folder: Path) -> None:
        try:
            self._cache = diskcache.Cache(str(folder), timeout=30, disk=RawDisk, **_SETTINGS)
        except (TypeError, ValueError, AttributeError) as error:  # what planted settings lead to
            raise sqlite3.DatabaseError(f"odd settings: {error}") from error
        except sqlite3.OperationalError as error:
            raise _told_apart(error) from error

    def change(self, values: dict[bytes, bytes], remove: list[bytes]) -> None:
        """Writes and removes in one transaction: one fsync for all."""
        try:
            with self._cache.transact():
                for key, value in values.items():
                    self._cache.set(key, value)
                for key in remove:
                    self._cache.delete(key)
        except Exception:
            self._cache.close()  # a COMMIT that failed may leave its transaction open; the next use connects anew
            raise

    def stored(self) -> list[bytes | OddKey]:
        """All keys, in the order of their rows."""
        try:
            return list(self._cache)
        except sqlite3.OperationalError as error:
            raise _told_apart(error) from error

    def readable(self) -> set[bytes]:
        """Our keys as far as they can be read in a corrupt database, from either end and by the index."""
        keys: set[bytes] = set()
        for walk in (self._cache.__iter__, self._cache.__reversed__, self._cache.iterkeys):
            with suppress(sqlite3.DatabaseError):
                keys.update(key for key in walk() if isinstance(key, bytes))
        return keys

    def value(self, key: bytes | OddKey) -> bytes:
        """Raises Damaged when that is not what stands there."""
        try:
            found = self._cache.get(key)
        except sqlite3.OperationalError as error:
            raise _told_apart(error) from error
        if isinstance(key, OddKey):
            raise Damaged("its key is not ours", found)
        if found is None:
            raise Damaged("its row cannot be read", None)
        return bytes(found)

    def discard(self, key: bytes | OddKey) -> None:
        """Removes a damaged row; one that resists is met again at the next start."""
        self._cache.delete(key)

    def close(self) -> None:
        self._cache.close()


def _told_apart(error: sqlite3.OperationalError) -> sqlite3.Error:
    """SQLite's Python module calls some kinds of corruption operational; those become a DatabaseError."""
    corrupt = str(error).startswith(("no such", "malformed", "Could not decode"))
    return sqlite3.DatabaseError(str(error)) if corrupt else error
