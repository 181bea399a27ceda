"""Schedules and unique keys on SQLite (the contract is `store/later.py`)."""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import apsw

from dispatcher.clock import Now
from dispatcher.model import Schedule
from dispatcher.store.later import COLUMNS, Holder

MARKS = ", ".join("?" * len(Schedule._fields))
SET = ", ".join(f"{column} = ?" for column in Schedule._fields)
HOLDER = """SELECT k.unique_key, k.task_id, k.submitted_at, t.id IS NOT NULL
    FROM unique_keys AS k LEFT JOIN tasks AS t ON t.id = k.task_id AND t.finished_at IS NULL WHERE k.unique_key = ?"""
HOLD = """INSERT INTO unique_keys VALUES (?, ?, ?) ON CONFLICT (unique_key) DO UPDATE
    SET task_id = excluded.task_id, submitted_at = excluded.submitted_at"""


def schedule_of(row: Sequence[Any]) -> Schedule:
    """A row as the contract has it."""
    found = Schedule(*row)
    return found._replace(paused=bool(found.paused))


class LaterOps:
    """Mixed into the transaction."""

    db: apsw.Connection
    now: Now

    def schedule(self, name: str) -> Schedule | None:
        """The schedule of this name."""
        row = self.db.execute(f"SELECT {COLUMNS} FROM schedules WHERE name = ?", (name,)).get
        return schedule_of(row) if row else None

    def due_schedules(self, limit: int, but: Collection[str] = ()) -> list[Schedule]:
        """Schedules whose next tick has come."""
        sql = f"""SELECT {COLUMNS} FROM schedules WHERE next_at <= ? AND name NOT IN (SELECT value FROM json_each(?))
                  ORDER BY next_at LIMIT ?"""
        return [schedule_of(row) for row in self.db.execute(sql, (self.now.wall, json.dumps(list(but)), limit))]

    def add_schedule(self, schedule: Schedule) -> bool:
        """Store a new schedule."""
        self.db.execute(f"INSERT INTO schedules ({COLUMNS}) VALUES ({MARKS}) ON CONFLICT DO NOTHING", schedule)
        return self.db.changes() == 1

    def put_schedules(self, schedules: Sequence[Schedule]) -> None:
        """Overwrite schedules."""
        self.db.executemany(f"UPDATE schedules SET {SET} WHERE name = ?", [(*s, s.name) for s in schedules])

    def drop_schedule(self, name: str) -> bool:
        """Delete a schedule."""
        self.db.execute("DELETE FROM schedules WHERE name = ?", (name,))
        return self.db.changes() == 1

    def holders(self, keys: Sequence[str]) -> Mapping[str, Holder]:
        """The holder of each unique key."""
        rows = self.db.executemany(HOLDER, [(key,) for key in keys])
        return {row[0]: Holder(row[1], row[2], bool(row[3])) for row in rows}

    def hold(self, holds: Mapping[str, tuple[int, int]], known: Collection[str]) -> None:
        """Make tasks the holders of keys."""
        self.db.executemany(HOLD, [(key, *hold) for key, hold in holds.items()])


class LaterReads:
    """Mixed into the reader."""

    db: apsw.Connection

    def schedule(self, name: str) -> Schedule | None:
        """The schedule of this name."""
        row = self.db.execute(f"SELECT {COLUMNS} FROM schedules WHERE name = ?", (name,)).get
        return schedule_of(row) if row else None

    def schedules(self, after: str, limit: int) -> list[Schedule]:
        """A page of schedules by name."""
        sql = f"SELECT {COLUMNS} FROM schedules WHERE name > ? ORDER BY name LIMIT ?"
        return [schedule_of(row) for row in self.db.execute(sql, (after, limit))]

    def next_tick(self) -> int | None:
        """When the next tick comes."""
        sql = "SELECT next_at FROM schedules WHERE next_at IS NOT NULL ORDER BY next_at LIMIT 1"
        row = self.db.execute(sql).get
        return None if row is None else int(row)
