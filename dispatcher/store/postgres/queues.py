"""Settings and limits of queues, and tasks with keys, on PostgreSQL (the rules of keys: `store/keys.py`).

Settings are cached, and looked at anew once a second. Who changes them raises a number in the rows of all other
dispatchers' spells, which each transaction checks as it counts its commit (`session.py`): one that began with the old
settings fails then and runs again with the new ones. So a pause holds everywhere from the moment it is answered.
Limits are judged under a lock of the queue's row, which only queues with a limit pay; keys under a lock of the key.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from dispatcher.clock import Now
from dispatcher.model import Lane, NewTask, QueueSettings, QueueUse, State
from dispatcher.store.key_rates import Bucket, Line
from dispatcher.store.keys import ACTIVE, HELD, IDLE, KeyRow, KeyRules
from dispatcher.store.postgres.again import Again
from dispatcher.store.postgres.counts import Counts
from dispatcher.store.postgres.heads import Heads
from dispatcher.store.postgres.statements import Statements
from dispatcher.store.tally import READY
from dispatcher.store.touched import Name, Touched

FRESH_MS = 1_000  # settings that are older are looked at anew
SETTINGS = ", ".join(QueueSettings._fields)
ANNOUNCE = "UPDATE spells SET settings = settings + 1 WHERE id <> %s"
BUCKET = "SELECT bucket, bucket_at FROM queues WHERE queue = %s"
USE = """SELECT coalesce(sum(n) FILTER (WHERE state = 'in_progress'), 0)::bigint,
    coalesce(sum(n) FILTER (WHERE state IN ('pending', 'blocked')), 0)::bigint
    FROM counts JOIN lanes ON id = lane_id WHERE queue = %s AND state IN ('in_progress', 'pending', 'blocked')"""
KEY_ROWS = """SELECT k.task_id, k.queue, k.key, k.status, l.queue, t.state, t.ready, t.held, t.priority, t.run_at
    FROM task_keys AS k JOIN tasks AS t ON t.id = k.task_id JOIN lanes AS l ON l.id = t.lane_id
    WHERE k.task_id = ANY(%s)"""
NEW_KEYS = """INSERT INTO task_keys SELECT * FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::text[],
    %s::bigint[], %s::bigint[])"""
NAMES = "unnest(%s::text[], %s::text[]) AS n (queue, key)"
NEW_LOCKS = f"INSERT INTO key_locks SELECT * FROM {NAMES} ORDER BY 1, 2 ON CONFLICT DO NOTHING"
LOCK = "SELECT queue FROM key_locks WHERE (queue, key) IN (SELECT * FROM {names}) ORDER BY queue, key FOR UPDATE"
SAVE = """UPDATE task_keys AS k SET queue = n.queue, status = n.status, priority = n.priority, run_at = n.run_at
    FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::bigint[], %s::bigint[])
        AS n (task, queue, status, priority, run_at) WHERE k.task_id = n.task"""
COUNT_ACTIVE = f"""SELECT n.queue, n.key, (SELECT count(*) FROM task_keys AS k
        WHERE k.queue = n.queue AND k.key = n.key AND k.status = 'active') FROM {NAMES}"""
BUCKETS = "SELECT queue, key, full_at, wake_at FROM key_rates WHERE (queue, key) IN (SELECT * FROM {names})"
SAVE_BUCKETS = """INSERT INTO key_rates (queue, key, full_at, wake_at)
    SELECT * FROM unnest(%s::text[], %s::text[], %s::bigint[], %s::bigint[])
    ON CONFLICT (queue, key) DO UPDATE SET full_at = excluded.full_at, wake_at = excluded.wake_at"""
LINES = """SELECT n.queue, n.key, (SELECT count(*) FROM (SELECT FROM task_keys AS k JOIN tasks AS t ON t.id = k.task_id
        WHERE k.queue = n.queue AND k.key = n.key AND k.status = 'active' AND t.ready LIMIT n.most) AS r),
    EXISTS (SELECT FROM task_keys AS k WHERE k.queue = n.queue AND k.key = n.key AND k.status = 'held')
    FROM unnest(%s::text[], %s::text[], %s::bigint[]) AS n (queue, key, most)"""
BEST_HELD = """WITH best AS MATERIALIZED (
        SELECT h.id FROM unnest(%s::text[], %s::text[], %s::bigint[]) AS n (queue, key, room)
        CROSS JOIN LATERAL (SELECT t.id FROM task_keys AS k JOIN tasks AS t ON t.id = k.task_id
            WHERE k.queue = n.queue AND k.key = n.key AND k.status = 'held' AND t.held
            ORDER BY -k.priority, k.run_at, k.task_id LIMIT n.room) AS h),
    ours AS MATERIALIZED (SELECT id FROM tasks WHERE id IN (SELECT id FROM best) AND held FOR UPDATE SKIP LOCKED)
    SELECT id, id IN (SELECT id FROM ours) FROM best"""
WORST_READY = """SELECT t.id FROM task_keys AS k JOIN tasks AS t ON t.id = k.task_id
    WHERE k.queue = %s AND k.key = %s AND k.status = 'active' AND t.ready
    ORDER BY k.priority, k.run_at DESC, k.task_id DESC LIMIT %s FOR UPDATE OF t SKIP LOCKED"""
ADMIT = """UPDATE tasks SET held = false, ready = true WHERE id = ANY(%s) AND held
    RETURNING lane_id, -priority, run_at, id"""
HOLD = "UPDATE tasks SET held = true, ready = false WHERE id = ANY(%s) AND ready RETURNING lane_id"


LONELY_LOCKS = """DELETE FROM key_locks WHERE (queue, key) IN (
    SELECT queue, key FROM key_locks AS l
    WHERE NOT EXISTS (SELECT FROM task_keys AS k WHERE k.queue = l.queue AND k.key = l.key)
    LIMIT %s FOR UPDATE SKIP LOCKED)"""
# buckets that are full: as good as none
FULL = """DELETE FROM key_rates WHERE (queue, key) IN (
    SELECT queue, key FROM key_rates WHERE full_at <= %s AND wake_at IS NULL LIMIT %s FOR UPDATE SKIP LOCKED)"""


class QueueOps(KeyRules, Statements):
    """The part of the transaction that touches queues and keys."""

    now: Now
    counts: Counts
    heads: Heads
    touched: Touched
    wakes: dict[str, int]
    spell = 0
    _settings: dict[str, QueueSettings] | None
    _settings_at = 0
    _in_hand: dict[str, QueueUse]  # queues that this transaction has locked, as they were then

    # settings and limits
    def queue_settings(self) -> Mapping[str, QueueSettings]:
        """The settings of the queues that have any."""
        if self._settings is None or not 0 <= self.now.steady - self._settings_at < FRESH_MS:
            self._settings = {row[0]: QueueSettings(*row) for row in self.ask(f"SELECT {SETTINGS} FROM queues")}
            self._settings_at = self.now.steady
            self.counts.limited = frozenset(s.queue for s in self._settings.values() if s.max_running is not None)
        return self._settings

    def configure(self, queue: str, changes: Mapping[str, Any]) -> QueueSettings:
        """Change settings."""
        self.changed("INSERT INTO queues (queue) VALUES (%s) ON CONFLICT DO NOTHING", (queue,))
        if "rate_count" in changes:
            changes = {**changes, "bucket": None, "bucket_at": None}
        if changes:
            columns = ", ".join(f"{name} = %s" for name in changes)
            self.changed(f"UPDATE queues SET {columns} WHERE queue = %s", (*changes.values(), queue))
        self.forget_settings()
        return self.queue_settings()[queue]

    def forget_settings(self) -> None:
        """Look at the settings anew; locks of this operation may be gone."""
        self._settings = None
        self._in_hand.clear()

    def announce_settings(self) -> None:
        """Let no other dispatcher commit what it began with older settings."""
        self.changed(ANNOUNCE, (self.spell,))

    def look_at_queue(self, queue: str) -> QueueUse:
        """How far its limits are used up, without a lock."""
        return self._with_ours(queue, self._in_hand[queue] if queue in self._in_hand else self._use(queue))

    def lock_queue(self, queue: str) -> QueueUse | None:
        """How far its limits are used up, locked; None when another dispatcher has it in hand and waiting for that
        could be for ever."""
        if queue not in self._in_hand:
            wait = "SKIP LOCKED" if self.touched.locked else ""  # with keys locked, two could wait for each other
            if not self.ask(f"{BUCKET} FOR UPDATE {wait}", (queue,)):
                return None
            self._in_hand[queue] = self._use(queue)
        return self._with_ours(queue, self._in_hand[queue])

    def _use(self, queue: str) -> QueueUse:
        bucket = self.ask(BUCKET, (queue,))
        return QueueUse(*self.ask(USE, (queue,))[0], *(bucket[0] if bucket else ()))

    def _with_ours(self, queue: str, use: QueueUse) -> QueueUse:
        """With what this transaction has changed and not written yet."""
        running = self.counts.changed_in(queue, State.IN_PROGRESS.value)
        waiting = sum(self.counts.changed_in(queue, state.value) for state in (State.PENDING, State.BLOCKED))
        return use._replace(running=use.running + running, waiting=use.waiting + waiting)

    def spend(self, queue: str, bucket: int, at: int) -> None:
        """Store the bucket of its rate."""
        self.changed("UPDATE queues SET bucket = %s, bucket_at = %s WHERE queue = %s", (bucket, at, queue))
        self._in_hand[queue] = self._in_hand[queue]._replace(bucket=bucket, bucket_at=at)

    def freshen(self, queue: str) -> None:
        """Count its ready lanes among the fresh ones."""
        self.counts.freshen(queue)

    def lane_of(self, lane_id: int) -> Lane:
        """A lane by its id."""
        return self.counts.lane(lane_id)

    # keys
    _lane_of = lane_of

    def _store_keys(self, ids: Sequence[int], tasks: Sequence[NewTask], wall: int) -> None:
        """The rows of new tasks with keys."""
        rows = []
        for task_id, task in zip(ids, tasks, strict=True):
            if task.key is not None:
                status = IDLE if task.terms.run_at > wall else HELD if self._is_held_first(task) else ACTIVE
                name = (self.counts.lane(task.terms.lane_id).queue, task.key)
                rows.append((task_id, *name, status, task.terms.priority, task.terms.run_at))
                if status == HELD:
                    self.touched.names([name])
        if rows:
            self.changed(NEW_KEYS, [list(column) for column in zip(*rows, strict=True)])

    def _key_rows(self, ids: Sequence[int]) -> list[KeyRow]:
        return [KeyRow(*row) for row in self.ask(KEY_ROWS, (list(ids),))] if ids else []

    def _lock_keys(self, names: Sequence[Name]) -> None:
        columns = _columns(names)
        lock = LOCK.format(names=NAMES)
        while len(self.ask(lock, columns)) < len(names):  # a key that is new, or was dropped just now
            self.changed(NEW_LOCKS, columns)

    def _save_key_rows(self, rows: Sequence[KeyRow]) -> None:
        saved = [(r.task_id, r.queue_now, r.status_now(), r.priority, r.run_at) for r in rows]
        if saved:
            self.changed(SAVE, [list(column) for column in zip(*saved, strict=True)])
        lost = [r.task_id for r in rows if r.held and r.status_now() != HELD]
        if lost:
            self.changed("UPDATE tasks SET held = false WHERE id = ANY(%s)", (lost,))

    def _count_active(self, names: Sequence[Name]) -> Mapping[Name, int]:
        return {(row[0], row[1]): row[2] for row in self.ask(COUNT_ACTIVE, _columns(names))}

    def _admit(self, rooms: Sequence[tuple[str, str, int]]) -> int:
        best = self.ask(BEST_HELD, [list(column) for column in zip(*rooms, strict=True)])
        if not all(ours for _, ours in best):
            raise Again  # who has it in hand may only look at it: passed over it would be held for ever
        ids = [task_id for task_id, _ in best]
        if ids:
            self.changed("UPDATE task_keys SET status = 'active' WHERE task_id = ANY(%s)", (ids,))
            for lane_id, *place in self.change(ADMIT, (ids,)):
                self.counts.add(lane_id, READY, 1)
                self.heads.enter(lane_id, (place[0], place[1], place[2]))
        return len(ids)

    def _hold_again(self, name: Name, n: int) -> int:
        ids = [row[0] for row in self.ask(WORST_READY, (*name, n))]
        if ids:
            self.changed("UPDATE task_keys SET status = 'held' WHERE task_id = ANY(%s)", (ids,))
            for (lane_id,) in self.change(HOLD, (ids,)):
                self.counts.add(lane_id, READY, -1)
        return len(ids)

    def _drop_lonely_locks(self, limit: int) -> int:
        """The locks of keys that no task has any more."""
        return self.changed(LONELY_LOCKS, (limit,))

    def _keys_after(self, queue: str, after: str, limit: int) -> list[str]:
        sql = "SELECT DISTINCT key FROM task_keys WHERE queue = %s AND key > %s ORDER BY key LIMIT %s"
        return [row[0] for row in self.ask(sql, (queue, after, limit))]

    # rates of keys
    def _buckets(self, names: Sequence[Name]) -> Mapping[Name, Bucket]:
        rows = self.ask(BUCKETS.format(names=NAMES), _columns(names))
        return {(row[0], row[1]): Bucket(*row[2:]) for row in rows}

    def _save_buckets(self, buckets: Mapping[Name, Bucket]) -> None:
        rows = [(*name, *bucket) for name, bucket in sorted(buckets.items())]
        if rows:
            self.changed(SAVE_BUCKETS, [list(column) for column in zip(*rows, strict=True)])

    def _drop_buckets(self, names: Sequence[Name]) -> None:
        self.changed(f"DELETE FROM key_rates WHERE (queue, key) IN (SELECT * FROM {NAMES})", _columns(names))

    def _lines(self, names: Mapping[Name, int]) -> Mapping[Name, Line]:
        columns = (*_columns(list(names)), list(names.values()))
        return {(row[0], row[1]): Line(row[2], row[3]) for row in self.ask(LINES, columns)}

    def _due_names(self, limit: int) -> list[Name]:
        sql = "SELECT queue, key FROM key_rates WHERE wake_at <= %s ORDER BY wake_at LIMIT %s"
        return [(row[0], row[1]) for row in self.ask(sql, (self.now.steady, limit))]

    def _drop_full_buckets(self, limit: int) -> int:
        return self.changed(FULL, (self.now.steady * 1000, limit))


def _columns(names: Sequence[Name]) -> tuple[list[str], list[str]]:
    return [queue for queue, _ in names], [key for _, key in names]
