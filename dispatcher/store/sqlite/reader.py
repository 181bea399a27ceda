"""Short reads on SQLite, for display and for waiting clients; JSON stays text, times stay milliseconds."""

from collections.abc import Iterator, Sequence
from typing import Any

import apsw

from dispatcher.clock import Now
from dispatcher.model import EndedTask, KeyUse, Output, QueueSettings, QueueUse, State, TaskFilter
from dispatcher.store.browse import Browse
from dispatcher.store.packing import unpack
from dispatcher.store.pages import Pages
from dispatcher.store.sqlite import arrays
from dispatcher.store.sqlite.attempts import AttemptReads
from dispatcher.store.sqlite.later import LaterReads
from dispatcher.store.sqlite.webhooks import HookReads
from dispatcher.store.sqlite.workers import OUTPUT
from dispatcher.store.tally import READY
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

FINISHED = "SELECT id FROM tasks WHERE id IN carray(?) AND finished_at IS NOT NULL"
COUNT_OPEN = "SELECT count(*) FROM tasks WHERE id IN carray(?) AND finished_at IS NULL"
NEXT_DUE = """SELECT min(at) FROM (
    SELECT * FROM (SELECT run_at AS at FROM tasks WHERE state = 'pending' AND ready = 0 AND held = 0
        ORDER BY run_at LIMIT 1)
    UNION ALL SELECT min(wake_at) + ? FROM key_rates WHERE wake_at IS NOT NULL)"""
USE = """SELECT coalesce(sum(n) FILTER (WHERE state = 'in_progress'), 0),
    coalesce(sum(n) FILTER (WHERE state IN ('pending', 'blocked')), 0)
    FROM counts JOIN lanes ON id = lane_id WHERE queue = ?"""
# the levels above, and the places before it on its own level: two ranges of the index
BEFORE = """SELECT count(*) FROM (SELECT 1 FROM tasks AS m JOIN lanes AS ml ON ml.id = m.lane_id
    JOIN lanes AS l ON l.queue = ml.queue JOIN tasks AS t ON t.lane_id = l.id
    WHERE m.id = ?1 AND t.ready = 1 AND {before} LIMIT ?2)"""
BEFORE_IT = (
    BEFORE.format(before="t.priority > m.priority"),
    BEFORE.format(before="t.priority = m.priority AND (t.run_at, t.id) < (m.run_at, m.id)"),
)
# each lane, each priority in it: the head of that level is its oldest
LEVELS = """WITH RECURSIVE levels (lane, level) AS (
        SELECT lane_id, (SELECT max(priority) FROM tasks WHERE lane_id = c.lane_id AND ready = 1)
        FROM counts AS c WHERE state = ? AND n > 0
        UNION ALL
        SELECT lane, (SELECT max(priority) FROM tasks WHERE lane_id = lane AND ready = 1 AND priority < level)
        FROM levels WHERE level IS NOT NULL)"""
HEAD_OF_LEVEL = "(SELECT min(run_at) FROM tasks WHERE lane_id = lane AND ready = 1 AND priority = level)"
BY_QUEUE = f"{LEVELS} SELECT queue, min({HEAD_OF_LEVEL}) FROM levels JOIN lanes ON lanes.id = lane GROUP BY queue"


class SqliteReader(Pages, Browse, AttemptReads, LaterReads, HookReads):
    """Reads of one moment (the contract is `store/base.py`)."""

    def __init__(self, db: apsw.Connection, now: Now) -> None:
        self.db, self.now = db, now

    def _dicts(self, sql: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        return list(self._each(sql, values))

    def _rows(self, sql: str, values: Sequence[Any]) -> list[Any]:
        found: list[Any] = self.db.execute(sql.replace("{mark}", "?"), values).fetchall()
        return found

    def _each(self, sql: str, values: Sequence[Any]) -> Iterator[dict[str, Any]]:
        cursor = self.db.execute(sql, values)
        names: list[str] = []
        for row in cursor:
            names = names or [column[0] for column in cursor.description]
            yield dict(zip(names, row, strict=True))

    def task(self, task_id: int) -> dict[str, Any] | None:
        """Everything about a task."""
        found = self._dicts(f"{VIEW} WHERE t.id = ?", (task_id,))
        return {**unpacked(found[0]), "ended": self._dicts(ATTEMPTS.format(mark="?"), (task_id,))} if found else None

    def tasks(self, wanted: TaskFilter, after: int | None, limit: int, max_bytes: int) -> list[dict[str, Any]]:
        """A page of tasks, newest first."""
        sql, values = page(wanted, after, "?")
        return fitting(self._each(sql, [*values, limit]), max_bytes)

    def outcomes(self, ids: Sequence[int], max_bytes: int) -> list[EndedTask]:
        """Those of the tasks that have ended, as many as fit."""
        return ends(self.db.execute(f"{ENDS} AND t.id IN carray(?)", (arrays.numbers(ids),)), max_bytes) if ids else []

    def ended_among(self, ids: Sequence[int]) -> list[int]:
        """Those of the tasks that have ended."""
        return [row[0] for row in self.db.execute(FINISHED, (arrays.numbers(ids),))] if ids else []

    def count_open(self, ids: Sequence[int]) -> int:
        """How many of the tasks exist and have not ended."""
        return int(self.db.execute(COUNT_OPEN, (arrays.numbers(ids),)).get) if ids else 0

    def result_part(self, task_id: int, part: int) -> bytes | None:
        """One part of an uploaded result."""
        sql = """SELECT p.data, p.size FROM upload_parts AS p JOIN tasks AS t ON t.id = p.task_id AND t.lease = p.lease
                 WHERE p.task_id = ? AND p.part = ? AND t.state = 'completed'"""
        found = self.db.execute(sql, (task_id, part)).get
        return None if found is None else unpack(*found)

    def counts(self) -> dict[tuple[str, str], dict[str, int]]:
        """Tasks by state for each (queue, task_type)."""
        return by_state(self.db.execute(COUNTS))

    def workers(self, since: int) -> list[dict[str, Any]]:
        """Instances seen since then, and holders of leases."""
        return self._dicts(WORKERS.format(mark="?"), (since,))

    def oldest_by_queue(self) -> dict[str, int]:
        """The earliest run_at among the ready tasks of each queue."""
        return {queue: at for queue, at in self.db.execute(BY_QUEUE, (READY,)) if at is not None}

    def output(self, task_id: int) -> Output | None:
        """The partial result and the log of a task."""
        row = self.db.execute(f"SELECT {OUTPUT} FROM task_output WHERE task_id = ?", (task_id,)).get
        return Output(*row) if row else None

    def next_due(self) -> int | None:
        """When the next task is due, or let in by its key's rate."""
        found = self.db.execute(NEXT_DUE, (self.now.wall - self.now.steady,)).get
        return None if found is None else int(found)

    def live_leases(self) -> int:
        """How many leases are live."""
        sql = "SELECT coalesce(sum(n), 0) FROM counts WHERE state = ?"
        return int(self.db.execute(sql, (State.IN_PROGRESS.value,)).get)

    def queue_settings(self) -> dict[str, QueueSettings]:
        """The settings of the queues that have any."""
        rows = self.db.execute(f"SELECT {', '.join(QueueSettings._fields)} FROM queues")
        return {row[0]: QueueSettings(row[0], bool(row[1]), *row[2:]) for row in rows}

    def queue_use(self, queue: str) -> QueueUse:
        """How far its limits are used up."""
        use: Any = self.db.execute(USE, (queue,)).fetchone()
        bucket = self.db.execute("SELECT bucket, bucket_at FROM queues WHERE queue = ?", (queue,)).fetchone()
        return QueueUse(*use, *(bucket or ()))

    def key_of(self, task_id: int) -> KeyUse | None:
        """The key of a task and how far its limits are used up."""
        row = self.db.execute(KEY_OF.format(mark="?"), (task_id,)).fetchone()
        return KeyUse(*row) if row else None

    def before(self, task_id: int, limit: int) -> int:
        """How many ready tasks of its queue stand before it."""
        return min(limit, sum(int(self.db.execute(sql, (task_id, limit)).get) for sql in BEFORE_IT))

    def type_schemas(self) -> dict[str, str | None]:
        """The registered task types and their payload schemas."""
        return dict(self.db.execute("SELECT name, schema FROM task_types"))
