"""Webhooks on PostgreSQL (the contract is `store/webhooks.py`)."""

from collections.abc import Collection, Sequence
from typing import Any

import psycopg

from dispatcher.clock import Now
from dispatcher.store.postgres.statements import Statements
from dispatcher.store.webhooks import COLUMNS, MOST_COUNTED, Hook

ADD = f"""INSERT INTO webhooks ({COLUMNS})
    SELECT * FROM unnest(%s::text[], %s::bigint[], %s::text[], %s::text[], %s::bigint[], %s::bigint[],
    %s::text[])"""
TAKE = f"""UPDATE webhooks SET tries = tries + 1, due_at = %s WHERE delivery IN (
    SELECT delivery FROM webhooks WHERE due_at BETWEEN %s AND %s AND host <> ALL (%s::text[])
    ORDER BY due_at LIMIT %s FOR UPDATE SKIP LOCKED)
    RETURNING {COLUMNS}"""


class HookOps(Statements):
    """The part of the transaction that touches webhooks."""

    now: Now

    def add_hooks(self, hooks: Sequence[Hook]) -> None:
        """Store new deliveries."""
        if hooks:
            self.changed(ADD, [list(column) for column in zip(*hooks, strict=True)])

    def take_hooks(self, limit: int, until: int, spared: Collection[str], since: int) -> list[Hook]:
        """Deliveries that are due."""
        return [Hook(*row) for row in self.change(TAKE, (until, since, self.now.wall, list(spared), limit))]

    def drop_hook(self, hook: Hook) -> bool:
        """Delete a delivery."""
        sql = "DELETE FROM webhooks WHERE delivery = %s AND tries = %s"
        return self.changed(sql, (hook.delivery, hook.tries)) == 1

    def put_off_hook(self, hook: Hook, due_at: int) -> bool:
        """Let a delivery be due then."""
        sql = "UPDATE webhooks SET due_at = %s WHERE delivery = %s AND tries = %s"
        return self.changed(sql, (due_at, hook.delivery, hook.tries)) == 1


class HookReads:
    """Mixed into the reader."""

    db: "psycopg.Connection[Any]"

    def next_hook(self) -> int | None:
        """When the next delivery is due."""
        row = self.db.execute("SELECT min(due_at) FROM webhooks").fetchone()
        return row[0] if row else None

    def open_hooks(self) -> int:
        """How many deliveries are open."""
        row = self.db.execute(f"SELECT count(*) FROM (SELECT 1 FROM webhooks LIMIT {MOST_COUNTED}) AS open").fetchone()
        return row[0] if row else 0
