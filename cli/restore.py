"""`taskmill restore FILE`: puts a backup in the place of the queue, while no dispatcher runs.

Everything is done on a file beside the queue, which takes its place in one step at the end. Where a queue stands
already it is moved aside first. Its name is never free meanwhile, or a dispatcher that is started then would begin an
empty queue; for a moment it belongs to a text that SQLite refuses to open, since a WAL must not meet another file than
its own.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

import apsw
import click

from cli import files, show
from cli.errors import USAGE, Failed
from cli.options import examples
from common import durable
from common.paths import named
from common.places import DISPATCHER, OPERATOR
from common.settings import environment, load
from dispatcher.clock import Now, SystemClock
from dispatcher.config import DispatcherSettings
from dispatcher.errors import DispatcherError, InUse
from dispatcher.model import End
from dispatcher.queue import ending
from dispatcher.store.base import Tx
from dispatcher.store.sqlite import SqliteStore, backup, opening
from dispatcher.store.sqlite.backup import Contents
from dispatcher.store.sqlite.migrations import steps

AT_A_TIME = 500  # leases ended in one transaction
END_OF_TIME = 2**62
REASON = "the queue was restored from a backup"
PLACEHOLDER = f"A restore was interrupted here. Run it again: {OPERATOR} restore FILE\n"
ASIDE = ".before-restore-"
SUFFIXES = ("", "-wal", "-shm", "-journal", ".lock")


class Plan(NamedTuple):
    """What a restore will do."""

    file: Path
    contents: Contents
    database: Path
    replaced: bool  # something stands at the database's place
    other_store: str | None  # and is another queue
    unread: bool  # and cannot be read
    ids_after: int


@click.command(
    epilog=examples("restore /backups/queue-monday.db --dry-run", "restore /backups/queue-monday.db --force")
)
@click.argument("file", metavar="FILE")
@click.option("--force", is_flag=True, help="Move a queue that is there aside.")
@click.option("--dry-run", is_flag=True, help="Verify FILE and show what would be done.")
def command(file: str, force: bool, dry_run: bool) -> None:
    """Put the backup FILE in the place of the queue (DB_PATH).

    No dispatcher may run on it. All leases end as lost and their tasks wait again; what workers finish late still
    counts. Task ids go on far above all that were handed out. A queue that is there is moved aside, never deleted.
    """
    began = time.monotonic()
    database = _database()
    with _locked(database):
        plan = _plan(named(file), database)
        _announce(plan)
        if plan.replaced and not force and not dry_run:
            raise Failed(f"{database} exists: --force moves it aside to {_aside(database).name}", USAGE)
        if dry_run:
            click.echo("nothing was changed (--dry-run)")
            return
        ended, aside = _carry_out(plan)
    click.echo(f"restored {database} in {time.monotonic() - began:.1f} s; {ended:,} leases ended as lost")
    if aside is not None:
        click.echo(f"the queue that was there: {aside}")
    click.echo(f"start the dispatcher: {DISPATCHER}")


def _database() -> Path:
    settings = load(DispatcherSettings, environment())
    if settings.database_url:
        raise Failed("the queue lies where DATABASE_URL says: restore it with pg_restore", USAGE)
    if settings.db_path.is_symlink():  # its WAL and its lock would stand in two folders
        raise Failed(f"{settings.db_path} is a symbolic link: name the file itself in DB_PATH", USAGE)
    return settings.db_path


@contextmanager
def _locked(database: Path) -> Iterator[None]:
    try:
        lock = opening.lock(database)
    except InUse:
        raise Failed(f"a dispatcher runs on {database}: stop it first", USAGE) from None
    try:
        yield
    finally:
        os.close(lock)


def _plan(file: Path, database: Path) -> Plan:
    if file.exists() and database.exists() and file.samefile(database):
        raise Failed(f"{file} is the queue itself (DB_PATH): name a backup", USAGE)
    contents = backup.inspect(file)
    last = _last_queue(database)
    there = backup.last_id_of(last) if last else None
    ids_after = backup.jump(contents.last_id, there[1] if there else 0)
    other = there[0] if there and there[0] != contents.store_id else None
    return Plan(file, contents, database, last == database, other, last is not None and there is None, ids_after)


def _last_queue(database: Path) -> Path | None:
    """The queue that is to be replaced: where a restore was interrupted, the one that it had moved aside."""
    if not database.exists():
        return None
    if database.stat().st_size != len(PLACEHOLDER) or database.read_bytes() != PLACEHOLDER.encode():
        return database
    moved = [path for path in _all_aside(database) if not path.name.endswith(("-wal", "-shm"))]
    return moved[-1] if moved else None


def _all_aside(database: Path) -> list[Path]:
    return sorted(path for path in database.parent.iterdir() if path.name.startswith(f"{database.name}{ASIDE}"))


def _announce(plan: Plan) -> None:
    found, newest = plan.contents, steps()[-1][0]
    click.echo(f"{plan.file}: {found.bytes:,} bytes, {show.contents(found)}, store {found.store_id}; verified")
    notes = (
        (not found.sealed, "it has no seal (`taskmill backup` makes one): flipped bits in task data would go unseen"),
        (found.schema < newest, f"its schema {found.schema} is brought up to {newest}"),
        (found.leases, f"{found.leases:,} leases end as lost; their tasks wait again, or are cancelled as was asked"),
        (plan.other_store, f"{plan.database} is another queue (store {plan.other_store}): its workers know it alone"),
        (plan.unread, f"{plan.database} cannot be read: the ids that it handed out are not known"),
        (True, f"new tasks get ids above {plan.ids_after:,}"),
    )
    for applies, note in notes:
        if applies:
            click.echo(f"  {note}")


def _carry_out(plan: Plan) -> tuple[int, Path | None]:
    """How many leases ended, and where the queue went that was there."""
    made = plan.database.with_name(f"{plan.database.name}.restoring")
    _remove(made)
    try:
        _copy(plan, made)
        ended = _end_leases(made)
        _check(made, plan)
        durable.sync(made)
        with _uninterrupted():
            aside = _move_aside(plan.database) if plan.replaced else None
            _clear_beside(plan.database)
            made.replace(plan.database)
    except apsw.Error as error:
        raise Failed(f"{plan.file} cannot be restored: {error}; nothing was changed") from None
    except DispatcherError as error:
        raise Failed(f"{error}; nothing was changed") from None
    finally:
        _remove(made)
    files.fsync_folder(plan.database.parent)
    return ended, aside


def _remove(path: Path) -> None:
    for suffix in SUFFIXES:
        path.with_name(f"{path.name}{suffix}").unlink(missing_ok=True)


def _copy(plan: Plan, made: Path) -> None:
    os.close(os.open(made, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    with closing(apsw.Connection(str(made))) as target, closing(backup.open_backup(plan.file)) as source:
        backup.copy(source, target)
    with closing(apsw.Connection(str(made))) as target:
        backup.raise_ids(target, plan.ids_after)


def _check(made: Path, plan: Plan) -> None:
    """Once more from the disk: what will stand at DB_PATH alone, without a WAL."""
    wal = made.with_name(f"{made.name}-wal")
    found = backup.inspect(made)
    if (wal.exists() and wal.stat().st_size) or found.leases or found.last_id != plan.ids_after:
        raise Failed(f"the restored queue could not be written whole (disk full?); {plan.database} was not changed")


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Signals wait until the queue is in its place."""
    former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


class _AfterAllLeases:
    """A clock whose leases are all over."""

    def now(self) -> Now:
        """The present moment, as far as the wall is concerned."""
        return Now(SystemClock().now().wall, END_OF_TIME)


def _end_leases(made: Path) -> int:
    """Open the store, which brings its schema up to date, and end what is leased in it; how many there were."""
    store = SqliteStore(made, _AfterAllLeases())
    try:
        ended = 0
        while number := store.write(_end_some):
            ended += number
        return ended
    finally:
        store.close()


def _end_some(tx: Tx) -> int:
    """Uncharged: nobody knows whether the worker had begun. Silent, so that a living holder takes its lease back."""
    lost = ending.lost(tx, [(row, False) for row in tx.expired(AT_A_TIME)], End.EXPIRED)
    return len(tx.end([end._replace(error=REASON) for end in lost]))


def _move_aside(database: Path) -> Path:
    """Give the queue another name, whole, and its own name to a placeholder."""
    _drop_second_names(database)
    aside = _aside(database)
    wal = database.with_name(f"{database.name}-wal")
    if wal.exists() and wal.stat().st_size:
        os.link(wal, f"{aside}-wal")
    if database.exists():
        os.link(database, aside)
    files.fsync_folder(database.parent)
    holder = database.with_name(f"{database.name}.placeholder")
    holder.write_text(PLACEHOLDER)
    durable.sync(holder)
    holder.replace(database)
    files.fsync_folder(database.parent)
    return aside


def _clear_beside(database: Path) -> None:
    """SQLite would apply a WAL or journal that it finds to whatever file it finds: the old one's must be gone first.
    One that has no other name yet (its database was deleted by hand, say) is kept under one."""
    for suffix in ("-wal", "-journal"):
        path = database.with_name(f"{database.name}{suffix}")
        if path.exists() and path.stat().st_size and path.stat().st_nlink == 1:
            path.replace(f"{_aside(database)}{suffix}")
        path.unlink(missing_ok=True)
    database.with_name(f"{database.name}-shm").unlink(missing_ok=True)
    files.fsync_folder(database.parent)


def _drop_second_names(database: Path) -> None:
    """A run that was killed just before the queue lost its own name has left it two."""
    living = [path for suffix in ("", "-wal") if (path := database.with_name(f"{database.name}{suffix}")).exists()]
    for path in _all_aside(database):
        if any(path.samefile(one) for one in living):
            path.unlink()


def _aside(database: Path) -> Path:
    stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    free = (
        database.with_name(f"{database.name}{ASIDE}{stamp}{more}") for more in ("", *(f".{n}" for n in range(1, 99)))
    )
    return next(path for path in free if not path.exists())
