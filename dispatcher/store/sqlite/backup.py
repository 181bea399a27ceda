"""Copies of the database file: made while others write to it, sealed, and read back with care.

A copy is a plain SQLite file of one moment, without a WAL, and behind its last page one line more: the seal, a SHA-256
of all before it. SQLite reads as many pages as the file's header counts and never sees it; but it tells a backup with
one flipped bit inside a task's data, which `PRAGMA integrity_check` cannot, and one that was cut short.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple
from urllib.parse import quote

import apsw

from dispatcher.errors import BadBackup
from dispatcher.store.sqlite.migrations import steps
from dispatcher.store.sqlite.tx import LAST_ID

SEAL = b"-- taskmill backup; sha256 of all before this line: "
SEAL_BYTES = len(SEAL) + 64 + 1
STEP_PAGES = 1024
PIECE = 2**20
JOURNAL_MARK = (18, b"\x01\x01")  # where the header says whether the file needs a WAL, and the bytes for 'no'
ID_JUMP = 10**9  # more than any queue can hand out between a backup and its restore
END_OF_IDS = 2**53

Each = Callable[[float], None]


class Contents(NamedTuple):
    """What a file holds."""

    store_id: str
    schema: int
    tasks: dict[str, int]  # by state
    last_id: int  # the highest task id ever handed out
    sealed: bool
    bytes: int

    @property
    def leases(self) -> int:
        """How many leases are live in it."""
        return self.tasks.get("in_progress", 0)


def write(source: apsw.Connection, path: Path, file: BinaryIO, each: Each, vfs: str | None = None) -> str:
    """Fill `file`, open and empty at `path`, with a sealed copy; the SHA-256 of the whole file, seal included.

    `each` hears what share is done, from 0 on, and may raise to give up; from its first call on `path` may be gone.
    """
    with closing(apsw.Connection(str(path), vfs=vfs)) as target:
        target.pragma("journal_mode", "off")  # a copy that fails is thrown away
        target.pragma("synchronous", 0)
        each(0.0)
        copy(source, target, lambda share: each(share * 0.8))
    os.pwrite(file.fileno(), JOURNAL_MARK[1], JOURNAL_MARK[0])
    return _seal(file, lambda share: each(0.8 + share * 0.2))


def copy(source: apsw.Connection, target: apsw.Connection, each: Each = lambda share: None) -> None:
    """All pages of one moment: a read transaction holds it, so that writers go on and the copy never starts over."""
    with _one_moment(source), target.backup("main", source, "main") as backup:
        while not backup.done:
            backup.step(STEP_PAGES)
            each(1 - backup.remaining / max(backup.page_count, 1))


@contextmanager
def _one_moment(db: apsw.Connection) -> Iterator[None]:
    db.execute("BEGIN; SELECT count(*) FROM sqlite_schema").fetchall()
    try:
        yield
    finally:
        db.execute("ROLLBACK")


def _seal(file: BinaryIO, each: Each) -> str:
    size = os.fstat(file.fileno()).st_size
    digest = _digest(file, size, each)
    line = SEAL + digest.hexdigest().encode() + b"\n"
    file.seek(0, os.SEEK_END)
    file.write(line)
    file.flush()
    digest.update(line)
    return digest.hexdigest()


def _digest(file: BinaryIO, size: int, each: Each = lambda share: None) -> "hashlib._Hash":
    digest = hashlib.sha256()
    file.seek(0)
    left = size
    while left and (piece := file.read(min(PIECE, left))):
        digest.update(piece)
        left -= len(piece)
        each(1 - left / size)
    return digest


# reading back


def inspect(path: Path) -> Contents:
    """What a backup holds, after every check that can be made. Raises BadBackup."""
    try:
        sealed = _is_sealed(path)
        with closing(open_backup(path)) as db:
            return _contents(db, path, sealed)
    except (apsw.Error, UnicodeDecodeError) as error:
        raise BadBackup(f"{path} is damaged, or no database ({error})") from None
    except OSError as error:
        raise BadBackup(f"{path} cannot be read: {error.strerror}") from None


def _is_sealed(path: Path) -> bool:
    """Whether it has a seal, which fits. A copy that SQLite's own tools made has none, and whole pages only."""
    with path.open("rb") as file:
        head = file.read(100)
        size = os.fstat(file.fileno()).st_size
        if not head.startswith(b"SQLite format 3\0"):
            raise BadBackup(f"{path} is damaged, or no database")
        file.seek(max(size - SEAL_BYTES, 0))
        last = file.read()
        if not last.startswith(SEAL):
            page = int.from_bytes(head[16:18], "big")
            if size % (65536 if page == 1 else max(page, 512)):
                raise BadBackup(f"{path} is damaged: it was cut short")
            return False
        if _digest(file, size - SEAL_BYTES).hexdigest().encode() != last[len(SEAL) : -1]:
            raise BadBackup(f"{path} is damaged: its contents are not those that were written (sha256 differs)")
        return True


def open_backup(path: Path) -> apsw.Connection:
    """A backup, to be read only. Nobody writes to it, so that nothing is made beside it, unless its WAL lies there."""
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    real = path.resolve()
    wal = real.with_name(f"{real.name}-wal")
    mode = "mode=ro" if wal.exists() and wal.stat().st_size else "immutable=1"
    return apsw.Connection(f"file:{quote(str(real))}?{mode}", flags=flags)


def _contents(db: apsw.Connection, path: Path, sealed: bool) -> Contents:
    found = db.pragma("integrity_check", 1)
    if found != "ok":
        raise BadBackup(f"{path} is damaged: {' '.join(str(found).split())}")
    schema, newest = int(db.pragma("user_version")), steps()[-1][0]
    if schema > newest:
        raise BadBackup(f"{path} has schema {schema}, newer than this program's {newest}: upgrade Taskmill")
    store_id = db.execute("SELECT value FROM meta WHERE key = 'store_id'").get if schema else None
    if not store_id:
        raise BadBackup(f"{path} holds no queue of Taskmill")
    _check_counts(db, path)
    tasks = dict(db.execute("SELECT state, count(*) FROM tasks GROUP BY state"))
    return Contents(str(store_id), schema, tasks, last_id(db), sealed, path.stat().st_size)


def _check_counts(db: apsw.Connection, path: Path) -> None:
    """The counts that are kept must be those of the tasks: else a copy is not of one moment."""
    counted = set(
        db.execute("""SELECT lane_id, state, count(*) FROM tasks GROUP BY 1, 2 UNION ALL
                                SELECT lane_id, 'ready', count(*) FROM tasks WHERE ready = 1 GROUP BY 1""")
    )
    kept = set(db.execute("SELECT lane_id, state, n FROM counts WHERE n > 0"))
    if counted != kept:
        raise BadBackup(f"{path} is damaged: its counts are not those of its tasks")


# ids


def last_id(db: apsw.Connection) -> int:
    """The highest task id ever handed out."""
    return int(db.execute(LAST_ID).get)


def last_id_of(path: Path) -> tuple[str, int] | None:
    """(store_id, highest task id) of a database that is about to be replaced; None when it cannot be read.
    Only for the holder of its lock; the file and its WAL stay as they are."""
    try:
        with closing(open_backup(path)) as db:
            return str(db.execute("SELECT value FROM meta WHERE key = 'store_id'").get), last_id(db)
    except apsw.Error:
        return None


def jump(*handed_out: int) -> int:
    """Where the ids go on, so that none is handed out twice. Raises BadBackup when they would run out."""
    begin = max(handed_out) + ID_JUMP
    if begin + ID_JUMP > END_OF_IDS:
        raise BadBackup(f"task ids have come to {max(handed_out)}: too near to their end at 2^53 to skip {ID_JUMP}")
    return begin


def raise_ids(db: apsw.Connection, last: int) -> None:
    """The next task gets an id above `last`."""
    db.execute("DELETE FROM sqlite_sequence WHERE name = 'tasks'")
    db.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('tasks', ?)", (last,))
