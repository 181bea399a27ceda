"""Settings and limits of queues, and tasks with keys, on SQLite (the rules of keys: `store/keys.py`)."""

from collections.abc import Mapping, Sequence
from typing import Any

import apsw

from dispatcher.model import Lane, NewTask, QueueSettings, QueueUse, State
from dispatcher.store.key_rates import Bucket, Line
from dispatcher.store.keys import ACTIVE, HELD, IDLE, KeyRow, KeyRules
from dispatcher.store.sqlite.counts import Counts
from dispatcher.store.tally import READY
from dispatcher.store.touched import Name, Touched

SETTINGS = ", ".join(QueueSettings._fields)
BUCKET_OF = "SELECT full_at, wake_at FROM key_rates WHERE queue = ? AND key = ?"
SAVE_BUCKET = "INSERT OR REPLACE INTO key_rates (queue, key, full_at, wake_at) VALUES (?, ?, ?, ?)"
KEY_ROW = """SELECT k.task_id, k.queue, k.key, k.status, l.queue, t.state, t.ready, t.held, t.priority, t.run_at
    FROM task_keys AS k JOIN tasks AS t ON t.id = k.task_id JOIN lanes AS l ON l.id = t.lane_id WHERE k.task_id = ?"""
OF_KEY = "FROM task_keys WHERE queue = ? AND key = ? AND status = ?"
BEST_HELD = f"SELECT task_id {OF_KEY} ORDER BY priority DESC, run_at, task_id LIMIT ?"
WORST_READY = f"""SELECT task_id {OF_KEY} AND EXISTS (SELECT 1 FROM tasks WHERE id = task_id AND ready = 1)
    ORDER BY priority, run_at DESC, task_id DESC LIMIT ?"""

LINE = f"""SELECT (SELECT count(*) FROM (
        SELECT 1 {OF_KEY} AND EXISTS (SELECT 1 FROM tasks WHERE id = task_id AND ready = 1) LIMIT ?)),
    EXISTS (SELECT 1 {OF_KEY})"""
# buckets that are full: as good as none
FULL = """DELETE FROM key_rates WHERE (queue, key) IN (
    SELECT queue, key FROM key_rates WHERE full_at <= ? AND wake_at IS NULL LIMIT ?)"""


class QueueOps(KeyRules):
    """The part of the transaction that touches queues and keys."""

    db: apsw.Connection
    counts: Counts
    touched: Touched
    wakes: dict[str, int]
    _settings: dict[str, QueueSettings] | None

    # settings and limits
    def queue_settings(self) -> Mapping[str, QueueSettings]:
        """The settings of the queues that have any."""
        if self._settings is None:
            rows = self.db.execute(f"SELECT {SETTINGS} FROM queues")
            self._settings = {row[0]: QueueSettings(row[0], bool(row[1]), *row[2:]) for row in rows}
        return self._settings

    def configure(self, queue: str, changes: Mapping[str, Any]) -> QueueSettings:
        """Change settings."""
        self.db.execute("INSERT OR IGNORE INTO queues (queue) VALUES (?)", (queue,))
        if "rate_count" in changes:
            changes = {**changes, "bucket": None, "bucket_at": None}
        if changes:
            columns = ", ".join(f"{name} = ?" for name in changes)
            self.db.execute(f"UPDATE queues SET {columns} WHERE queue = ?", (*changes.values(), queue))
        self._settings = None
        return self.queue_settings()[queue]

    def announce_settings(self) -> None:
        """Nothing: there are no other dispatchers."""

    def look_at_queue(self, queue: str) -> QueueUse:
        """How far its limits are used up."""
        bucket = self.db.execute("SELECT bucket, bucket_at FROM queues WHERE queue = ?", (queue,)).fetchone()
        waiting = sum(self.counts.of_queue(queue, state.value) for state in (State.PENDING, State.BLOCKED))
        return QueueUse(self.counts.of_queue(queue, State.IN_PROGRESS.value), waiting, *(bucket or ()))

    def lock_queue(self, queue: str) -> QueueUse | None:
        """The same: the writer is alone."""
        return self.look_at_queue(queue)

    def spend(self, queue: str, bucket: int, at: int) -> None:
        """Store the bucket of its rate."""
        self.db.execute("UPDATE queues SET bucket = ?, bucket_at = ? WHERE queue = ?", (bucket, at, queue))

    def freshen(self, queue: str) -> None:
        """Count its ready lanes among the fresh ones."""
        self.counts.freshen(queue)

    def lane_of(self, lane_id: int) -> Lane:
        """A lane by its id."""
        return self.counts.lanes[lane_id]

    # keys
    _lane_of = lane_of

    def _store_keys(self, ids: Sequence[int], tasks: Sequence[NewTask], wall: int) -> None:
        """The rows of new tasks with keys."""
        rows = []
        for task_id, task in zip(ids, tasks, strict=True):
            if task.key is not None:
                held = self._is_held_first(task)
                status = IDLE if task.terms.run_at > wall else HELD if held else ACTIVE
                name = (self.counts.lanes[task.terms.lane_id].queue, task.key)
                rows.append((task_id, *name, status, task.terms.priority, task.terms.run_at))
                if status == HELD:
                    self.touched.names([name])
        self.db.executemany("INSERT INTO task_keys VALUES (?, ?, ?, ?, ?, ?)", rows)

    def _key_rows(self, ids: Sequence[int]) -> list[KeyRow]:
        return [KeyRow(*row) for row in self.db.executemany(KEY_ROW, [(i,) for i in ids])]

    def _lock_keys(self, names: Sequence[Name]) -> None:
        """The writer is alone."""

    def _save_key_rows(self, rows: Sequence[KeyRow]) -> None:
        sql = "UPDATE task_keys SET queue = ?, status = ?, priority = ?, run_at = ? WHERE task_id = ?"
        self.db.executemany(sql, [(r.queue_now, r.status_now(), r.priority, r.run_at, r.task_id) for r in rows])
        lost = [(r.task_id,) for r in rows if r.held and r.status_now() != HELD]
        self.db.executemany("UPDATE tasks SET held = 0 WHERE id = ?", lost)

    def _count_active(self, names: Sequence[Name]) -> Mapping[Name, int]:
        sql = f"SELECT count(*) {OF_KEY}"
        return {name: int(self.db.execute(sql, (*name, ACTIVE)).get) for name in names}

    def _admit(self, rooms: Sequence[tuple[str, str, int]]) -> int:
        admitted = 0
        for queue, key, room in rooms:
            ids = [(row[0],) for row in self.db.execute(BEST_HELD, (queue, key, HELD, room))]
            self.db.executemany("UPDATE task_keys SET status = 'active' WHERE task_id = ?", ids)
            sql = "UPDATE tasks SET held = 0, ready = 1 WHERE id = ? AND held = 1 RETURNING lane_id"
            for (lane_id,) in self.db.executemany(sql, ids):
                self.counts.add(lane_id, READY, 1)
            admitted += len(ids)
        return admitted

    def _hold_again(self, name: Name, n: int) -> int:
        ids = [(row[0],) for row in self.db.execute(WORST_READY, (*name, ACTIVE, n))]
        self.db.executemany("UPDATE task_keys SET status = 'held' WHERE task_id = ?", ids)
        sql = "UPDATE tasks SET held = 1, ready = 0 WHERE id = ? AND ready = 1 RETURNING lane_id"
        for (lane_id,) in self.db.executemany(sql, ids):
            self.counts.add(lane_id, READY, -1)
        return len(ids)

    def _keys_after(self, queue: str, after: str, limit: int) -> list[str]:
        sql = "SELECT DISTINCT key FROM task_keys WHERE queue = ? AND key > ? ORDER BY key LIMIT ?"
        return [row[0] for row in self.db.execute(sql, (queue, after, limit))]

    # rates of keys
    def _buckets(self, names: Sequence[Name]) -> Mapping[Name, Bucket]:
        rows = {name: self.db.execute(BUCKET_OF, name).fetchone() for name in names}
        return {name: Bucket(*row) for name, row in rows.items() if row}

    def _save_buckets(self, buckets: Mapping[Name, Bucket]) -> None:
        self.db.executemany(SAVE_BUCKET, [(*name, *bucket) for name, bucket in buckets.items()])

    def _drop_buckets(self, names: Sequence[Name]) -> None:
        self.db.executemany("DELETE FROM key_rates WHERE queue = ? AND key = ?", names)

    def _lines(self, names: Mapping[Name, int]) -> Mapping[Name, Line]:
        rows = {name: self.db.execute(LINE, (*name, ACTIVE, n, *name, HELD)).fetchone() for name, n in names.items()}
        return {name: Line(row[0], bool(row[1])) for name, row in rows.items() if row}

    def _due_names(self, limit: int) -> list[Name]:
        sql = "SELECT queue, key FROM key_rates WHERE wake_at <= ? ORDER BY wake_at LIMIT ?"
        return [(row[0], row[1]) for row in self.db.execute(sql, (self.now.steady, limit))]

    def _drop_full_buckets(self, limit: int) -> int:
        self.db.execute(FULL, (self.now.steady * 1000, limit))
        return self.db.changes()
