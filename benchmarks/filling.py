"""A queue's file filled faster than by submits: one task is submitted, and SQL copies all of its rows."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
from report import ROOT  # noqa: F401 -- lets the project be found

from dispatcher.queue import Queue, queues
from dispatcher.queue.submit import Submission
from dispatcher.store.sqlite import SqliteStore

STEP = 1_000_000  # rows of one transaction
SERIES = "WITH RECURSIVE series(n) AS (VALUES (?1) UNION ALL SELECT n + 1 FROM series WHERE n < ?2) "
COPIED = ("tasks", "task_data", "task_keys")


def fill(path: Path, tasks: int, prepare: Callable[[Queue], Any]) -> None:
    """So many copies of the last task that `prepare` submits; the file is not open elsewhere."""
    store = SqliteStore(path)
    prepare(Queue(store))
    store.close()
    db = apsw.Connection(str(path))
    db.pragma("synchronous", 0)
    db.pragma("cache_size", -1_000_000)
    last = int(db.execute("SELECT max(id) FROM tasks").get)
    for start in range(1, tasks, STEP):
        with db:
            copy(db, last, last + start, last + min(start + STEP, tasks) - 1)
    db.pragma("wal_checkpoint", "TRUNCATE")
    db.close()
    with path.open("rb") as file:
        os.fsync(file.fileno())  # or the system writes it while others measure


def copy(db: apsw.Connection, task: int, first: int, last: int) -> None:
    """Copies of a task under the ids from `first` to `last`, each a millisecond later than the one before."""
    for table in COPIED:
        columns = [str(row[1]) for row in db.execute(f"PRAGMA table_info({table})")]
        changed = {"id": "n", "task_id": "n", "run_at": f"run_at + n - {task}"}
        values = ", ".join(changed.get(column, column) for column in columns)
        known = "id" if table == "tasks" else "task_id"
        sql = f"{SERIES} INSERT INTO {table} SELECT {values} FROM {table}, series WHERE {known} = ?3"
        db.execute(sql, (first, last, task))
    lane, state, ready = db.execute("SELECT lane_id, state, ready FROM tasks WHERE id = ?", (task,)).get
    for name in [state, "ready"] if ready else [state]:
        db.execute("UPDATE counts SET n = n + ? WHERE lane_id = ? AND state = ?", (last - first + 1, lane, name))


def waiting(queue: Queue) -> Any:
    """Tasks that can be taken."""
    queue.submit([Submission("noop", "{}")])


def unserved(queue: Queue) -> Any:
    """Tasks of top priority and a type that nobody runs."""
    queue.submit([Submission("unserved", "{}", priority=9)])


def future(queue: Queue) -> Any:
    """Tasks of top priority for the days to come."""
    queue.submit([Submission("noop", "{}", priority=9, delay_ms=86_400_000)])


def held(queue: Queue) -> Any:
    """Tasks of top priority behind another one of their key, which may only run one at a time and is not served."""
    queues.configure(queue, "default", {"key_running": 1})
    first = Submission("unserved", "{}", priority=9, limit_key="user:42")
    queue.submit([first, first._replace(task_type="noop")])
