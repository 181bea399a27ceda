"""Uploaded results on PostgreSQL: parts under a lease, one upload at a time, dropped a few parts at a time.

Whoever puts parts holds the lock on the task's row (`queue/uploads.py`), so two uploads of one lease never mix.
"""

from collections.abc import Sequence

from dispatcher.model import LeaseName, Upload
from dispatcher.store.postgres.statements import Statements

BELONGS = """INSERT INTO upload_parts (task_id, lease, part, data, size, upload)
    SELECT * FROM (VALUES (%s::bigint, %s::bigint, %s::integer, %s::bytea, %s::bigint, %s::bigint))
        AS n (task, token, part, data, size, upload)
    WHERE n.part = 0 OR EXISTS (SELECT FROM upload_parts AS p
        WHERE p.task_id = n.task AND p.lease = n.token AND p.part = 0 AND p.upload = n.upload)
    ON CONFLICT (task_id, lease, part) DO UPDATE
        SET data = excluded.data, size = excluded.size, upload = excluded.upload"""
WHOLE = """SELECT coalesce(sum(coalesce(size, length(data))), 0), coalesce(max(part) + 1, 0) = count(*)
    FROM upload_parts WHERE task_id = %s AND lease = %s AND upload = %s"""
DECLARE = """INSERT INTO uploads VALUES (%s, %s, %s, %s, %s) ON CONFLICT (task_id, lease) DO UPDATE
    SET bytes = excluded.bytes, sha256 = excluded.sha256, media_type = excluded.media_type"""
SOME = """DELETE FROM upload_parts WHERE task_id = %s AND lease = %s AND part IN (
    SELECT part FROM upload_parts WHERE task_id = %s AND lease = %s ORDER BY part LIMIT %s)"""
THROWN = """INSERT INTO upload_trash SELECT task_id, lease FROM upload_parts WHERE task_id = ANY(%s) AND part = 0
    ON CONFLICT DO NOTHING"""


class ResultOps(Statements):
    """The part of the transaction that touches uploaded results."""

    def put_part(self, name: LeaseName, part: int, data: bytes, upload: int, size: int | None = None) -> bool:
        """Store one part of an upload; False when another one came between."""
        if part == 0:
            for table in ("uploads", "upload_parts"):
                self.changed(f"DELETE FROM {table} WHERE task_id = %s AND lease = %s", name)
        return bool(self.changed(BELONGS, (*name, part, data, size, upload)))

    def put_upload(self, name: LeaseName, whole: Upload, upload: int) -> bool:
        """Declare the parts whole, if they are."""
        if self.ask(WHOLE, (*name, upload))[0] != (whole.bytes, True):
            return False
        self.changed(DECLARE, (*name, *whole))
        return True

    def upload(self, name: LeaseName) -> Upload | None:
        """The whole upload of this lease."""
        rows = self.ask("SELECT bytes, sha256, media_type FROM uploads WHERE task_id = %s AND lease = %s", name)
        return Upload(*rows[0]) if rows else None

    def drop_parts(self, name: LeaseName, limit: int) -> int:
        """Drop up to that many parts of what was uploaded under a lease."""
        self.changed("DELETE FROM uploads WHERE task_id = %s AND lease = %s", name)
        return self.changed(SOME, (*name, *name, limit))

    def sweep(self, limit: int) -> int:
        """Drop up to that many parts of uploads that nothing refers to."""
        rows = self.ask("SELECT task_id, lease FROM upload_trash LIMIT 1 FOR UPDATE SKIP LOCKED")
        if not rows:
            return 0
        name = LeaseName(*rows[0])
        dropped = self.drop_parts(name, limit)
        if dropped < limit:
            self.changed("DELETE FROM upload_trash WHERE task_id = %s AND lease = %s", name)
        return max(dropped, 1)

    def _throw_away_uploads(self, ids: Sequence[int]) -> None:
        """What these tasks' leases uploaded is not referred to any more; `sweep` drops it."""
        self.changed(THROWN, (list(ids),))
        self.changed("DELETE FROM uploads WHERE task_id = ANY(%s)", (list(ids),))
