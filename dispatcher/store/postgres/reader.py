"""Short reads on PostgreSQL, for display and for waiting clients; JSON stays text, times stay milliseconds."""

from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
from psycopg.rows import dict_row

from dispatcher.clock import Now
from dispatcher.model import EndedTask, KeyUse, Output, QueueSettings, QueueUse, State, TaskFilter
from dispatcher.store.browse import Browse
from dispatcher.store.packing import unpack
from dispatcher.store.pages import Pages
from dispatcher.store.postgres.attempts import AttemptReads
from dispatcher.store.postgres.later import LaterReads
from dispatcher.store.postgres.queues import BUCKET, SETTINGS, USE
from dispatcher.store.postgres.webhooks import HookReads
from dispatcher.store.postgres.workers import OUTPUT
from dispatcher.store.views import (
    ATTEMPTS,
    COUNTS,
    ENDS,
    KEY_OF,
    VIEW,
    WORKERS,
    by_state,
    ends,
    fitting,
    page,
    unpacked,
)

# each lane, each priority in it: the head of that level is its oldest
LEVELS = """WITH RECURSIVE levels (lane, level) AS (
        SELECT lane_id, (SELECT -priority FROM tasks WHERE lane_id = c.lane_id AND ready ORDER BY -priority LIMIT 1)
        FROM counts AS c WHERE state = 'ready' GROUP BY lane_id HAVING sum(n) > 0
        UNION ALL
        SELECT lane, (SELECT -priority FROM tasks WHERE lane_id = lane AND ready AND -priority > level
                      ORDER BY -priority LIMIT 1)
        FROM levels WHERE level IS NOT NULL)"""
HEAD_OF_LEVEL = (
    "(SELECT run_at FROM tasks WHERE lane_id = lane AND ready AND -priority = level ORDER BY run_at LIMIT 1)"
)
BY_QUEUE = f"{LEVELS} SELECT queue, min({HEAD_OF_LEVEL}) FROM levels JOIN lanes ON lanes.id = lane GROUP BY queue"
NEXT_DUE = """SELECT least(
    (SELECT run_at FROM tasks WHERE state = 'pending' AND NOT ready AND NOT held ORDER BY run_at LIMIT 1),
    (SELECT wake_at + %s FROM key_rates WHERE wake_at IS NOT NULL ORDER BY wake_at LIMIT 1))"""
BEFORE = """SELECT count(*) FROM (SELECT FROM tasks AS m JOIN lanes AS ml ON ml.id = m.lane_id
    JOIN lanes AS l ON l.queue = ml.queue JOIN tasks AS t ON t.lane_id = l.id
    WHERE m.id = %s AND t.ready AND (-t.priority, t.run_at, t.id) < (-m.priority, m.run_at, m.id) LIMIT %s) AS b"""
PAGE = 100  # rows that are fetched at a time, so that a page of large results is not held twice


class PostgresReader(Pages, Browse, AttemptReads, LaterReads, HookReads):
    """Reads of one moment (the contract is `store/base.py`)."""

    MARK = "%s"
    READY, DUE_LATER = "ready", "state = 'pending' AND NOT ready AND NOT held"

    def __init__(self, db: psycopg.Connection, now: Now) -> None:
        self.db, self.now = db, now

    def _dicts(self, sql: str, values: Sequence[Any]) -> list[dict[str, Any]]:
        with self.db.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(sql, values).fetchall()

    def _rows(self, sql: str, values: Sequence[Any]) -> list[Any]:
        return self.db.execute(sql.replace("{mark}", "%s"), values).fetchall()

    def _each(self, sql: str, values: Sequence[Any]) -> Iterator[dict[str, Any]]:
        with self.db.cursor("page", row_factory=dict_row) as cursor:
            cursor.itersize = PAGE
            yield from cursor.execute(sql, values)

    def _one(self, sql: str, values: Sequence[Any] = ()) -> Any:
        row = self.db.execute(sql, values).fetchone()
        return row[0] if row else None

    def task(self, task_id: int) -> dict[str, Any] | None:
        """Everything about a task."""
        found = self._dicts(f"{VIEW} WHERE t.id = %s", (task_id,))
        return {**unpacked(found[0]), "ended": self._dicts(ATTEMPTS.format(mark="%s"), (task_id,))} if found else None

    def tasks(self, wanted: TaskFilter, after: int | None, limit: int, max_bytes: int) -> list[dict[str, Any]]:
        """A page of tasks, newest first."""
        sql, values = page(wanted, after, "%s")
        return fitting(self._each(sql, [*values, limit]), max_bytes)

    def outcomes(self, ids: Sequence[int], max_bytes: int) -> list[EndedTask]:
        """Those of the tasks that have ended, as many as fit."""
        if not ids:
            return []
        with self.db.cursor("page") as cursor:
            cursor.itersize = PAGE
            return ends(cursor.execute(f"{ENDS} AND t.id = ANY(%s)", (list(ids),)), max_bytes)

    def ended_among(self, ids: Sequence[int]) -> list[int]:
        """Those of the tasks that have ended."""
        rows = self.db.execute("SELECT id FROM tasks WHERE id = ANY(%s) AND finished_at IS NOT NULL", (list(ids),))
        return [row[0] for row in rows.fetchall()]

    def count_open(self, ids: Sequence[int]) -> int:
        """How many of the tasks exist and have not ended."""
        return int(self._one("SELECT count(*) FROM tasks WHERE id = ANY(%s) AND finished_at IS NULL", (list(ids),)))

    def result_part(self, task_id: int, part: int) -> bytes | None:
        """One part of an uploaded result."""
        sql = """SELECT p.data, p.size FROM upload_parts AS p JOIN tasks AS t ON t.id = p.task_id AND t.lease = p.lease
                 WHERE p.task_id = %s AND p.part = %s AND t.state = 'completed'"""
        found = self.db.execute(sql, (task_id, part)).fetchone()
        return None if found is None else unpack(*found)

    def counts(self) -> dict[tuple[str, str], dict[str, int]]:
        """Tasks by state for each (queue, task_type)."""
        return by_state(iter(self.db.execute(COUNTS).fetchall()))

    def workers(self, since: int) -> list[dict[str, Any]]:
        """Instances seen since then, and holders of leases."""
        return self._dicts(WORKERS.format(mark="%s"), (since,))

    def oldest_by_queue(self) -> dict[str, int]:
        """The earliest run_at among the ready tasks of each queue."""
        return {queue: int(at) for queue, at in self.db.execute(BY_QUEUE).fetchall() if at is not None}

    def output(self, task_id: int) -> Output | None:
        """The partial result and the log of a task."""
        row = self.db.execute(f"SELECT {OUTPUT} FROM task_output WHERE task_id = %s", (task_id,)).fetchone()
        return Output(*row) if row else None

    def next_due(self) -> int | None:
        """When the next task is due, or let in by its key's rate."""
        found = self._one(NEXT_DUE, (self.now.wall - self.now.steady,))
        return None if found is None else int(found)

    def live_leases(self) -> int:
        """How many leases are live."""
        return int(self._one("SELECT coalesce(sum(n), 0) FROM counts WHERE state = %s", (State.IN_PROGRESS.value,)))

    def queue_settings(self) -> dict[str, QueueSettings]:
        """The settings of the queues that have any."""
        return {row[0]: QueueSettings(*row) for row in self.db.execute(f"SELECT {SETTINGS} FROM queues").fetchall()}

    def queue_use(self, queue: str) -> QueueUse:
        """How far its limits are used up."""
        running, waiting = self.db.execute(USE, (queue,)).fetchall()[0]
        bucket = self.db.execute(BUCKET, (queue,)).fetchone()
        return QueueUse(running, waiting, *(bucket or ()))

    def key_of(self, task_id: int) -> KeyUse | None:
        """The key of a task and how far its limits are used up."""
        row = self.db.execute(KEY_OF.format(mark="%s"), (task_id,)).fetchone()
        return KeyUse(*row) if row else None

    def before(self, task_id: int, limit: int) -> int:
        """How many ready tasks of its queue stand before it."""
        return int(self._one(BEFORE, (task_id, limit)))

    def type_schemas(self) -> dict[str, str | None]:
        """The registered task types and their payload schemas."""
        return dict(self.db.execute("SELECT name, schema FROM task_types").fetchall())
