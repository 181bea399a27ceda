"""Bulk control and retention on PostgreSQL: what many tasks at once need of the store."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence

from dispatcher.clock import Now
from dispatcher.model import FINAL, Lane, State, TaskRow
from dispatcher.store.postgres.counts import Counts
from dispatcher.store.postgres.results import ResultOps
from dispatcher.store.tally import OWN_ROWS

WEIGHT = """SELECT d.task_id,
        octet_length(d.data) + coalesce(octet_length(r.body), 0) + coalesce(octet_length(r.packed), 0)
    FROM task_data AS d LEFT JOIN results AS r ON r.task_id = d.task_id WHERE d.task_id = ANY(%s)"""
OLD = """SELECT id FROM tasks WHERE state = %s AND lane_id = %s AND finished_at IS NOT NULL AND finished_at < %s
    ORDER BY finished_at LIMIT %s FOR UPDATE SKIP LOCKED"""
TAGS = "INSERT INTO task_tags SELECT n.tag, %s FROM unnest(%s::text[]) AS n (tag) ON CONFLICT DO NOTHING"
OLD_KEYS = """DELETE FROM idempotency_keys WHERE idempotency_key IN (
    SELECT idempotency_key FROM idempotency_keys WHERE orphan AND created_at < %s LIMIT %s FOR UPDATE SKIP LOCKED)"""
LOST = """INSERT INTO upload_trash SELECT u.task_id, u.lease FROM upload_parts AS u JOIN tasks AS t ON t.id = u.task_id
    WHERE u.part = 0 AND t.finished_at IS NOT NULL AND t.lease IS DISTINCT FROM u.lease AND t.finished_at < %s LIMIT %s
    ON CONFLICT DO NOTHING"""
KEEP = """INSERT INTO retention VALUES (%s, %s, %s)
    ON CONFLICT (queue, state) DO UPDATE SET seconds = excluded.seconds"""
HISTORY = """INSERT INTO history VALUES (%s, %s, %s, %s)
    ON CONFLICT (step, at, writer) DO UPDATE SET data = excluded.data"""


class BulkOps(ResultOps):
    """The part of the transaction that deletes, retags and keeps retention."""

    now: Now
    counts: Counts

    def tasks(self, ids: Sequence[int]) -> Mapping[int, TaskRow]:
        """The hot rows, locked (of leases)."""
        raise NotImplementedError

    def settle_keys(self) -> None:
        """Let in what the limits of keys allow (of queues)."""
        raise NotImplementedError

    def lane_of(self, lane_id: int) -> Lane:
        """A lane by its id."""
        return self.counts.lane(lane_id)

    def retag(self, task_id: int, tags: Sequence[str]) -> None:
        """Replace a task's tags."""
        text = json.dumps(list(tags)) if tags else None
        self.changed("UPDATE task_data SET tags = %s WHERE task_id = %s", (text, task_id))
        self.changed("DELETE FROM task_tags WHERE task_id = %s", (task_id,))
        if tags:
            self.changed(TAGS, (task_id, list(tags)))

    def tagged(self, ids: Sequence[int], tag: str) -> set[int]:
        """Those of the tasks that carry a tag."""
        sql = "SELECT task_id FROM task_tags WHERE tag = %s AND task_id = ANY(%s)"
        return {row[0] for row in self.ask(sql, (tag, list(ids)))}

    def weigh(self, ids: Sequence[int]) -> Mapping[int, int]:
        """How many bytes lie with each task."""
        return {row[0]: row[1] for row in self.ask(WEIGHT, (list(ids),))}

    def delete(self, ids: Sequence[int]) -> set[int]:
        """Delete ended tasks with all that belongs to them."""
        self.settle_keys()  # of a task that ended in this very transaction, while its key is still known
        rows = [row for row in self.tasks(ids).values() if row.state in FINAL]
        gone = [row.id for row in rows]
        if not gone:
            return set()
        self.changed("DELETE FROM tasks WHERE id = ANY(%s)", (gone,))
        self.orphan_keys(gone)
        for table in (*OWN_ROWS, "task_tags"):
            self.changed(f"DELETE FROM {table} WHERE task_id = ANY(%s)", (gone,))
        self._throw_away_uploads(gone)
        for (lane_id, state), n in Counter((row.lane_id, row.state) for row in rows).items():
            self.counts.add(lane_id, state.value, -n)
        return set(gone)

    def orphan_keys(self, ids: Sequence[int]) -> None:
        """The tasks of keys are gone."""
        self.changed("UPDATE idempotency_keys SET orphan = true WHERE task_id = ANY(%s)", (list(ids),))

    # retention
    def old(self, state: State, lane_id: int, before: int, limit: int) -> list[int]:
        """Tasks of a lane that ended so before that wall time, but for those that another dispatcher has in hand."""
        return [row[0] for row in self.ask(OLD, (state.value, lane_id, before, limit))]

    def keep_for(self, queue: str, state: State, seconds: int | None) -> None:
        """Set the retention of a queue, or forget it."""
        if seconds is None:
            self.changed("DELETE FROM retention WHERE queue = %s AND state = %s", (queue, state.value))
        else:
            self.changed(KEEP, (queue, state.value, seconds))

    def prune_leftovers(self, keys_before: int, limit: int) -> int:
        """Delete keys that nothing needs any more, let go of uploads that lost, and fold the counts of a dispatcher
        that is gone."""
        dropped = self.changed(OLD_KEYS, (keys_before, limit)) + self.changed(LOST, (keys_before, limit))
        return dropped + self._drop_lonely_locks(limit) + self._drop_full_buckets(limit) + self._fold_spell()

    def _drop_full_buckets(self, limit: int) -> int:
        """The buckets of keys that are full."""
        raise NotImplementedError

    def _drop_lonely_locks(self, limit: int) -> int:
        """The locks of keys that no task has any more."""
        raise NotImplementedError

    def _fold_spell(self) -> int:
        """Take over what a dispatcher counted that is gone."""
        raise NotImplementedError

    # history
    def put_history(self, rows: Sequence[tuple[int, int, str, str]], old: Sequence[tuple[int, int]]) -> None:
        """Write stretches of time, forget old ones."""
        for row in rows:
            self.changed(HISTORY, row)
        for step in old:
            self.changed("DELETE FROM history WHERE step = %s AND at < %s", step)
