"""What the tests of moving share: queues filled with everything, both sides' contents, the command as a process."""

import io
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import psycopg
import pytest

from cli.main import main
from dispatcher.move import tables
from dispatcher.move.mover import Mover
from dispatcher.move.progress import Progress
from dispatcher.move.source import Source
from dispatcher.move.target import Target
from dispatcher.store.sqlite import SqliteStore, opening

DEADLINE = 20.0
HANDLERS = Path(__file__).parent / "handlers"
KILL_POINTS = Path(__file__).parent / "kill_points"
FLOOR_MS = 60_000
Contents = dict[str, list[tuple[Any, ...]]]


def never() -> bool:
    return False


def move(store: SqliteStore, url: str, stopped: Callable[[], bool] = never, dry_run: bool = False) -> Progress:
    """Move a store of this process; how it went."""
    target = Target(url)
    progress = Progress(str(store.path), target.name, dry_run)
    with closing(target), closing(Source(store.path, store)) as source:
        mover = Mover(source, target, progress, stopped, FLOOR_MS)
        mover.check() if dry_run else mover.run()
    return progress


def finish(path: Path, url: str) -> Progress:
    """Take the last step for a file that has moved."""
    target = Target(url)
    progress = Progress(str(path), target.name, False)
    with closing(target), closing(Source(path, None)) as source:
        Mover(source, target, progress, never, FLOOR_MS).run()
    return progress


def of_file(path: Path) -> Contents:
    """All rows of the queue's tables in a file."""
    with closing(opening.open_reader(path)) as db:
        return {
            table.name: sorted(db.execute(f"SELECT {', '.join(table.columns)} FROM {table.name}"), key=repr)
            for table in tables.read(db)
        }


def of_database(url: str, path: Path) -> Contents:
    """All rows of the same tables in a database."""
    with closing(opening.open_reader(path)) as db:
        wanted = tables.read(db)
    with psycopg.connect(url) as server:
        return {
            table.name: sorted(
                (
                    tuple(int(value) if isinstance(value, bool) else value for value in row)
                    for row in server.execute(f"SELECT {', '.join(table.columns)} FROM {table.name}")
                ),
                key=repr,
            )
            for table in wanted
        }


def without_times(contents: Contents, path: Path) -> Contents:
    """Leases get their length anew, on another clock."""
    with closing(opening.open_reader(path)) as db:
        at = next(table for table in tables.read(db) if table.name == "tasks").columns.index("lease_expires")
    rows = [(*row[:at], row[at] is not None, *row[at + 1 :]) for row in contents["tasks"]]
    return {**contents, "tasks": sorted(rows, key=repr)}


def ask(url: str, sql: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as db:
        return db.execute(sql).fetchall()


def tables_of(url: str) -> set[str]:
    found = ask(url, "SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema()")
    return {row[0] for row in found}


class Said:
    """How the command ended and what it wrote."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    def __repr__(self) -> str:
        return f"exit {self.code}\n{self.out}\n{self.err}"


def taskmill(env: Mapping[str, str], *words: str) -> Said:
    """The command line, with these settings; in this process, since a process of its own takes a second to start."""
    out, err, former = io.StringIO(), io.StringIO(), signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        for name in ("DB_PATH", "DISPATCHER_URL", "DISPATCHER_TOKEN", "DATABASE_URL"):
            patch.setenv(name, env.get(name, ""))
        patch.setenv("NO_COLOR", "1")
        try:
            code = main(words)
        finally:
            signal.signal(signal.SIGTERM, former)
    return Said(code, out.getvalue(), err.getvalue())


def wait_until(true: Callable[[], Any], what: str) -> None:
    deadline, pause = time.monotonic() + DEADLINE, threading.Event()
    while not true():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        pause.wait(0.01)
