"""Leases on PostgreSQL: claims, ends, renewals and silence. Every write is fenced by (id, lease, in_progress).

Other dispatchers write at the same time, under READ COMMITTED: what a rule decides upon it has locked before (`tasks`,
`expired`, `_locked`), and what is taken is locked as it is found, skipping what others have in hand.
"""

import secrets
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from dispatcher.clock import Clock, Now
from dispatcher.model import (
    FINAL,
    End,
    EndedLease,
    Grant,
    Granted,
    LeaseEnd,
    LeaseName,
    Outcome,
    State,
    TaskRow,
    chars_of,
)
from dispatcher.store.postgres.counts import Counts
from dispatcher.store.postgres.heads import Heads, Place
from dispatcher.store.postgres.statements import Statements
from dispatcher.store.tally import READY, Tally

TASK = ", ".join(TaskRow._fields)
ENDED = "task_id, lease, generation, instance, attempt, how, charged, claimed_at, ended_at, error"
NAMES = "unnest(%s::bigint[], %s::bigint[]) AS n (task, token)"  # lease names as two columns
LIVE = "id = n.task AND lease = n.token AND state = 'in_progress'"
NO_LEASE = """lease_request = NULL, lease_expires = NULL, lease_length = NULL, lease_provisional = false,
    lease_misses = 0"""
GRANTED = """id, lane_id, lease, attempts, max_attempts, timeout_ms, run_at, lease_length,
    (SELECT data FROM task_data WHERE task_id = tasks.id),
    (SELECT checkpoint FROM progress WHERE task_id = tasks.id),
    (SELECT options FROM task_data WHERE task_id = tasks.id)"""

TAKE = f"""UPDATE tasks SET state = 'in_progress', ready = false, attempts = attempts + 1, started_at = %s,
    lease_instance = %s, lease_request = %s, lease_expires = %s, lease_length = %s, lease_provisional = %s,
    lease = n.token FROM {NAMES} WHERE id = n.task AND ready RETURNING {GRANTED}"""
HELD = f"SELECT {GRANTED} FROM tasks WHERE lease_instance = %s AND lease_request = %s AND lease_expires IS NOT NULL"
COMPLETE = f"""UPDATE tasks SET state = 'completed', finished_at = %s, {NO_LEASE} FROM {NAMES} WHERE {LIVE}
    RETURNING id, lease, lane_id"""
RESULTS = """INSERT INTO results (task_id, body, run_ms, packed)
    SELECT * FROM unnest(%s::bigint[], %s::text[], %s::bigint[], %s::bytea[])
    ON CONFLICT (task_id) DO UPDATE SET body = excluded.body, run_ms = excluded.run_ms, packed = excluded.packed"""
LATE = """UPDATE tasks SET state = 'completed', ready = false, finished_at = %s, lease = %s, lease_instance = %s
    WHERE id = %s AND generation = %s AND state IN ('pending', 'failed')"""
RECORD = f"""INSERT INTO ended_leases ({ENDED}) SELECT * FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[],
    %s::bigint[], %s::bigint[], %s::text[], %s::boolean[], %s::bigint[], %s::bigint[], %s::text[])"""
END = f"""UPDATE tasks SET state = n.state, run_at = n.run_at, ready = n.ready, held = n.held,
    attempts = attempts - n.back, finished_at = n.finished, lease = NULL, lease_instance = NULL, {NO_LEASE}
    FROM unnest(%s::bigint[], %s::text[], %s::bigint[], %s::integer[], %s::bigint[], %s::boolean[], %s::boolean[])
        AS n (task, state, run_at, back, finished, ready, held) WHERE id = n.task"""
REVIVE = """UPDATE tasks SET state = 'in_progress', ready = false, finished_at = NULL,
    attempts = least(attempts + %s, max_attempts), lease = %s, lease_instance = %s, lease_expires = %s,
    lease_length = %s, started_at = %s WHERE id = %s AND generation = %s AND state IN ('pending', 'failed')"""
RENEW = f"""UPDATE tasks SET lease_expires = %s, lease_length = %s, lease_provisional = false, lease_misses = 0
    FROM {NAMES} WHERE {LIVE} RETURNING id, lease"""
STEP_CHARS = 16 * 2**20
EXPIRED = f"""SELECT {TASK} FROM tasks WHERE lease_expires <= %s ORDER BY lease_expires LIMIT %s
    FOR UPDATE SKIP LOCKED"""
MINE = """SELECT task_id, lease FROM ended_leases WHERE task_id = %s AND instance = %s ORDER BY id DESC LIMIT 1"""


class LeaseOps(Tally, Statements):
    """The part of the transaction that touches leases."""

    now: Now
    _clock: Clock
    counts: Counts
    heads: Heads
    finished: list[int]
    _largest = 2**18  # of the tasks that were leased last: one statement leases as many as fit if all are that large

    def _touch_all(self, lane_id: int, rows: Sequence[Any]) -> None:
        """Those of the rows (id, lease, lane) changed that are of this lane."""
        raise NotImplementedError

    def _enter_ready(self, entered: Iterable[tuple[int, Place]]) -> None:
        """Count tasks that became ready, by lane and place."""
        for lane_id, place in entered:
            self.counts.add(lane_id, READY, 1)
            self.heads.enter(lane_id, place)

    # claims
    def take(self, lanes: Sequence[int], limit: int, grant: Grant, room: int = 2**40) -> list[Granted]:
        """Lease ready tasks of these lanes: at once while they are small, else a few at a time."""
        filled = [lane for lane in lanes if self.counts.ready(lane) > 0]
        known = sum(self.counts.ready(lane) for lane in filled)
        ids = self.heads.lock(self.ask, filled, limit + len(grant.spared), self.now.steady, known)
        if grant.spared:
            ids = [task_id for task_id in ids if task_id not in grant.spared][:limit]
            self.heads.forget()  # what is spared, or was one too many, is to be found again
        if not ids:
            return []
        self.now = self._clock.now()  # whoever stood still before it had them locked begins no lease in the past
        granted: list[Granted] = []
        while ids and room > 0:
            now = max(1, min(room, STEP_CHARS) // self._largest)
            took = self._take(ids[:now], grant)
            del ids[:now]
            room -= chars_of(took)
            self._largest = max((chars_of([task]) for task in took), default=1)
            granted += took
        if ids:
            self.heads.forget()  # what was locked and not taken stands before where the next one would look
        for lane_id, n in Counter(task.lane.id for task in granted).items():
            self.counts.move(lane_id, State.PENDING.value, State.IN_PROGRESS.value, n)
            self.counts.add(lane_id, READY, -n)
            self._note_starts(lane_id, granted)
        return granted

    def _take(self, ids: list[int], grant: Grant) -> list[Granted]:
        terms = (grant.instance, grant.request, self.now.steady + grant.length, grant.length, grant.provisional)
        tokens = [secrets.randbits(63) for _ in ids]
        rows = {row[0]: row for row in self.change(TAKE, (self.now.wall, *terms, ids, tokens))}
        return [self._granted(rows[task_id]) for task_id in ids if task_id in rows]

    def _granted(self, row: Sequence[Any]) -> Granted:
        return Granted(row[0], self.counts.lane(row[1]), *row[2:])

    def held(self, instance: int, request: int) -> list[Granted]:
        """The live leases of a claim."""
        return [self._granted(row) for row in self.ask(HELD, (instance, request))]

    # ends of leases
    def options(self, ids: Sequence[int]) -> Mapping[int, str]:
        """The options of those that have any."""
        sql = "SELECT task_id, options FROM task_data WHERE task_id = ANY(%s) AND options IS NOT NULL"
        return {row[0]: row[1] for row in self.ask(sql, (list(ids),))}

    def tasks(self, ids: Sequence[int]) -> Mapping[int, TaskRow]:
        """The hot rows, locked."""
        rows = self.ask(f"SELECT {TASK} FROM tasks WHERE id = ANY(%s) ORDER BY id FOR UPDATE", (list(ids),))
        return {row[0]: _row(row) for row in rows}

    def ended(self, names: Sequence[LeaseName]) -> Mapping[LeaseName, EndedLease]:
        """The rows of ended leases."""
        sql = f"SELECT {ENDED} FROM ended_leases JOIN {NAMES} ON task_id = n.task AND lease = n.token"
        rows = self.ask(sql, _columns(names)) if names else []
        return {LeaseName(row[0], row[1]): _ended(row) for row in rows}

    def last_end(self, task_id: int) -> EndedLease | None:
        """The newest ended lease of a task."""
        rows = self.ask(f"SELECT {ENDED} FROM ended_leases WHERE task_id = %s ORDER BY id DESC LIMIT 1", (task_id,))
        return _ended(rows[0]) if rows else None

    def newest_of(self, instance: int, task_id: int | None) -> LeaseName | None:
        """The instance's newest lease (of that task): a live one before one that has ended."""
        if task_id is None:
            live = """SELECT id, lease FROM tasks WHERE lease_instance = %s AND lease_expires IS NOT NULL
                      ORDER BY lease_request DESC NULLS LAST LIMIT 1"""
            rows = self.ask(live, (instance,))
        else:
            own = "SELECT id, lease FROM tasks WHERE id = %s AND lease_instance = %s"
            rows = self.ask(own, (task_id, instance)) or self.ask(MINE, (task_id, instance))
        return LeaseName(rows[0][0], rows[0][1]) if rows else None

    def complete(self, successes: Sequence[Outcome]) -> set[LeaseName]:
        """Complete the tasks whose live lease is named."""
        if not successes:
            return set()
        rows = self.change(COMPLETE, (self.now.wall, *_columns([s.name for s in successes])))
        matched = {LeaseName(task_id, token) for task_id, token, _ in rows}
        self.finished += [row[0] for row in rows]
        for lane_id, n in Counter(row[2] for row in rows).items():
            self._touch_all(lane_id, rows)
            self.counts.move(lane_id, State.IN_PROGRESS.value, State.COMPLETED.value, n)
        first = {s.name: s for s in reversed(successes) if s.name in matched}
        self._store_results(first.values())
        return matched

    def _store_results(self, successes: Iterable[Outcome]) -> None:
        rows = [(s.name.task_id, s.result, s.run_ms, s.packed) for s in successes]
        if rows:
            self.changed(RESULTS, [list(column) for column in zip(*rows, strict=True)])

    def complete_late(self, success: Outcome, ended: EndedLease) -> bool:
        """Complete a task by a lease that has ended."""
        row = self.tasks([ended.task_id]).get(ended.task_id)
        values = (self.now.wall, ended.token, ended.instance, ended.task_id, ended.generation)
        if row is None or not self.changed(LATE, values):
            return False
        sql = "UPDATE ended_leases SET how = 'completed' WHERE task_id = %s AND lease = %s"
        self.changed(sql, success.name)
        self._leave(row, State.COMPLETED)
        self._store_results([success])
        return True

    def end(self, ends: Sequence[LeaseEnd]) -> set[LeaseName]:
        """End live leases other than by success."""
        wanted = {end.name: end for end in reversed(ends)}
        rows = self._locked(list(wanted))
        if rows:
            self._record(rows, wanted)
            self._end_live([(row, wanted[name]) for name, row in rows.items()])
        return set(rows)

    def _locked(self, names: Sequence[LeaseName]) -> dict[LeaseName, TaskRow]:
        """The rows of those of the leases that are live, locked."""
        if not names:
            return {}
        rows = self.tasks([name.task_id for name in names])
        return {n: rows[n.task_id] for n in names if n.task_id in rows and _is_live(rows[n.task_id], n.token)}

    def _record(self, rows: Mapping[LeaseName, TaskRow], wanted: Mapping[LeaseName, LeaseEnd]) -> None:
        wall = self.now.wall
        records = []
        for name, row in rows.items():
            end = wanted[name]
            about = (row.generation, row.lease_instance, row.attempts)
            records.append((*name, *about, end.how.value, end.charged, row.started_at, wall, end.error))
        self.changed(RECORD, [list(column) for column in zip(*records, strict=True)])

    def _end_live(self, ends: Sequence[tuple[TaskRow, LeaseEnd]]) -> None:
        wall = self.now.wall
        values = []
        for row, end in ends:
            run_at = row.run_at if end.run_at is None else end.run_at
            finished = wall if end.state in FINAL else None
            # without a time of its own it is due as it was when it was taken, whatever the clock says now
            due = end.state == State.PENDING and (end.run_at is None or run_at <= wall)
            held = due and self._is_rated(row.lane_id)
            ready = due and not held
            values.append((row.id, end.state.value, run_at, int(not end.charged), finished, ready, held))
            self._leave(row, end.state)
            if ready:
                self._enter_ready([(row.lane_id, (-row.priority, run_at, row.id))])
        self.changed(END, [list(column) for column in zip(*values, strict=True)])

    def revive(self, ended: EndedLease, length: int, count: bool) -> bool:
        """Make an ended lease live again."""
        row = self.tasks([ended.task_id]).get(ended.task_id)
        values = (int(count), ended.token, ended.instance, self.now.steady + length, length, ended.claimed_at)
        if row is None or not self.changed(REVIVE, (*values, ended.task_id, ended.generation)):
            return False
        self.changed("DELETE FROM ended_leases WHERE task_id = %s AND lease = %s", (ended.task_id, ended.token))
        self._leave(row, State.IN_PROGRESS)
        return True

    # renewals and silence
    def leases(self, instance: int, but: Collection[int] = ()) -> list[TaskRow]:
        """The live leases of an instance, locked."""
        sql = f"""SELECT {TASK} FROM tasks WHERE lease_instance = %s AND lease_expires IS NOT NULL
                  AND id NOT IN (SELECT unnest(%s::bigint[])) ORDER BY id FOR UPDATE"""
        return [_row(row) for row in self.ask(sql, (instance, list(but)))]

    def cancel_orders(self, instances: Sequence[int]) -> Mapping[int, list[LeaseName]]:
        """Live leases to be cancelled."""
        sql = """SELECT lease_instance, id, lease FROM tasks
                 WHERE lease_instance = ANY(%s) AND cancel_requested_at IS NOT NULL AND lease_expires IS NOT NULL"""
        found: dict[int, list[LeaseName]] = {}
        for instance, *name in self.ask(sql, (list(instances),)):
            found.setdefault(instance, []).append(LeaseName(*name))
        return found

    def renew(self, names: Sequence[LeaseName], length: int) -> set[LeaseName]:
        """Renew live leases."""
        if not names:
            return set()
        rows = self.change(RENEW, (self.now.steady + length, length, *_columns(names)))
        return {LeaseName(*row) for row in rows}

    def miss(self, names: Sequence[LeaseName]) -> None:
        """Count a heartbeat that did not list them."""
        if names:
            sql = f"UPDATE tasks SET lease_misses = lease_misses + 1 FROM {NAMES} WHERE {LIVE}"
            self.changed(sql, _columns(names))

    def adopt(self, names: Sequence[LeaseName], instance: int, length: int) -> set[LeaseName]:
        """Pass live leases to another instance."""
        held = self.renew(names, length)
        if held:
            sql = f"UPDATE tasks SET lease_instance = %s, lease_request = NULL FROM {NAMES} WHERE {LIVE}"
            self.changed(sql, (instance, *_columns(list(held))))
        return held

    def expired(self, limit: int) -> list[TaskRow]:
        """Leases that are over, but for those that another dispatcher has in hand."""
        return [_row(row) for row in self.ask(EXPIRED, (self.now.steady, limit))]

    def extend_all(self, floor: int) -> None:
        """The gap rule."""
        sql = """UPDATE tasks SET lease_expires = %s + greatest(lease_length, %s) WHERE id IN (
                 SELECT id FROM tasks WHERE lease_expires IS NOT NULL ORDER BY id FOR UPDATE)"""
        self.changed(sql, (self.now.steady, floor))


def _is_live(row: TaskRow, token: int) -> bool:
    return row.lease == token and row.state == State.IN_PROGRESS


def _columns(names: Sequence[LeaseName]) -> tuple[list[int], list[int]]:
    """In one order for all dispatchers: a statement mostly locks rows in the order in which it is told of them."""
    names = sorted(names)
    return [name.task_id for name in names], [name.token for name in names]


def _row(row: Sequence[Any]) -> TaskRow:
    return TaskRow(row[0], row[1], State(row[2]), *row[3:])


def _ended(row: Sequence[Any]) -> EndedLease:
    return EndedLease(row[0], row[1], row[2], row[3], row[4], End(row[5]), *row[6:])
