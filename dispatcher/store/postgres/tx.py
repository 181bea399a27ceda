"""The operations of one transaction on PostgreSQL: submits, instances, control, housekeeping; leases: `leases.py`."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg

from dispatcher.clock import Clock, Now
from dispatcher.model import FINAL, Instance, Lane, NewTask, Progress, State, TaskRow
from dispatcher.store.postgres.again import Again
from dispatcher.store.postgres.attempts import AttemptOps
from dispatcher.store.postgres.bulk import BulkOps
from dispatcher.store.postgres.counts import FLUSH, Counts
from dispatcher.store.postgres.heads import Heads
from dispatcher.store.postgres.later import LaterOps
from dispatcher.store.postgres.queues import QueueOps
from dispatcher.store.postgres.watchdog import Watchdog
from dispatcher.store.postgres.webhooks import HookOps
from dispatcher.store.postgres.workers import WorkerOps
from dispatcher.store.tally import READY
from dispatcher.store.touched import NOTHING, Touched

WAITING = "state IN ('pending', 'blocked')"
COLD = frozenset({"data", "options"})  # what an edit may change beside the hot row
INSTANCE = "id, instance_id, worker_id, seen_at, seq, answered, died_at, ordered"
INSERT = """INSERT INTO tasks (id, lane_id, state, ready, held, priority, run_at, max_attempts, timeout_ms, created_at)
    SELECT n.id, n.lane, 'pending', n.run_at <= %s AND NOT n.held, n.held, n.priority, n.run_at, n.most, n.timeout, %s
    FROM unnest(%s::bigint[], %s::integer[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::boolean[])
        AS n (id, lane, priority, run_at, most, timeout, held)"""
IDS = "SELECT nextval(pg_get_serial_sequence('tasks', 'id')) FROM generate_series(1, %s)"
DATA = """INSERT INTO task_data (task_id, data, tags, options)
    SELECT * FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::text[])"""
TAGS = "INSERT INTO task_tags SELECT * FROM unnest(%s::text[], %s::bigint[]) ON CONFLICT DO NOTHING"
KEYS = """INSERT INTO idempotency_keys (idempotency_key, task_id, digest, created_at)
    SELECT n.key, n.task, n.digest, %s FROM unnest(%s::text[], %s::bigint[], %s::bytea[]) AS n (key, task, digest)
    ON CONFLICT DO NOTHING"""
MEET = """INSERT INTO instances (instance_id, worker_id, first_seen_at, seen_at, ordered)
    VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"""
PROGRESS = """INSERT INTO progress
    SELECT n.task, n.done, n.total, n.note, n.checkpoint, %s, CASE WHEN n.checkpoint IS NOT NULL THEN n.token END
    FROM unnest(%s::bigint[], %s::bigint[], %s::float8[], %s::float8[], %s::text[], %s::text[])
        AS n (task, token, done, total, note, checkpoint)
    JOIN tasks AS t ON t.id = n.task AND t.lease = n.token AND t.state = 'in_progress'
    ON CONFLICT (task_id) DO UPDATE SET updated_at = excluded.updated_at,
        done = coalesce(excluded.done, progress.done), total = coalesce(excluded.total, progress.total),
        note = coalesce(excluded.note, progress.note),
        checkpoint = coalesce(excluded.checkpoint, progress.checkpoint),
        checkpoint_lease = CASE WHEN excluded.checkpoint IS NULL OR excluded.checkpoint = progress.checkpoint
            THEN progress.checkpoint_lease ELSE excluded.checkpoint_lease END"""
RESTART = """UPDATE tasks SET state = 'pending', ready = NOT (id = ANY(%s)), held = id = ANY(%s),
    generation = generation + 1, attempts = 0, run_at = %s,
    finished_at = NULL, cancel_requested_at = NULL, lease = NULL, lease_instance = NULL WHERE id = ANY(%s)"""
KEEP_WINNER = """INSERT INTO ended_leases
        (task_id, lease, generation, instance, attempt, how, charged, claimed_at, ended_at, error)
    SELECT id, lease, generation, lease_instance, attempts, 'completed', true, started_at, finished_at, NULL
    FROM tasks WHERE id = ANY(%s) AND state = 'completed' ON CONFLICT DO NOTHING"""
MAKE_READY = """UPDATE tasks SET ready = NOT due.keyed, held = due.keyed FROM (
        SELECT id, (SELECT requires LIKE '%%"#key"%%' FROM lanes WHERE id = lane_id) AS keyed
        FROM tasks WHERE state = 'pending' AND NOT ready AND NOT held AND run_at <= %s ORDER BY run_at LIMIT %s
        FOR UPDATE OF tasks SKIP LOCKED) AS due
    WHERE tasks.id = due.id RETURNING lane_id, -priority, run_at, tasks.id, ready"""
REAPED_AT = "SELECT value FROM meta WHERE key = 'reaper_at' FOR UPDATE SKIP LOCKED"
SILENT_SPELL = "SELECT id FROM spells WHERE seen_at < %s ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED"
SPELL_IS_OVER_MS = 3_600_000


class PostgresTx(QueueOps, AttemptOps, LaterOps, WorkerOps, BulkOps, HookOps):
    """One operation after another inside the writer's transaction (the contract is `store/base.py`)."""

    def __init__(self, db: psycopg.Connection, clock: Clock, watchdog: Watchdog) -> None:
        self.db, self._clock, self._watchdog = db, clock, watchdog
        self.now = clock.now()
        self.finished: list[int] = []
        self.counts, self.heads = Counts(self._ask_for_lanes), Heads()
        self.touched, self.wakes, self._settings, self._in_hand = Touched(), {}, None, {}
        self.writes = 0  # rows touched since the transaction began

    def _ask_for_lanes(self, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        return self.change(sql, values) if sql.startswith("INSERT") else self.ask(sql, values)

    # the writer's side: marks to undo to
    def start(self, now: Now, spell: int) -> None:
        """A transaction begins."""
        self.now, self.finished, self.writes = now, [], 0
        self.counts.forget()
        self.counts.now, self.counts.spell, self.spell = now.steady, spell, spell
        self.touched.forget()
        self._in_hand.clear()

    def mark(self) -> tuple[int, int, int, Any]:
        """An operation begins; what `undo` needs to take it back."""
        return self.counts.mark(), len(self.finished), self.writes, self.touched.mark()

    def undo(self, mark: tuple[int, int, int, Any] | None = None) -> None:
        """Take back what memory holds of a failed operation; without a mark, of the whole transaction."""
        counted, finished, _, touched = mark or (0, 0, 0, (NOTHING, NOTHING))
        self.counts.undo(counted)
        self.heads.forget()
        del self.finished[finished:]
        self.touched.undo(touched)
        self.forget_settings()

    def settled(self) -> None:
        """The transaction is durable: there is nothing left to undo."""
        self.counts.forget()

    def flush(self, spell: int) -> None:
        """Add the changed counts to this dispatcher's own."""
        if (columns := self.counts.to_flush()) is not None:
            self.changed(FLUSH, (spell, *columns))

    # lanes and submits
    def lane(self, queue: str, task_type: str, requires: tuple[str, ...] = ()) -> int:
        """The id of a lane, made when it is new."""
        return self.counts.lane_id(queue, task_type, requires)

    def ready_lanes(self) -> list[Lane]:
        """The lanes that hold at least one ready task."""
        return self.counts.ready_lanes()

    def fresh_lanes(self) -> list[Lane]:
        """The lanes that gained ready tasks in this transaction."""
        return self.counts.fresh_lanes()

    def look_afresh(self) -> None:
        """Count what others made ready among the fresh lanes."""
        self._settings = None
        self.counts.look_afresh()

    def insert(self, tasks: Sequence[NewTask]) -> list[int]:
        """Store tasks as pending."""
        if not tasks:
            return []
        wall = self.now.wall
        ids = [row[0] for row in self.ask(IDS, (len(tasks),))]
        held = self._held_first(tasks)
        rows = [(*t.terms, h) for t, h in zip(tasks, held, strict=True)]
        self.changed(INSERT, (wall, wall, ids, *(list(column) for column in zip(*rows, strict=True))))
        tags = [json.dumps(t.tags) if t.tags else None for t in tasks]
        self.changed(DATA, (ids, [t.data for t in tasks], tags, [t.options for t in tasks]))
        if tagged := [(tag, i) for i, t in zip(ids, tasks, strict=True) for tag in t.tags]:
            self.changed(TAGS, [list(column) for column in zip(*tagged, strict=True)])
        for lane_id, n in Counter(task.terms.lane_id for task in tasks).items():
            self.counts.add(lane_id, State.PENDING.value, n)
        if any(t.key is not None for t in tasks):
            self._store_keys(ids, tasks, wall)
        self._enter_ready(
            (t.terms.lane_id, (-t.terms.priority, t.terms.run_at, i))
            for i, t, h in zip(ids, tasks, held, strict=True)
            if t.terms.run_at <= wall and not h
        )
        return ids

    def known_keys(self, keys: Sequence[str]) -> Mapping[str, tuple[int, bytes]]:
        """The (task_id, digest) of each idempotency key in use."""
        sql = "SELECT idempotency_key, task_id, digest FROM idempotency_keys WHERE idempotency_key = ANY(%s)"
        return {row[0]: (row[1], bytes(row[2])) for row in self.ask(sql, (list(keys),))}

    def remember_keys(self, uses: Sequence[tuple[str, int, bytes]]) -> None:
        """Bind idempotency keys; raises Again when one has just come to another dispatcher."""
        if not uses:
            return
        keys, ids, digests = zip(*uses, strict=True)
        if self.changed(KEYS, (self.now.wall, list(keys), list(ids), list(digests))) < len(uses):
            raise Again

    # instances
    def instance(self, instance_id: str) -> Instance | None:
        """The instance with this secret id."""
        return self._instance("instance_id = %s", instance_id)

    def classic(self, worker_id: str) -> Instance | None:
        """The classic instance of this worker_id."""
        return self._instance("instance_id IS NULL AND worker_id = %s", worker_id)

    def meet(self, instance_id: str | None, worker_id: str) -> Instance:
        """The instance, made when it is new, locked: its numbers are judged by one dispatcher at a time."""
        where = "instance_id = %s" if instance_id else "instance_id IS NULL AND worker_id = %s"
        known = self._instance(f"{where} FOR UPDATE", instance_id or worker_id)
        if known is None:
            order = self.remembered(worker_id)
            self.changed(MEET, (instance_id, worker_id, self.now.wall, self.now.wall, order))
            known = self._instance(f"{where} FOR UPDATE", instance_id or worker_id)
        if known is None:
            raise Again
        return known

    def meet_at_once(self, instance_id: str, worker_id: str) -> Instance | None:
        """The same without waiting for another dispatcher."""
        found = self._instance("instance_id = %s FOR UPDATE SKIP LOCKED", instance_id)
        return found if found or self.instance(instance_id) else self.meet(instance_id, worker_id)

    def _instance(self, where: str, key: str) -> Instance | None:
        rows = self.ask(f"SELECT {INSTANCE} FROM instances WHERE {where}", (key,))
        return Instance(*rows[0]) if rows else None

    def seen(self, instance: int, seq: int, host: str | None) -> None:
        """Record a heartbeat."""
        sql = """UPDATE instances SET seen_at = %s, seq = greatest(seq, %s), host = coalesce(%s::text, host)
                 WHERE id = %s"""
        self.changed(sql, (self.now.wall, seq, host, instance))

    def answered(self, instance: int, request: int) -> None:
        """Raise the highest answered claim number."""
        sql = "UPDATE instances SET answered = greatest(answered, %s), seen_at = %s WHERE id = %s"
        self.changed(sql, (request, self.now.wall, instance))

    def bury(self, instance: int) -> None:
        """Record the death."""
        self.changed("UPDATE instances SET died_at = %s WHERE id = %s AND died_at IS NULL", (self.now.wall, instance))

    def register_types(self, schemas: Mapping[str, str | None]) -> None:
        """Remember payload schemas."""
        sql = """INSERT INTO task_types (name, schema, updated_at)
                 SELECT n.name, n.schema, %s FROM unnest(%s::text[], %s::text[]) AS n (name, schema) ORDER BY 1
                 ON CONFLICT (name) DO UPDATE SET schema = excluded.schema, updated_at = excluded.updated_at"""
        self.changed(sql, (self.now.wall, list(schemas), list(schemas.values())))

    # progress
    def progress(self, updates: Sequence[Progress]) -> None:
        """Record progress of live leases."""
        newest = {u.name: (*u.name, u.done, u.total, u.note, u.checkpoint) for u in updates}
        if newest:
            self.changed(PROGRESS, (self.now.wall, *(list(column) for column in zip(*newest.values(), strict=True))))

    # control
    def request_cancel(self, ids: Sequence[int]) -> list[TaskRow]:
        """Mark leased tasks to be cancelled."""
        sql = """UPDATE tasks SET cancel_requested_at = coalesce(cancel_requested_at, %s)
                 WHERE id = ANY(%s) AND state = 'in_progress' RETURNING id"""
        marked = [row[0] for row in self.change(sql, (self.now.wall, sorted(ids)))] if ids else []
        return list(self.tasks(marked).values())

    def close_waiting(self, ids: Sequence[int]) -> set[int]:
        """Cancel tasks that nobody holds."""
        rows = [row for row in self.tasks(ids).values() if row.state in (State.PENDING, State.BLOCKED)]
        sql = f"""UPDATE tasks SET state = 'cancelled', ready = false, finished_at = %s, cancel_requested_at = %s
                  WHERE id = ANY(%s) AND {WAITING}"""
        if rows:
            self.changed(sql, (self.now.wall, self.now.wall, [row.id for row in rows]))
        for row in rows:
            self._leave(row, State.CANCELLED)
        return {row.id for row in rows}

    def restart(self, ids: Sequence[int]) -> set[int]:
        """Make ended tasks pending in a new generation."""
        rows = [row for row in self.tasks(ids).values() if row.state in FINAL]
        ended = [row.id for row in rows]
        if not ended:
            return set()
        self.changed(KEEP_WINNER, (ended,))  # it answers repeats of the winner's report
        for table in ("results", "progress", "task_output"):
            self.changed(f"DELETE FROM {table} WHERE task_id = ANY(%s)", (ended,))
        self._throw_away_uploads(ended)
        held = [row.id for row in rows if self.lane_of(row.lane_id).keyed]
        self.changed(RESTART, (held, held, self.now.wall, ended))
        for row in rows:
            self._leave(row, State.PENDING)
        ready = [row for row in rows if row.id not in held]
        self._enter_ready((row.lane_id, (-row.priority, self.now.wall, row.id)) for row in ready)
        return set(ended)

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
        sql = f"""UPDATE tasks SET lane_id = %s, priority = %s, run_at = %s, max_attempts = %s, timeout_ms = %s,
                 ready = %s, held = %s, generation = generation + 1, attempts = 0 WHERE id = %s AND {WAITING}"""
        terms = (new.lane_id, new.priority, new.run_at, new.max_attempts, new.timeout_ms, ready, due and keyed)
        self.changed(sql, (*terms, task_id))
        self._touch(new.lane_id, task_id)
        for column in COLD.intersection(changes):
            self.changed(f"UPDATE task_data SET {column} = %s WHERE task_id = %s", (changes[column], task_id))
        for table in ("progress", "task_output"):
            self.changed(f"DELETE FROM {table} WHERE task_id = %s", (task_id,))
        self._recount(row, new, ready)
        return True

    def _recount(self, row: TaskRow, new: TaskRow, ready: bool) -> None:
        """An edited task may have gone to another lane."""
        self.counts.add(row.lane_id, row.state.value, -1)
        self.counts.add(row.lane_id, READY, -int(row.ready))
        self.counts.add(new.lane_id, row.state.value, 1)
        if ready:
            self._enter_ready([(new.lane_id, (-new.priority, new.run_at, new.id))])

    # housekeeping
    def make_ready(self, limit: int) -> int:
        """Make due tasks ready."""
        rows = self.change(MAKE_READY, (self.now.wall, limit))
        for lane_id, _, _, task_id, _ in rows:
            self._touch(lane_id, task_id)
        self._enter_ready((row[0], (row[1], row[2], row[3])) for row in rows if row[4])
        return len(rows) + self._wake_keys(limit)

    def _fold_spell(self) -> int:
        silent = self.ask(SILENT_SPELL, (self.now.wall - SPELL_IS_OVER_MS,))
        for (spell,) in silent:
            self.end_spell(spell)
        return len(silent)

    def end_spell(self, spell: int) -> None:
        """Take over what a spell of writing counted. Its dispatcher, should it still live, will begin a new one."""
        for lane_id, state, n in self.change(
            "DELETE FROM counts WHERE spell = %s RETURNING lane_id, state, n", [spell]
        ):
            self.counts.carry(lane_id, state, n)
        self.changed("DELETE FROM spells WHERE id = %s", (spell,))

    def give_back(self, pages: int) -> int:
        """Nothing: the database's own vacuum does it."""
        return 0

    def touch(self, last: int | None) -> int | None:
        """Write one row; when the last pass succeeded, here or elsewhere. None while another dispatcher is at it."""
        row = self.ask(REAPED_AT)
        if row:
            self.changed("UPDATE meta SET value = %s WHERE key = 'reaper_at'", (str(self.now.steady),))
        elif not self.changed(
            "INSERT INTO meta VALUES ('reaper_at', %s) ON CONFLICT DO NOTHING", (str(self.now.steady),)
        ):
            return None
        return max(last or 0, int(row[0][0]) if row else 0)
