"""Schedules and unique keys on PostgreSQL (the contract is `store/later.py`)."""

from collections.abc import Collection, Mapping, Sequence

import psycopg

from dispatcher.clock import Now
from dispatcher.model import Schedule
from dispatcher.store.later import COLUMNS, Holder
from dispatcher.store.postgres.again import Again
from dispatcher.store.postgres.statements import Statements

MARKS = ", ".join(["%s"] * len(Schedule._fields))
SET = ", ".join(f"{column} = %s" for column in Schedule._fields)
# names sort by their bytes, whatever the database's language: so both stores page alike
PAGE = f'SELECT {COLUMNS} FROM schedules WHERE name COLLATE "C" > %s ORDER BY name COLLATE "C" LIMIT %s'
HELD = "SELECT unique_key, task_id, submitted_at FROM unique_keys WHERE unique_key = ANY(%s) ORDER BY 1 FOR UPDATE"
# a statement of its own: it sees what was committed while the first one waited for the keys
UNFINISHED = "SELECT id FROM tasks WHERE id = ANY(%s) AND finished_at IS NULL"
HOLD = """INSERT INTO unique_keys
    SELECT * FROM unnest(%s::text[], %s::bigint[], %s::bigint[]) AS n (key, task, since) ORDER BY 1
    ON CONFLICT DO NOTHING"""
HAND_ON = """UPDATE unique_keys AS k SET task_id = n.task, submitted_at = n.since
    FROM unnest(%s::text[], %s::bigint[], %s::bigint[]) AS n (key, task, since) WHERE k.unique_key = n.key"""


class LaterOps(Statements):
    """Mixed into the transaction."""

    now: Now

    def schedule(self, name: str) -> Schedule | None:
        """The schedule of this name, locked."""
        rows = self.ask(f"SELECT {COLUMNS} FROM schedules WHERE name = %s FOR UPDATE", (name,))
        return Schedule(*rows[0]) if rows else None

    def due_schedules(self, limit: int, but: Collection[str] = ()) -> list[Schedule]:
        """Schedules whose next tick has come, locked."""
        sql = f"""SELECT {COLUMNS} FROM schedules WHERE next_at <= %s AND name <> ALL(%s) ORDER BY next_at LIMIT %s
                  FOR UPDATE SKIP LOCKED"""
        return [Schedule(*row) for row in self.ask(sql, (self.now.wall, list(but), limit))]

    def add_schedule(self, schedule: Schedule) -> bool:
        """Store a new schedule."""
        sql = f"INSERT INTO schedules ({COLUMNS}) VALUES ({MARKS}) ON CONFLICT DO NOTHING"
        return self.changed(sql, schedule) == 1

    def put_schedules(self, schedules: Sequence[Schedule]) -> None:
        """Overwrite schedules."""
        for schedule in schedules:
            self.changed(f"UPDATE schedules SET {SET} WHERE name = %s", (*schedule, schedule.name))

    def drop_schedule(self, name: str) -> bool:
        """Delete a schedule."""
        return self.changed("DELETE FROM schedules WHERE name = %s", (name,)) == 1

    def holders(self, keys: Sequence[str]) -> Mapping[str, Holder]:
        """The holder of each unique key, locked: who submits, retries or prunes under it comes one by one."""
        held = self.ask(HELD, (sorted(keys),))
        if not held:
            return {}
        unfinished = {row[0] for row in self.ask(UNFINISHED, ([row[1] for row in held],))}
        return {key: Holder(task, since, task in unfinished) for key, task, since in held}

    def hold(self, holds: Mapping[str, tuple[int, int]], known: Collection[str]) -> None:
        """Make tasks the holders of keys; raises Again when a new key has just come to another dispatcher."""
        for sql, keys in ((HAND_ON, [k for k in holds if k in known]), (HOLD, [k for k in holds if k not in known])):
            columns = [[holds[key][n] for key in keys] for n in (0, 1)]
            if keys and self.changed(sql, (keys, *columns)) < len(keys):
                raise Again


class LaterReads:
    """Mixed into the reader."""

    db: psycopg.Connection

    def schedule(self, name: str) -> Schedule | None:
        """The schedule of this name."""
        row = self.db.execute(f"SELECT {COLUMNS} FROM schedules WHERE name = %s", (name,)).fetchone()
        return Schedule(*row) if row else None

    def schedules(self, after: str, limit: int) -> list[Schedule]:
        """A page of schedules by name."""
        return [Schedule(*row) for row in self.db.execute(PAGE, (after, limit)).fetchall()]

    def next_tick(self) -> int | None:
        """When the next tick comes."""
        sql = "SELECT next_at FROM schedules WHERE next_at IS NOT NULL ORDER BY next_at LIMIT 1"
        row = self.db.execute(sql).fetchone()
        return None if row is None else int(row[0])
