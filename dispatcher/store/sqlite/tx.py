"""The operations of one transaction on SQLite: submits, instances, control, housekeeping; leases are in `leases.py`."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import apsw

from dispatcher.clock import Now
from dispatcher.model import FINAL, Instance, Lane, NewTask, Progress, State, TaskRow, TaskTerms
from dispatcher.store.sqlite import arrays
from dispatcher.store.sqlite.attempts import AttemptOps
from dispatcher.store.sqlite.bulk import BulkOps
from dispatcher.store.sqlite.counts import Counts
from dispatcher.store.sqlite.later import LaterOps
from dispatcher.store.sqlite.queues import QueueOps
from dispatcher.store.sqlite.webhooks import HookOps
from dispatcher.store.sqlite.workers import WorkerOps
from dispatcher.store.tally import READY
from dispatcher.store.touched import Touched

LEAST_FREE_PAGES = 4096  # 16 MiB: less is kept for what comes next
# as AUTOINCREMENT finds it: also where a repair by hand has emptied the sequences
LAST_ID = """SELECT max(coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'tasks'), 0),
    coalesce((SELECT max(id) FROM tasks), 0))"""
WAITING = "state IN ('pending', 'blocked')"
COLD = frozenset({"data", "options"})  # what an edit may change beside the hot row
INSERT = """INSERT INTO tasks (lane_id, state, ready, held, priority, run_at, max_attempts, timeout_ms, created_at, id)
    SELECT ?, 'pending', ?, ?, ?, ?, ?, ?, ?, value FROM carray(?)"""
KNOWN_KEYS = """SELECT idempotency_key, task_id, digest FROM carray(?)
    CROSS JOIN idempotency_keys ON idempotency_key = value"""
# columns of fixed width, the last one is the length of the key that follows; then the digest in hexadecimal
REMEMBER_KEYS = """INSERT INTO idempotency_keys (idempotency_key, task_id, digest, created_at)
    SELECT substr(value, 21, CAST(substr(value, 17, 4) AS INTEGER)), CAST(substr(value, 1, 16) AS INTEGER),
    unhex(substr(value, 21 + CAST(substr(value, 17, 4) AS INTEGER))), ? FROM carray(?)"""
INSTANCE = "id, instance_id, worker_id, seen_at, seq, answered, died_at, ordered"


class SqliteTx(QueueOps, AttemptOps, LaterOps, WorkerOps, BulkOps, HookOps):
    """One operation after another inside the writer's transaction (the contract is `store/base.py`)."""

    def __init__(self, db: apsw.Connection, now: Now) -> None:
        self.db, self.now = db, now
        self.finished: list[int] = []
        self.counts = Counts(db)
        self.touched, self.wakes, self._settings = Touched(), {}, None

    # the writer's side: marks to undo to
    def start(self, now: Now) -> None:
        """A transaction begins."""
        self.now, self.finished = now, []
        self.counts.settled()
        self.touched.forget()

    def mark(self, now: Now) -> tuple[int, int, Any]:
        """An operation begins; what `undo` needs to take it back."""
        self.now = now
        return self.counts.mark(), len(self.finished), self.touched.mark()

    def undo(self, mark: tuple[int, int, Any]) -> None:
        """Take back what memory holds of a failed operation."""
        self.counts.undo(mark[0])
        del self.finished[mark[1] :]
        self.touched.undo(mark[2])
        self._settings = None

    def flush(self) -> None:
        """Write the changed counts."""
        self.counts.flush(self.db)

    def settled(self) -> None:
        """The transaction is durable."""
        self.counts.settled()

    # lanes and submits
    def lane(self, queue: str, task_type: str, requires: tuple[str, ...] = ()) -> int:
        """The id of a lane, made when it is new."""
        return self.counts.lane_id(self.db, queue, task_type, requires)

    def ready_lanes(self) -> list[Lane]:
        """The lanes that hold at least one ready task."""
        return self.counts.ready_lanes()

    def fresh_lanes(self) -> list[Lane]:
        """The lanes that gained ready tasks in this transaction."""
        return self.counts.fresh_lanes([s.queue for s in self.queue_settings().values() if s.max_running is not None])

    def look_afresh(self) -> None:
        """Nothing: there are no other dispatchers."""

    def insert(self, tasks: Sequence[NewTask]) -> list[int]:
        """Store tasks as pending."""
        if not tasks:
            return []
        first = 1 + int(self.db.execute(LAST_ID).get)
        ids = list(range(first, first + len(tasks)))
        alike: dict[tuple[int, bool], list[int]] = {}
        for task_id, t, held in zip(ids, tasks, self._held_first(tasks), strict=True):
            alike.setdefault((id(t.terms), held), []).append(task_id)
        for (_, held), of_terms in alike.items():
            self._insert_alike(tasks[of_terms[0] - first].terms, held, of_terms)
        if any(t.key is not None for t in tasks):
            self._store_keys(ids, tasks, self.now.wall)
        self._store_data(ids, tasks)
        return ids

    def _insert_alike(self, terms: TaskTerms, held: bool, ids: list[int]) -> None:
        lane_id, *rest = terms
        ready = terms.run_at <= self.now.wall and not held
        self.db.execute(INSERT, (lane_id, ready, held, *rest, self.now.wall, arrays.numbers(ids)))
        self.counts.add(lane_id, State.PENDING.value, len(ids))
        if ready:
            self.counts.add(lane_id, READY, len(ids))

    def _store_data(self, ids: list[int], tasks: Sequence[NewTask]) -> None:
        sql = "INSERT INTO task_data (task_id, data) SELECT ? + rowid, value FROM carray(?)"
        self.db.execute(sql, (ids[0] - 1, arrays.texts([t.data for t in tasks])))
        more = [(json.dumps(t.tags) if t.tags else None, t.options, i) for i, t in zip(ids, tasks, strict=True)
                if t.tags or t.options]  # fmt: skip
        if more:
            self.db.executemany("UPDATE task_data SET tags = ?, options = ? WHERE task_id = ?", more)
            tags = [(tag, i) for i, t in zip(ids, tasks, strict=True) for tag in t.tags]
            self.db.executemany("INSERT OR IGNORE INTO task_tags VALUES (?, ?)", tags)

    def known_keys(self, keys: Sequence[str]) -> Mapping[str, tuple[int, bytes]]:
        """The (task_id, digest) of each idempotency key in use."""
        if not keys:
            return {}
        return {row[0]: (row[1], row[2]) for row in self.db.execute(KNOWN_KEYS, (arrays.texts(keys),))}

    def remember_keys(self, uses: Sequence[tuple[str, int, bytes]]) -> None:
        """Bind idempotency keys."""
        if uses:
            packed = [f"{task_id:16d}{len(key):4d}{key}{digest.hex()}" for key, task_id, digest in uses]
            self.db.execute(REMEMBER_KEYS, (self.now.wall, arrays.texts(packed)))

    # instances
    def instance(self, instance_id: str) -> Instance | None:
        """The instance with this secret id."""
        return self._instance("instance_id = ?", instance_id)

    def classic(self, worker_id: str) -> Instance | None:
        """The classic instance of this worker_id."""
        return self._instance("instance_id IS NULL AND worker_id = ?", worker_id)

    def meet(self, instance_id: str | None, worker_id: str) -> Instance:
        """The instance, made when it is new."""
        known = self.instance(instance_id) if instance_id else self.classic(worker_id)
        if known is not None:
            return known
        sql = f"""INSERT INTO instances (instance_id, worker_id, first_seen_at, seen_at, ordered)
                  VALUES (?, ?, ?, ?, ?) RETURNING {INSTANCE}"""
        values = (instance_id, worker_id, self.now.wall, self.now.wall, self.remembered(worker_id))
        return Instance(*self.db.execute(sql, values).get)

    def meet_at_once(self, instance_id: str, worker_id: str) -> Instance | None:
        """The same: nobody else has it in hand."""
        return self.meet(instance_id, worker_id)

    def _instance(self, where: str, key: str) -> Instance | None:
        row = self.db.execute(f"SELECT {INSTANCE} FROM instances WHERE {where}", (key,)).get
        return Instance(*row) if row else None

    def seen(self, instance: int, seq: int, host: str | None) -> None:
        """Record a heartbeat."""
        sql = "UPDATE instances SET seen_at = ?, seq = max(seq, ?), host = coalesce(?, host) WHERE id = ?"
        self.db.execute(sql, (self.now.wall, seq, host, instance))

    def answered(self, instance: int, request: int) -> None:
        """Raise the highest answered claim number."""
        sql = "UPDATE instances SET answered = max(answered, ?), seen_at = ? WHERE id = ?"
        self.db.execute(sql, (request, self.now.wall, instance))

    def bury(self, instance: int) -> None:
        """Record the death."""
        sql = "UPDATE instances SET died_at = ? WHERE id = ? AND died_at IS NULL"
        self.db.execute(sql, (self.now.wall, instance))

    def register_types(self, schemas: Mapping[str, str | None]) -> None:
        """Remember payload schemas."""
        sql = """INSERT INTO task_types (name, schema, updated_at) VALUES (?, ?, ?)
                 ON CONFLICT DO UPDATE SET schema = excluded.schema, updated_at = excluded.updated_at"""
        self.db.executemany(sql, [(name, schema, self.now.wall) for name, schema in schemas.items()])

    # progress
    def progress(self, updates: Sequence[Progress]) -> None:
        """Record progress of live leases."""
        sql = """INSERT INTO progress SELECT ?1, ?3, ?4, ?5, ?6, ?7, iif(?6 IS NULL, NULL, ?2)
                 WHERE EXISTS (SELECT 1 FROM tasks WHERE id = ?1 AND lease = ?2 AND state = 'in_progress')
                 ON CONFLICT DO UPDATE SET updated_at = excluded.updated_at,
                 done = coalesce(excluded.done, done), total = coalesce(excluded.total, total),
                 note = coalesce(excluded.note, note), checkpoint = coalesce(excluded.checkpoint, checkpoint),
                 checkpoint_lease = iif(excluded.checkpoint IS NULL OR excluded.checkpoint IS checkpoint,
                                        checkpoint_lease, excluded.checkpoint_lease)"""
        self.db.executemany(sql, [(*u.name, u.done, u.total, u.note, u.checkpoint, self.now.wall) for u in updates])

    # control
    def request_cancel(self, ids: Sequence[int]) -> list[TaskRow]:
        """Mark leased tasks to be cancelled."""
        sql = """UPDATE tasks SET cancel_requested_at = coalesce(cancel_requested_at, ?)
                 WHERE id = ? AND state = 'in_progress' RETURNING id"""
        marked = [row[0] for row in self.db.executemany(sql, [(self.now.wall, i) for i in ids])]
        return list(self.tasks(marked).values())

    def close_waiting(self, ids: Sequence[int]) -> set[int]:
        """Cancel tasks that nobody holds."""
        rows = [row for row in self.tasks(ids).values() if row.state in (State.PENDING, State.BLOCKED)]
        sql = "UPDATE tasks SET state = 'cancelled', ready = 0, finished_at = ?, cancel_requested_at = ? WHERE id = ?"
        self.db.executemany(f"{sql} AND {WAITING}", [(self.now.wall, self.now.wall, row.id) for row in rows])
        for row in rows:
            self._leave(row, State.CANCELLED)
        return {row.id for row in rows}

    def restart(self, ids: Sequence[int]) -> set[int]:
        """Make ended tasks pending in a new generation."""
        rows = [row for row in self.tasks(ids).values() if row.state in FINAL]
        for row in rows:
            self._forget_result(row)
            self._leave(row, State.PENDING)
            self.counts.add(row.lane_id, READY, int(not self.lane_of(row.lane_id).keyed))
        sql = """UPDATE tasks SET state = 'pending', ready = NOT ?1, held = ?1, generation = generation + 1,
                 attempts = 0, run_at = ?2, finished_at = NULL, cancel_requested_at = NULL, lease = NULL,
                 lease_instance = NULL WHERE id = ?3 AND finished_at IS NOT NULL"""
        self.db.executemany(sql, [(self.lane_of(row.lane_id).keyed, self.now.wall, row.id) for row in rows])
        return {row.id for row in rows}

    def _forget_result(self, row: TaskRow) -> None:
        """A new generation starts clean; the lease that won keeps a row, which answers repeats of its report."""
        if row.state == State.COMPLETED:
            sql = """INSERT OR IGNORE INTO ended_leases
                     (task_id, lease, generation, instance, attempt, how, charged, claimed_at, ended_at, error)
                     SELECT id, lease, generation, lease_instance, attempts,
                     'completed', 1, started_at, finished_at, NULL FROM tasks WHERE id = ?"""
            self.db.execute(sql, (row.id,))
        for table in ("results", "progress", "task_output"):
            self.db.execute(f"DELETE FROM {table} WHERE task_id = ?", (row.id,))
        self._throw_away_uploads([row.id])

    def edit(self, task_id: int, changes: Mapping[str, Any]) -> bool:
        """Change a waiting task in a new generation."""
        row = self.tasks([task_id]).get(task_id)
        if row is None or row.state not in (State.PENDING, State.BLOCKED):
            return False
        new = row._replace(**{key: value for key, value in changes.items() if key not in COLD})
        was_due = new.run_at == row.run_at and bool(row.ready or row.held)  # though the clock may have gone back since
        due = row.state == State.PENDING and (was_due or new.run_at <= self.now.wall)
        keyed = self.lane_of(new.lane_id).keyed
        ready = due and not keyed
        sql = f"""UPDATE tasks SET lane_id = ?, priority = ?, run_at = ?, max_attempts = ?, timeout_ms = ?, ready = ?,
                 held = ?, generation = generation + 1, attempts = 0 WHERE id = ? AND {WAITING}"""
        terms = (new.lane_id, new.priority, new.run_at, new.max_attempts, new.timeout_ms, ready, due and keyed)
        self.db.execute(sql, (*terms, task_id))
        self._touch(new.lane_id, task_id)
        for column in COLD.intersection(changes):
            self.db.execute(f"UPDATE task_data SET {column} = ? WHERE task_id = ?", (changes[column], task_id))
        for table in ("progress", "task_output"):
            self.db.execute(f"DELETE FROM {table} WHERE task_id = ?", (task_id,))
        self.counts.add(row.lane_id, row.state.value, -1)
        self.counts.add(row.lane_id, READY, -int(row.ready))
        self.counts.add(new.lane_id, row.state.value, 1)
        self.counts.add(new.lane_id, READY, int(ready))
        return True

    # housekeeping
    def make_ready(self, limit: int) -> int:
        """Make due tasks ready."""
        keyed = json.dumps([lane.id for lane in self.counts.lanes.values() if lane.keyed])
        sql = """UPDATE tasks SET ready = lane_id NOT IN (SELECT value FROM json_each(?1)),
                     held = lane_id IN (SELECT value FROM json_each(?1)) WHERE id IN (
                     SELECT id FROM tasks WHERE state = 'pending' AND ready = 0 AND held = 0 AND run_at <= ?2
                     ORDER BY run_at LIMIT ?3)
                 RETURNING id, lane_id, ready"""
        rows: list[Any] = self.db.execute(sql, (keyed, self.now.wall, limit)).fetchall()
        for task_id, lane_id, ready in rows:
            self.counts.add(lane_id, READY, ready)
            self._touch(lane_id, task_id)
        return len(rows) + self._wake_keys(limit)

    def give_back(self, pages: int) -> int:
        """Return free pages to the file system, when a good part of the file is free; how many."""
        free, all_pages = (int(self.db.pragma(name)) for name in ("freelist_count", "page_count"))
        if free < LEAST_FREE_PAGES or free * 5 < all_pages:
            return 0
        self.db.execute(f"PRAGMA incremental_vacuum({pages})").fetchall()
        return min(pages, free)
