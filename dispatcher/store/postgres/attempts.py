"""Attempts on PostgreSQL: defaults of types, crashes, checkpoints, limits of time, blame."""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from dispatcher.model import Deadline, LeaseName, State
from dispatcher.store.attempts import RECENT
from dispatcher.store.postgres.leases import NAMES, RECORD, LeaseOps

DEFAULTS = """UPDATE task_types SET defaults = n.text FROM unnest(%s::text[], %s::text[]) AS n (name, text)
    WHERE task_types.name = n.name"""
SAVED = (
    f"SELECT task_id, checkpoint_lease FROM progress JOIN {NAMES} ON task_id = n.task AND checkpoint_lease = n.token"
)
SET = """INSERT INTO deadlines (task_id, kind, generation, at, length_ms, fired)
    SELECT * FROM unnest(%s::bigint[], %s::text[], %s::bigint[], %s::bigint[], %s::bigint[], %s::boolean[])
    ON CONFLICT (task_id, kind) DO UPDATE SET generation = excluded.generation, at = excluded.at,
        length_ms = excluded.length_ms, fired = excluded.fired"""
DROP = """DELETE FROM deadlines USING unnest(%s::bigint[], %s::text[]) AS n (task, kind)
    WHERE deadlines.task_id = n.task AND deadlines.kind = n.kind"""
# both rows without waiting: whoever changes a task has locked it first, and then comes for its limits
DUE = f"""SELECT {", ".join(f"d.{field}" for field in Deadline._fields)} FROM deadlines AS d
    JOIN tasks AS t ON t.id = d.task_id WHERE d.at <= %s ORDER BY d.at LIMIT %s FOR UPDATE SKIP LOCKED"""
TAKEN = """SELECT e.task_id, min(e.claimed_at) FROM ended_leases AS e
    JOIN unnest(%s::bigint[], %s::bigint[]) AS n (task, generation)
        ON e.task_id = n.task AND e.generation = n.generation
    GROUP BY e.task_id"""
FAIL = """UPDATE tasks SET state = 'failed', ready = false, finished_at = %s
    WHERE id = ANY(%s) AND state IN ('pending', 'blocked')"""
SUCCEEDED = """SELECT DISTINCT i.worker_id FROM lanes AS l CROSS JOIN LATERAL (
        SELECT lease_instance FROM tasks WHERE state = 'completed' AND lane_id = l.id AND finished_at IS NOT NULL
            AND finished_at >= %s ORDER BY finished_at DESC LIMIT %s) AS t
    JOIN instances AS i ON i.id = t.lease_instance WHERE l.task_type = %s"""
FORGIVE = "DELETE FROM blames WHERE worker_id = %s AND (%s::text IS NULL OR task_type = %s)"
OVER = """SELECT length_ms FROM deadlines JOIN tasks ON id = task_id AND tasks.generation = deadlines.generation
    WHERE task_id = %s AND kind = 'total' AND fired"""
NEXT = "SELECT at FROM deadlines ORDER BY at LIMIT 1"


class AttemptOps(LeaseOps):
    """The part of the transaction that knows of attempts (the contract is `store/attempts.py`)."""

    def register_defaults(self, defaults: Mapping[str, str | None]) -> None:
        """Remember what task types want."""
        self.changed(DEFAULTS, (list(defaults), list(defaults.values())))

    def note_crash(self, name: LeaseName) -> None:
        """The lease ended in the death of its child."""
        self.changed("UPDATE ended_leases SET crashed = true WHERE task_id = %s AND lease = %s", name)

    def crashes(self, task_id: int, generation: int) -> int:
        """How many leases of this generation ended so."""
        sql = "SELECT count(*) FROM ended_leases WHERE task_id = %s AND generation = %s AND crashed"
        return int(self.ask(sql, (task_id, generation))[0][0])

    def checkpointed(self, names: Sequence[LeaseName]) -> set[LeaseName]:
        """Those under which the present checkpoint was saved."""
        return {LeaseName(*row) for row in self.ask(SAVED, [list(column) for column in zip(*names, strict=True)])}

    # limits of time
    def set_deadlines(self, deadlines: Sequence[Deadline]) -> None:
        """Set limits, or replace them."""
        if deadlines:
            self.changed(SET, [list(column) for column in zip(*deadlines, strict=True)])

    def drop_deadlines(self, deadlines: Sequence[Deadline]) -> None:
        """Forget limits."""
        if deadlines:
            self.changed(DROP, ([d.task_id for d in deadlines], [d.kind for d in deadlines]))

    def put_off_deadlines(self, by: int) -> None:
        """Limits that have begun end later."""
        sql = "UPDATE deadlines SET at = at + least(%s, %s - (at - length_ms)) WHERE at - length_ms < %s"
        self.changed(sql, (by, self.now.wall, self.now.wall))

    def due_deadlines(self, limit: int) -> list[Deadline]:
        """Limits whose time has come."""
        return [Deadline(*row) for row in self.ask(DUE, (self.now.wall, limit))]

    def over_total(self, task_id: int) -> int | None:
        """The length of a `total` limit that is over."""
        rows = self.ask(OVER, (task_id,))
        return int(rows[0][0]) if rows else None

    def first_taken(self, generations: Sequence[tuple[int, int]]) -> Mapping[int, int]:
        """When tasks were first taken, as far as those leases have ended."""
        if not generations:
            return {}
        rows = self.ask(TAKEN, [list(column) for column in zip(*generations, strict=True)])
        return {row[0]: row[1] for row in rows}

    def fail_waiting(self, reasons: Mapping[int, str]) -> set[int]:
        """Fail tasks that nobody holds."""
        wall = self.now.wall
        waiting = (State.PENDING, State.BLOCKED)
        rows = [row for row in self.tasks(list(reasons)).values() if row.state in waiting] if reasons else []
        if not rows:
            return set()
        ends = [
            (r.id, secrets.randbits(63), r.generation, 0, r.attempts, "failed", False, wall, wall, reasons[r.id])
            for r in rows
        ]
        self.changed(RECORD, [list(column) for column in zip(*ends, strict=True)])
        self.changed(FAIL, (wall, [row.id for row in rows]))
        for row in rows:
            self._leave(row, State.FAILED)
        return {row.id for row in rows}

    # blame
    def succeeded_with(self, task_type: str, since: int) -> set[str]:
        """Who completed tasks of this type since then."""
        return {row[0] for row in self.ask(SUCCEEDED, (since, RECENT, task_type))}

    def blame(self, worker_id: str, task_type: str, reason: str) -> None:
        """No more of this type for this worker."""
        sql = "INSERT INTO blames VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING"
        self.changed(sql, (worker_id, task_type, self.now.wall, reason))

    def forgive(self, worker_id: str, task_type: str | None) -> int:
        """Take that back."""
        return self.changed(FORGIVE, (worker_id, task_type, task_type))

    def stir(self) -> None:
        """Every lane with ready tasks is a fresh one."""
        self.counts.look_afresh()


class AttemptReads:
    """What readers tell of attempts."""

    def _dicts(self, sql: str, values: Sequence[Any]) -> list[dict[str, Any]]:
        raise NotImplementedError

    def _one(self, sql: str, values: Sequence[Any] = ()) -> Any:
        raise NotImplementedError

    def type_defaults(self) -> dict[str, str | None]:
        """What the registered task types want."""
        return {row["name"]: row["defaults"] for row in self._dicts("SELECT name, defaults FROM task_types", ())}

    def blames(self) -> list[dict[str, Any]]:
        """Which workers do not get which types."""
        sql = "SELECT worker_id, task_type, blamed_at, reason FROM blames ORDER BY worker_id, task_type"
        return self._dicts(sql, ())

    def next_deadline(self) -> int | None:
        """When the next limit has to be looked at."""
        found = self._one(NEXT)
        return None if found is None else int(found)
