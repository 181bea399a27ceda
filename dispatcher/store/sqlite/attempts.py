"""Attempts on SQLite: defaults of types, crashes, checkpoints, limits of time, blame."""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import apsw

from dispatcher.model import Deadline, LeaseName, State
from dispatcher.store.attempts import RECENT
from dispatcher.store.sqlite.leases import LeaseOps

RECORD = """INSERT INTO ended_leases
    (task_id, lease, generation, instance, attempt, how, charged, claimed_at, ended_at, error)
    VALUES (?, ?, ?, 0, ?, 'failed', 0, ?, ?, ?)"""
FAIL = """UPDATE tasks SET state = 'failed', ready = 0, finished_at = ?
    WHERE id = ? AND state IN ('pending', 'blocked')"""
SUCCEEDED = """SELECT DISTINCT worker_id FROM instances WHERE id IN (
    SELECT lease_instance FROM tasks WHERE state = 'completed' AND lane_id = ? AND finished_at IS NOT NULL
        AND finished_at >= ? ORDER BY finished_at DESC LIMIT ?)"""
OVER = """SELECT length_ms FROM deadlines JOIN tasks ON id = task_id AND tasks.generation = deadlines.generation
    WHERE task_id = ? AND kind = 'total' AND fired = 1"""
NEXT = "SELECT at FROM deadlines ORDER BY at LIMIT 1"


class AttemptOps(LeaseOps):
    """The part of the transaction that knows of attempts (the contract is `store/attempts.py`)."""

    def register_defaults(self, defaults: Mapping[str, str | None]) -> None:
        """Remember what task types want."""
        rows = [(text, name) for name, text in defaults.items()]
        self.db.executemany("UPDATE task_types SET defaults = ? WHERE name = ?", rows)

    def note_crash(self, name: LeaseName) -> None:
        """The lease ended in the death of its child."""
        self.db.execute("UPDATE ended_leases SET crashed = 1 WHERE task_id = ? AND lease = ?", name)

    def crashes(self, task_id: int, generation: int) -> int:
        """How many leases of this generation ended so."""
        sql = "SELECT count(*) FROM ended_leases WHERE task_id = ? AND generation = ? AND crashed = 1"
        return int(self.db.execute(sql, (task_id, generation)).get)

    def checkpointed(self, names: Sequence[LeaseName]) -> set[LeaseName]:
        """Those under which the present checkpoint was saved."""
        sql = "SELECT task_id, checkpoint_lease FROM progress WHERE task_id = ? AND checkpoint_lease = ?"
        return {LeaseName(*row) for row in self.db.executemany(sql, names)}

    # limits of time
    def set_deadlines(self, deadlines: Sequence[Deadline]) -> None:
        """Set limits, or replace them."""
        self.db.executemany("INSERT OR REPLACE INTO deadlines VALUES (?, ?, ?, ?, ?, ?)", deadlines)

    def drop_deadlines(self, deadlines: Sequence[Deadline]) -> None:
        """Forget limits."""
        rows = [(deadline.task_id, deadline.kind) for deadline in deadlines]
        self.db.executemany("DELETE FROM deadlines WHERE task_id = ? AND kind = ?", rows)

    def put_off_deadlines(self, by: int) -> None:
        """Limits that have begun end later."""
        sql = "UPDATE deadlines SET at = at + min(?1, ?2 - (at - length_ms)) WHERE at - length_ms < ?2"
        self.db.execute(sql, (by, self.now.wall))

    def due_deadlines(self, limit: int) -> list[Deadline]:
        """Limits whose time has come."""
        sql = f"SELECT {', '.join(Deadline._fields)} FROM deadlines WHERE at <= ? ORDER BY at LIMIT ?"
        return [Deadline(*row) for row in self.db.execute(sql, (self.now.wall, limit))]

    def over_total(self, task_id: int) -> int | None:
        """The length of a `total` limit that is over."""
        found = self.db.execute(OVER, (task_id,)).get
        return None if found is None else int(found)

    def first_taken(self, generations: Sequence[tuple[int, int]]) -> Mapping[int, int]:
        """When tasks were first taken, as far as those leases have ended."""
        sql = """SELECT task_id, min(claimed_at) FROM ended_leases WHERE task_id = ? AND generation = ?
                 GROUP BY task_id"""
        return dict(self.db.executemany(sql, generations))

    def fail_waiting(self, reasons: Mapping[int, str]) -> set[int]:
        """Fail tasks that nobody holds."""
        wall = self.now.wall
        waiting = (State.PENDING, State.BLOCKED)
        rows = [row for row in self.tasks(list(reasons)).values() if row.state in waiting]
        for row in rows:
            mark = (row.id, secrets.randbits(63), row.generation, row.attempts)
            self.db.execute(RECORD, (*mark, wall, wall, reasons[row.id]))
            self.db.execute(FAIL, (wall, row.id))
            self._leave(row, State.FAILED)
        return {row.id for row in rows}

    # blame
    def succeeded_with(self, task_type: str, since: int) -> set[str]:
        """Who completed tasks of this type since then."""
        lanes = [lane.id for lane in self.counts.lanes.values() if lane.task_type == task_type]
        rows = self.db.executemany(SUCCEEDED, [(lane_id, since, RECENT) for lane_id in lanes])
        return {row[0] for row in rows}

    def blame(self, worker_id: str, task_type: str, reason: str) -> None:
        """No more of this type for this worker."""
        sql = "INSERT OR IGNORE INTO blames VALUES (?, ?, ?, ?)"
        self.db.execute(sql, (worker_id, task_type, self.now.wall, reason))

    def forgive(self, worker_id: str, task_type: str | None) -> int:
        """Take that back."""
        sql = "DELETE FROM blames WHERE worker_id = ?1 AND (?2 IS NULL OR task_type = ?2)"
        self.db.execute(sql, (worker_id, task_type))
        return self.db.changes()

    def stir(self) -> None:
        """Every lane with ready tasks is a fresh one."""
        self.counts.stir()


class AttemptReads:
    """What readers tell of attempts."""

    db: apsw.Connection

    def type_defaults(self) -> dict[str, str | None]:
        """What the registered task types want."""
        return dict(self.db.execute("SELECT name, defaults FROM task_types"))

    def blames(self) -> list[dict[str, Any]]:
        """Which workers do not get which types."""
        names = ("worker_id", "task_type", "blamed_at", "reason")
        rows = self.db.execute(f"SELECT {', '.join(names)} FROM blames ORDER BY worker_id, task_type")
        return [dict(zip(names, row, strict=True)) for row in rows]

    def next_deadline(self) -> int | None:
        """When the next limit has to be looked at."""
        found = self.db.execute(NEXT).get
        return None if found is None else int(found)
