"""Bulk control and retention on SQLite: what many tasks at once need of the store."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import apsw

from dispatcher.clock import Now
from dispatcher.model import FINAL, Lane, State, TaskRow
from dispatcher.store.sqlite.counts import Counts
from dispatcher.store.sqlite.results import ResultOps
from dispatcher.store.tally import OWN_ROWS

WEIGHT = """SELECT d.task_id, octet_length(d.data) + coalesce(octet_length(r.body), 0) + coalesce(length(r.packed), 0)
    FROM task_data AS d LEFT JOIN results AS r ON r.task_id = d.task_id WHERE d.task_id = ?"""
OLD = "SELECT id FROM tasks WHERE state = ? AND lane_id = ? AND finished_at < ? LIMIT ?"
LOST = """INSERT OR IGNORE INTO upload_trash SELECT u.task_id, u.lease FROM upload_parts AS u
    JOIN tasks AS t ON t.id = u.task_id
    WHERE u.part = 0 AND t.finished_at IS NOT NULL AND t.lease IS NOT u.lease AND t.finished_at < ? LIMIT ?"""
HISTORY = """INSERT INTO history VALUES (?, ?, ?, ?)
    ON CONFLICT (step, at, writer) DO UPDATE SET data = excluded.data"""

# by their names, which stand with the data: there is no index by task, so that a submit need not fill it
UNTAG = """DELETE FROM task_tags WHERE task_id = ?1
    AND tag IN (SELECT value FROM task_data, json_each(task_data.tags) WHERE task_data.task_id = ?1)"""


class BulkOps(ResultOps):
    """The part of the transaction that deletes, retags and keeps retention."""

    db: apsw.Connection
    now: Now
    counts: Counts

    def tasks(self, ids: Sequence[int]) -> Mapping[int, TaskRow]:
        """The hot rows (of leases)."""
        raise NotImplementedError

    def settle_keys(self) -> None:
        """Let in what the limits of keys allow (of queues)."""
        raise NotImplementedError

    def lane_of(self, lane_id: int) -> Lane:
        """A lane by its id."""
        return self.counts.lanes[lane_id]

    def retag(self, task_id: int, tags: Sequence[str]) -> None:
        """Replace a task's tags."""
        self.db.execute(UNTAG, (task_id,))
        sql = "UPDATE task_data SET tags = ? WHERE task_id = ?"
        self.db.execute(sql, (json.dumps(list(tags)) if tags else None, task_id))
        self.db.executemany("INSERT OR IGNORE INTO task_tags VALUES (?, ?)", [(tag, task_id) for tag in tags])

    def tagged(self, ids: Sequence[int], tag: str) -> set[int]:
        """Those of the tasks that carry a tag."""
        sql = "SELECT task_id FROM task_tags WHERE tag = ? AND task_id = ?"
        return {row[0] for row in self.db.executemany(sql, [(tag, i) for i in ids])}

    def weigh(self, ids: Sequence[int]) -> Mapping[int, int]:
        """How many bytes lie with each task."""
        rows: Any = self.db.executemany(WEIGHT, [(i,) for i in ids])
        return dict(rows)

    def delete(self, ids: Sequence[int]) -> set[int]:
        """Delete ended tasks with all that belongs to them."""
        self.settle_keys()  # of a task that ended in this very transaction, while its key is still known
        rows = [row for row in self.tasks(ids).values() if row.state in FINAL]
        gone = [(row.id,) for row in rows]
        self.db.executemany(UNTAG, gone)
        self.db.executemany("DELETE FROM tasks WHERE id = ?", gone)
        self.orphan_keys([row.id for row in rows])
        for table in OWN_ROWS:
            self.db.executemany(f"DELETE FROM {table} WHERE task_id = ?", gone)
        self._throw_away_uploads([row.id for row in rows])
        for row in rows:
            self.counts.add(row.lane_id, row.state.value, -1)
        return {row.id for row in rows}

    def orphan_keys(self, ids: Sequence[int]) -> None:
        """The tasks of keys are gone."""
        self.db.executemany("UPDATE idempotency_keys SET orphan = 1 WHERE task_id = ?", [(i,) for i in ids])

    # retention
    def old(self, state: State, lane_id: int, before: int, limit: int) -> list[int]:
        """Tasks of a lane that ended so before that wall time."""
        return [row[0] for row in self.db.execute(OLD, (state.value, lane_id, before, limit))]

    def keep_for(self, queue: str, state: State, seconds: int | None) -> None:
        """Set the retention of a queue, or forget it."""
        self.db.execute("DELETE FROM retention WHERE queue = ? AND state = ?", (queue, state.value))
        if seconds is not None:
            self.db.execute("INSERT INTO retention VALUES (?, ?, ?)", (queue, state.value, seconds))

    def prune_leftovers(self, keys_before: int, limit: int) -> int:
        """Delete keys that nothing needs any more, and let go of uploads that lost."""
        keys = """DELETE FROM idempotency_keys WHERE idempotency_key IN (
                      SELECT idempotency_key FROM idempotency_keys WHERE orphan = 1 AND created_at < ? LIMIT ?)"""
        self.db.execute(keys, (keys_before, limit))
        dropped = self.db.changes()
        self.db.execute(LOST, (keys_before, limit))
        return dropped + self.db.changes() + self._drop_full_buckets(limit)

    def _drop_full_buckets(self, limit: int) -> int:
        """The buckets of keys that are full."""
        raise NotImplementedError

    # history
    def put_history(self, rows: Sequence[tuple[int, int, str, str]], old: Sequence[tuple[int, int]]) -> None:
        """Write stretches of time, forget old ones."""
        self.db.executemany(HISTORY, rows)
        self.db.executemany("DELETE FROM history WHERE step = ? AND at < ?", old)
