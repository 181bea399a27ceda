"""Leases on SQLite: claims, ends, renewals and silence. Every write is fenced by (id, lease, in_progress)."""

import heapq
import secrets
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import apsw

from dispatcher.clock import Now
from dispatcher.model import FINAL, End, EndedLease, Grant, Granted, LeaseEnd, LeaseName, Outcome, State, TaskRow
from dispatcher.store.sqlite import arrays
from dispatcher.store.sqlite.counts import Counts
from dispatcher.store.tally import READY, Tally

TASK = ", ".join(TaskRow._fields)
ENDED = "task_id, lease, generation, instance, attempt, how, charged, claimed_at, ended_at, error"
LIVE = "id = ? AND lease = ? AND state = 'in_progress'"
NO_LEASE = "lease_request = NULL, lease_expires = NULL, lease_length = NULL, lease_provisional = 0, lease_misses = 0"
GRANTED = """t.id, t.lane_id, t.lease, t.attempts, t.max_attempts, t.timeout_ms, t.run_at, t.lease_length,
    data, checkpoint, options"""
WITH_DATA = "CROSS JOIN task_data AS d ON d.task_id = t.id LEFT JOIN progress AS p ON p.task_id = t.id"
HEAD = f"""SELECT -t.priority, t.run_at, t.id, t.lane_id, t.attempts, t.max_attempts, t.timeout_ms,
    data, checkpoint, options FROM tasks AS t {WITH_DATA}
    WHERE t.lane_id = ? AND t.ready = 1 ORDER BY t.priority DESC, t.run_at, t.id"""
TAKE = """UPDATE tasks SET state = 'in_progress', ready = 0, attempts = attempts + 1, started_at = ?, lease = ?,
    lease_instance = ?, lease_request = ?, lease_expires = ?, lease_length = ?, lease_provisional = ?
    WHERE id IN carray(?) AND ready = 1"""
HELD = f"""SELECT {GRANTED} FROM tasks AS t {WITH_DATA}
    WHERE t.lease_instance = ? AND t.lease_request = ? AND t.lease_expires IS NOT NULL"""
COMPLETE = f"""UPDATE tasks SET state = 'completed', finished_at = ?, {NO_LEASE}
    WHERE id IN carray(?) AND lease = ? AND state = 'in_progress' RETURNING id, lease, lane_id"""
LATE = """UPDATE tasks SET state = 'completed', ready = 0, finished_at = ?, lease = ?, lease_instance = ?
    WHERE id = ? AND generation = ? AND state IN ('pending', 'failed')"""
RECORD_END = f"""INSERT INTO ended_leases ({ENDED}) SELECT id, lease, generation, lease_instance, attempts,
    ?, ?, started_at, ?, ? FROM tasks WHERE {LIVE} RETURNING task_id, lease"""
END = f"""UPDATE tasks SET state = ?1, ready = ?1 = 'pending' AND coalesce(?2 <= ?3, 1),
    run_at = coalesce(?2, run_at), attempts = attempts - ?4, finished_at = ?5,
    lease = NULL, lease_instance = NULL, {NO_LEASE} WHERE {LIVE} RETURNING lane_id, ready"""
REVIVE = """UPDATE tasks SET state = 'in_progress', ready = 0, finished_at = NULL,
    attempts = min(attempts + ?, max_attempts), lease = ?, lease_instance = ?, lease_expires = ?, lease_length = ?,
    started_at = ? WHERE id = ? AND generation = ? AND state IN ('pending', 'failed')"""
TASKS = f"SELECT {TASK} FROM carray(?) CROSS JOIN tasks ON id = value"
THOSE_ENDED = f"SELECT {ENDED} FROM carray(?) CROSS JOIN ended_leases ON task_id = value WHERE lease = ?"
LEASES = f"""SELECT {TASK} FROM tasks
    WHERE lease_instance = ? AND lease_expires IS NOT NULL AND id NOT IN carray(?)"""
RENEW = """UPDATE tasks SET lease_expires = ?, lease_length = ?, lease_provisional = 0, lease_misses = 0
    WHERE id IN carray(?) AND lease = ? AND state = 'in_progress' RETURNING id"""


class LeaseOps(Tally):
    """The part of the transaction that touches leases."""

    db: apsw.Connection
    now: Now
    counts: Counts
    finished: list[int]

    def _touch_all(self, lane_id: int, rows: Sequence[Any]) -> None:
        """Those of the rows (id, lease, lane) changed that are of this lane."""
        raise NotImplementedError

    # claims
    def take(self, lanes: Sequence[int], limit: int, grant: Grant, room: int = 2**40) -> list[Granted]:
        """Lease ready tasks of these lanes; all of one call under one token, which nobody else can guess."""
        filled = [lane for lane in lanes if self.counts.get(lane, READY)]
        heads = self._heads(filled, limit, grant.spared, room)
        if not heads:
            return []
        token, expires = secrets.randbits(63), self.now.steady + grant.length
        terms = (self.now.wall, token, grant.instance, grant.request, expires, grant.length, grant.provisional)
        self.db.execute(TAKE, (*terms, arrays.numbers(row[2] for row in heads)))
        lanes_of, length = self.counts.lanes, grant.length
        granted = [  # its fields one by one: a starred rest takes as long again
            Granted(i, lanes_of[lane_id], token, attempts + 1, most, timeout, run_at, length, data, checkpoint, options)
            for _, run_at, i, lane_id, attempts, most, timeout, data, checkpoint, options in heads
        ]
        for lane_id, n in Counter([row[3] for row in heads]).items():
            self.counts.move(lane_id, State.PENDING.value, State.IN_PROGRESS.value, n)
            self.counts.add(lane_id, READY, -n)
            self._note_starts(lane_id, granted)
        return granted

    def _granted(self, row: Sequence[Any]) -> Granted:
        return Granted(row[0], self.counts.lanes[row[1]], *row[2:])

    def _heads(self, lanes: Sequence[int], limit: int, spared: Collection[int], room: int) -> list[Sequence[Any]]:
        """The rows at the head of the lanes, as many as have room; the cursors are stepped no further than needed."""
        heads: list[Sequence[Any]] = []
        if limit <= 0 or not lanes:
            return heads
        cursors = [self.db.execute(HEAD, (lane,)) for lane in lanes]
        for row in heapq.merge(*cursors) if len(cursors) > 1 else cursors[0]:
            if row[2] not in spared:
                heads.append(row)
                room -= len(row[7]) + len(row[8] or "")
            if len(heads) == limit or room <= 0:
                break
        for cursor in cursors:
            cursor.close(True)
        return heads

    def held(self, instance: int, request: int) -> list[Granted]:
        """The live leases of a claim."""
        return [self._granted(row) for row in self.db.execute(HELD, (instance, request))]

    # ends of leases
    def options(self, ids: Sequence[int]) -> Mapping[int, str]:
        """The options of those that have any."""
        sql = "SELECT task_id, options FROM task_data WHERE task_id = ? AND options IS NOT NULL"
        return dict(self.db.executemany(sql, [(i,) for i in ids]))

    def tasks(self, ids: Sequence[int]) -> Mapping[int, TaskRow]:
        """The hot rows."""
        if not ids:
            return {}
        return {row[0]: _row(row) for row in self.db.execute(TASKS, (arrays.numbers(ids),))}

    def ended(self, names: Sequence[LeaseName]) -> Mapping[LeaseName, EndedLease]:
        """The rows of ended leases."""
        found = {}
        for token, ids in _by_token(names).items():
            rows = self.db.execute(THOSE_ENDED, (arrays.numbers(ids), token))
            found.update({LeaseName(row[0], token): _ended(row) for row in rows})
        return found

    def last_end(self, task_id: int) -> EndedLease | None:
        """The newest ended lease of a task."""
        sql = f"SELECT {ENDED} FROM ended_leases WHERE task_id = ? ORDER BY id DESC LIMIT 1"
        row = self.db.execute(sql, (task_id,)).get
        return _ended(row) if row else None

    def newest_of(self, instance: int, task_id: int | None) -> LeaseName | None:
        """The instance's newest lease (of that task): a live one before one that has ended."""
        live = "SELECT id, lease FROM tasks WHERE lease_instance = ?1 AND lease_expires IS NOT NULL"
        if task_id is None:
            newest = f"{live} ORDER BY lease_request DESC LIMIT 1"
            row = self.db.execute(newest, (instance,)).get
            return LeaseName(*row) if row else None
        mine = """SELECT id, lease FROM tasks WHERE id = ?2 AND lease_instance = ?1 UNION ALL SELECT * FROM (
            SELECT task_id, lease FROM ended_leases WHERE task_id = ?2 AND instance = ?1
            ORDER BY id DESC) LIMIT 1"""
        row = self.db.execute(mine, (instance, task_id)).get
        return LeaseName(*row) if row else None

    def complete(self, successes: Sequence[Outcome]) -> set[LeaseName]:
        """Complete the tasks whose live lease is named."""
        rows: list[Any] = []
        for token, ids in _by_token([success.name for success in successes]).items():
            rows += self.db.execute(COMPLETE, (self.now.wall, arrays.numbers(ids), token)).fetchall()
        if len(rows) == len(successes):  # as nearly always
            matched, won = {s.name for s in successes}, successes
        else:
            matched = {LeaseName(task_id, token) for task_id, token, _ in rows}
            won = list({s.name: s for s in reversed(successes) if s.name in matched}.values())
        self.finished += [row[0] for row in rows]
        for lane_id, n in Counter([row[2] for row in rows]).items():
            self._touch_all(lane_id, rows)
            self.counts.move(lane_id, State.IN_PROGRESS.value, State.COMPLETED.value, n)
        self._store_results(won)
        return matched

    def _store_results(self, successes: Iterable[Outcome]) -> None:
        rows = [(s.name.task_id, s.result, s.run_ms, s.packed) for s in successes]
        self.db.executemany("INSERT OR REPLACE INTO results (task_id, body, run_ms, packed) VALUES (?, ?, ?, ?)", rows)

    def complete_late(self, success: Outcome, ended: EndedLease) -> bool:
        """Complete a task by a lease that has ended."""
        row = self.tasks([ended.task_id]).get(ended.task_id)
        values = (self.now.wall, ended.token, ended.instance, ended.task_id, ended.generation)
        self.db.execute(LATE, values)
        if row is None or not self.db.changes():
            return False
        sql = "UPDATE ended_leases SET how = 'completed' WHERE task_id = ? AND lease = ?"
        self.db.execute(sql, success.name)
        self._leave(row, State.COMPLETED)
        self._store_results([success])
        return True

    def end(self, ends: Sequence[LeaseEnd]) -> set[LeaseName]:
        """End live leases other than by success."""
        matched = set()
        for end in ends:
            recorded = (end.how.value, end.charged, self.now.wall, end.error, *end.name)
            if self.db.execute(RECORD_END, recorded).get:
                matched.add(end.name)
                self._end_live(end)
        return matched

    def _end_live(self, end: LeaseEnd) -> None:
        wall = self.now.wall
        finished = wall if end.state in FINAL else None
        values = (end.state.value, end.run_at, wall, not end.charged, finished, *end.name)
        lane_id, ready = self.db.execute(END, values).get
        self._touch(lane_id, end.name.task_id)
        self.counts.move(lane_id, State.IN_PROGRESS.value, end.state.value)
        if ready and self._is_rated(lane_id):
            self.db.execute("UPDATE tasks SET ready = 0, held = 1 WHERE id = ?", (end.name.task_id,))
        elif ready:
            self.counts.add(lane_id, READY, 1)
        if end.state in FINAL:
            self.finished.append(end.name.task_id)

    def revive(self, ended: EndedLease, length: int, count: bool) -> bool:
        """Make an ended lease live again."""
        row = self.tasks([ended.task_id]).get(ended.task_id)
        values = (count, ended.token, ended.instance, self.now.steady + length, length, ended.claimed_at)
        self.db.execute(REVIVE, (*values, ended.task_id, ended.generation))
        if row is None or not self.db.changes():
            return False
        self.db.execute("DELETE FROM ended_leases WHERE task_id = ? AND lease = ?", (ended.task_id, ended.token))
        self._leave(row, State.IN_PROGRESS)
        return True

    # renewals and silence
    def leases(self, instance: int, but: Collection[int] = ()) -> list[TaskRow]:
        """The live leases of an instance."""
        without = arrays.numbers([0, *but])  # no task is 0
        return [_row(row) for row in self.db.execute(LEASES, (instance, without))]

    def cancel_orders(self, instances: Sequence[int]) -> Mapping[int, list[LeaseName]]:
        """Live leases to be cancelled."""
        sql = """SELECT lease_instance, id, lease FROM tasks
                 WHERE lease_instance = ? AND cancel_requested_at IS NOT NULL AND lease_expires IS NOT NULL"""
        found: dict[int, list[LeaseName]] = {}
        for instance, *name in self.db.executemany(sql, [(i,) for i in instances]):
            found.setdefault(instance, []).append(LeaseName(*name))
        return found

    def renew(self, names: Sequence[LeaseName], length: int) -> set[LeaseName]:
        """Renew live leases."""
        renewed: set[LeaseName] = set()
        for token, ids in _by_token(names).items():
            terms = (self.now.steady + length, length, arrays.numbers(ids), token)
            renewed.update(LeaseName(task_id, token) for (task_id,) in self.db.execute(RENEW, terms))
        return renewed

    def miss(self, names: Sequence[LeaseName]) -> None:
        """Count a heartbeat that did not list them."""
        self.db.executemany(f"UPDATE tasks SET lease_misses = lease_misses + 1 WHERE {LIVE}", names)

    def adopt(self, names: Sequence[LeaseName], instance: int, length: int) -> set[LeaseName]:
        """Pass live leases to another instance."""
        held = self.renew(names, length)
        sql = f"UPDATE tasks SET lease_instance = ?, lease_request = NULL WHERE {LIVE}"
        self.db.executemany(sql, [(instance, *name) for name in held])
        return held

    def expired(self, limit: int) -> list[TaskRow]:
        """Leases that are over."""
        sql = f"SELECT {TASK} FROM tasks WHERE lease_expires <= ? ORDER BY lease_expires LIMIT ?"
        return [_row(row) for row in self.db.execute(sql, (self.now.steady, limit))]

    def extend_all(self, floor: int) -> None:
        """The gap rule."""
        sql = "UPDATE tasks SET lease_expires = ? + max(lease_length, ?) WHERE lease_expires IS NOT NULL"
        self.db.execute(sql, (self.now.steady, floor))

    def touch(self, last: int | None) -> int | None:
        """Write one row; what an earlier life wrote there was on another steady clock."""
        self.db.execute("INSERT OR REPLACE INTO meta VALUES ('reaper_at', ?)", (self.now.steady,))
        return last or 0


def _by_token(names: Iterable[LeaseName]) -> Mapping[int, list[int]]:
    """The tasks of each token: all leases of one claim share theirs."""
    tasks: dict[int, list[int]] = {}
    for task_id, token in names:
        if token in tasks:
            tasks[token].append(task_id)
        else:
            tasks[token] = [task_id]
    return tasks


def _row(row: Sequence[Any]) -> TaskRow:
    return TaskRow(row[0], row[1], State(row[2]), *row[3:])


def _ended(row: Sequence[Any]) -> EndedLease:
    return EndedLease(row[0], row[1], row[2], row[3], row[4], End(row[5]), *row[6:])
