"""Webhooks on SQLite (the contract is `store/webhooks.py`)."""

import json
from collections.abc import Collection, Sequence
from typing import Any

import apsw

from dispatcher.clock import Now
from dispatcher.store.webhooks import COLUMNS, MOST_COUNTED, Hook

TAKE = f"""UPDATE webhooks SET tries = tries + 1, due_at = ? WHERE delivery IN (
    SELECT delivery FROM webhooks WHERE due_at BETWEEN ? AND ? AND host NOT IN (SELECT value FROM json_each(?))
    ORDER BY due_at LIMIT ?) RETURNING {COLUMNS}"""


class HookOps:
    """Mixed into the transaction."""

    db: apsw.Connection
    now: Now

    def add_hooks(self, hooks: Sequence[Hook]) -> None:
        """Store new deliveries."""
        self.db.executemany(f"INSERT INTO webhooks ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)", hooks)

    def take_hooks(self, limit: int, until: int, spared: Collection[str], since: int) -> list[Hook]:
        """Deliveries that are due."""
        values = (until, since, self.now.wall, json.dumps(list(spared)), limit)
        rows: list[Any] = self.db.execute(TAKE, values).fetchall()
        return [Hook(*row) for row in rows]

    def drop_hook(self, hook: Hook) -> bool:
        """Delete a delivery."""
        self.db.execute("DELETE FROM webhooks WHERE delivery = ? AND tries = ?", (hook.delivery, hook.tries))
        return self.db.changes() == 1

    def put_off_hook(self, hook: Hook, due_at: int) -> bool:
        """Let a delivery be due then."""
        sql = "UPDATE webhooks SET due_at = ? WHERE delivery = ? AND tries = ?"
        self.db.execute(sql, (due_at, hook.delivery, hook.tries))
        return self.db.changes() == 1


class HookReads:
    """Mixed into the reader."""

    db: apsw.Connection

    def next_hook(self) -> int | None:
        """When the next delivery is due."""
        due: int | None = self.db.execute("SELECT min(due_at) FROM webhooks").get
        return due

    def open_hooks(self) -> int:
        """How many deliveries are open."""
        sql = f"SELECT count(*) FROM (SELECT 1 FROM webhooks LIMIT {MOST_COUNTED})"
        return int(self.db.execute(sql).get)
