"""Workers on SQLite: orders to them, what they say of themselves, and what their tasks show while they run."""

from collections.abc import Mapping, Sequence

import apsw

from dispatcher.clock import Now
from dispatcher.model import Output

OUTPUT = "task_id, partial, log, log_lease, log_next"


class WorkerOps:
    """The part of the transaction that touches workers."""

    db: apsw.Connection
    now: Now

    def remembered(self, worker_id: str) -> str | None:
        """The order that a new instance of this name begins with."""
        sql = "SELECT state FROM worker_orders WHERE worker_id = ? AND state != 'run'"
        state: str | None = self.db.execute(sql, (worker_id,)).get
        return state

    def order_worker(self, worker_id: str, ordered: str | None, remember: str | None) -> list[int] | None:
        """Order the present instances; None when nobody of that name was ever seen."""
        if not self.db.execute("SELECT 1 FROM instances WHERE worker_id = ? LIMIT 1", (worker_id,)).get:
            return None
        if remember is not None:
            sql = """INSERT INTO worker_orders VALUES (?, ?, ?)
                     ON CONFLICT DO UPDATE SET state = excluded.state, changed_at = excluded.changed_at"""
            self.db.execute(sql, (worker_id, remember, self.now.wall))
        sql = "UPDATE instances SET ordered = ? WHERE worker_id = ? AND died_at IS NULL RETURNING id"
        return [row[0] for row in self.db.execute(sql, (ordered, worker_id))]

    def ordered(self, instances: Sequence[int]) -> Mapping[int, str]:
        """The orders of those that have any."""
        sql = "SELECT id, ordered FROM instances WHERE id = ? AND ordered IS NOT NULL"
        return dict(self.db.executemany(sql, [(i,) for i in instances]))

    def register(self, instance: int, about: str) -> None:
        """Record what a worker says of itself."""
        self.db.execute("UPDATE instances SET about = ? WHERE id = ?", (about, instance))

    def seen_waiting(self, hosts: Mapping[str, str | None]) -> None:
        """Record who waits here."""
        sql = """UPDATE instances SET seen_at = max(seen_at, ?), host = coalesce(?, host)
                 WHERE instance_id = ? AND died_at IS NULL"""
        self.db.executemany(sql, [(self.now.wall, host, instance_id) for instance_id, host in hosts.items()])

    def outputs(self, ids: Sequence[int]) -> Mapping[int, Output]:
        """What tasks show."""
        rows = self.db.executemany(f"SELECT {OUTPUT} FROM task_output WHERE task_id = ?", [(i,) for i in ids])
        return {row[0]: Output(*row) for row in rows}

    def put_outputs(self, outputs: Sequence[Output]) -> None:
        """Replace what tasks show."""
        self.db.executemany(f"INSERT OR REPLACE INTO task_output ({OUTPUT}) VALUES (?, ?, ?, ?, ?)", outputs)
