"""Uploaded results on SQLite: parts under a lease, one upload at a time, dropped a few parts at a time."""

from collections.abc import Sequence
from typing import Any

import apsw

from dispatcher.model import LeaseName, Upload

BELONGS = """INSERT INTO upload_parts (task_id, lease, part, data, size, upload) SELECT ?1, ?2, ?3, ?4, ?5, ?6
    WHERE ?3 = 0 OR EXISTS (SELECT 1 FROM upload_parts WHERE task_id = ?1 AND lease = ?2 AND part = 0 AND upload = ?6)
    ON CONFLICT DO UPDATE SET data = excluded.data, size = excluded.size, upload = excluded.upload"""
WHOLE = """SELECT coalesce(sum(coalesce(size, length(data))), 0), coalesce(max(part) + 1, 0) = count(*)
    FROM upload_parts WHERE task_id = ? AND lease = ? AND upload = ?"""
SOME = """DELETE FROM upload_parts WHERE rowid IN (
    SELECT rowid FROM upload_parts WHERE task_id = ? AND lease = ? LIMIT ?)"""


class ResultOps:
    """The part of the transaction that touches uploaded results."""

    db: apsw.Connection

    def put_part(self, name: LeaseName, part: int, data: bytes, upload: int, size: int | None = None) -> bool:
        """Store one part of an upload; False when another one came between."""
        if part == 0:
            for table in ("uploads", "upload_parts"):
                self.db.execute(f"DELETE FROM {table} WHERE task_id = ? AND lease = ?", name)
        self.db.execute(BELONGS, (*name, part, data, size, upload))
        return bool(self.db.changes())

    def put_upload(self, name: LeaseName, whole: Upload, upload: int) -> bool:
        """Declare the parts whole, if they are."""
        if self.db.execute(WHOLE, (*name, upload)).get != (whole.bytes, True):
            return False
        self.db.execute("INSERT OR REPLACE INTO uploads VALUES (?, ?, ?, ?, ?)", (*name, *whole))
        return True

    def upload(self, name: LeaseName) -> Upload | None:
        """The whole upload of this lease."""
        sql = "SELECT bytes, sha256, media_type FROM uploads WHERE task_id = ? AND lease = ?"
        row = self.db.execute(sql, name).get
        return Upload(*row) if row else None

    def drop_parts(self, name: LeaseName, limit: int) -> int:
        """Drop up to that many parts of what was uploaded under a lease."""
        self.db.execute("DELETE FROM uploads WHERE task_id = ? AND lease = ?", name)
        self.db.execute(SOME, (*name, limit))
        return self.db.changes()

    def sweep(self, limit: int) -> int:
        """Drop up to that many parts of uploads that nothing refers to."""
        name: Any = self.db.execute("SELECT task_id, lease FROM upload_trash LIMIT 1").get
        if name is None:
            return 0
        dropped = self.drop_parts(LeaseName(*name), limit)
        if dropped < limit:
            self.db.execute("DELETE FROM upload_trash WHERE task_id = ? AND lease = ?", name)
        return max(dropped, 1)

    def _throw_away_uploads(self, ids: Sequence[int]) -> None:
        """What these tasks' leases uploaded is not referred to any more; `sweep` drops it."""
        rows = [(task_id,) for task_id in ids]
        sql = (
            "INSERT OR IGNORE INTO upload_trash SELECT task_id, lease FROM upload_parts WHERE task_id = ? AND part = 0"
        )
        self.db.executemany(sql, rows)
        self.db.executemany("DELETE FROM uploads WHERE task_id = ?", rows)
