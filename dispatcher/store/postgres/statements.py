"""Statements of the writer's transaction: run under the watchdog's eye, what they touch is counted."""

from collections.abc import Sequence
from typing import Any

import psycopg

from dispatcher.store.postgres.watchdog import Watchdog


class Statements:
    """What each part of the transaction runs its SQL by."""

    db: psycopg.Connection
    writes: int  # rows touched since the transaction began
    _watchdog: Watchdog

    def ask(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of a statement that changes nothing."""
        return self._run(sql, values).fetchall()

    def change(self, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Run a statement that writes; the rows that it returns."""
        cursor = self._run(sql, values)
        self.writes += cursor.rowcount
        return cursor.fetchall()

    def changed(self, sql: str, values: Sequence[Any]) -> int:
        """Run a statement that writes; how many rows it touched."""
        rows: int = self._run(sql, values).rowcount
        self.writes += rows
        return rows

    def _run(self, sql: str, values: Sequence[Any]) -> psycopg.Cursor[Any]:
        with self._watchdog.over(self.db):
            return self.db.execute(sql, values)
