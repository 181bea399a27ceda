"""Workers on PostgreSQL: orders to them, what they say of themselves, and what their tasks show while they run."""

from collections.abc import Mapping, Sequence

from dispatcher.clock import Now
from dispatcher.model import Output
from dispatcher.store.postgres.statements import Statements

OUTPUT = "task_id, partial, log, log_lease, log_next"
# the row of a name is what an order and a new instance of that name meet at: whichever comes second sees the first
REMEMBERED = """INSERT INTO worker_orders VALUES (%s, 'run', %s)
    ON CONFLICT (worker_id) DO UPDATE SET changed_at = worker_orders.changed_at RETURNING state"""
REMEMBER = """INSERT INTO worker_orders VALUES (%s, %s, %s)
    ON CONFLICT (worker_id) DO UPDATE SET state = excluded.state, changed_at = excluded.changed_at"""
ORDER = """UPDATE instances SET ordered = %s WHERE id IN (
    SELECT id FROM instances WHERE worker_id = %s AND died_at IS NULL ORDER BY id FOR UPDATE) RETURNING id"""
# who is locked is seen by another dispatcher at this moment
SEEN_WAITING = """UPDATE instances SET seen_at = greatest(seen_at, %s), host = coalesce(n.host, instances.host)
    FROM (SELECT id, told.host FROM instances JOIN unnest(%s::text[], %s::text[]) AS told (instance_id, host)
        USING (instance_id) WHERE died_at IS NULL FOR UPDATE OF instances SKIP LOCKED) AS n
    WHERE instances.id = n.id"""
PUT = f"""INSERT INTO task_output ({OUTPUT})
    SELECT * FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::bigint[], %s::bigint[])
    ON CONFLICT (task_id) DO UPDATE SET partial = excluded.partial, log = excluded.log,
        log_lease = excluded.log_lease, log_next = excluded.log_next"""


class WorkerOps(Statements):
    """The part of the transaction that touches workers."""

    now: Now

    def remembered(self, worker_id: str) -> str | None:
        """The order that a new instance of this name begins with; holds off orders until this transaction is over."""
        state: str = self.change(REMEMBERED, (worker_id, self.now.wall))[0][0]
        return None if state == "run" else state

    def order_worker(self, worker_id: str, ordered: str | None, remember: str | None) -> list[int] | None:
        """Order the present instances; None when nobody of that name was ever seen."""
        if not self.ask("SELECT 1 FROM instances WHERE worker_id = %s LIMIT 1", (worker_id,)):
            return None
        if remember is not None:
            self.changed(REMEMBER, (worker_id, remember, self.now.wall))
        return [row[0] for row in self.change(ORDER, (ordered, worker_id))]

    def ordered(self, instances: Sequence[int]) -> Mapping[int, str]:
        """The orders of those that have any."""
        sql = "SELECT id, ordered FROM instances WHERE id = ANY(%s) AND ordered IS NOT NULL"
        return {row[0]: row[1] for row in self.ask(sql, (list(instances),))} if instances else {}

    def register(self, instance: int, about: str) -> None:
        """Record what a worker says of itself."""
        self.changed("UPDATE instances SET about = %s WHERE id = %s", (about, instance))

    def seen_waiting(self, hosts: Mapping[str, str | None]) -> None:
        """Record who waits here."""
        self.changed(SEEN_WAITING, (self.now.wall, list(hosts), list(hosts.values())))

    def outputs(self, ids: Sequence[int]) -> Mapping[int, Output]:
        """What tasks show."""
        rows = self.ask(f"SELECT {OUTPUT} FROM task_output WHERE task_id = ANY(%s)", (list(ids),))
        return {row[0]: Output(*row) for row in rows}

    def put_outputs(self, outputs: Sequence[Output]) -> None:
        """Replace what tasks show."""
        if outputs:
            self.changed(PUT, [list(column) for column in zip(*outputs, strict=True)])
