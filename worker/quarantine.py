"""What the outbox could not deliver or read: kept for a person, one JSON file each, never deleted by the worker.

CACHE_DIR/<worker_id>/quarantine/
    <instance>-<key>.json         {"instance_id", "reason", "outcomes": […]} or {…, "content"} of a damaged entry
    <instance>-<key>.result       the large result that belongs to it
    cache.db.corrupt-<n>          a database that was corrupt as a whole, with its -wal
"""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

from common import durable
from worker.disk import Damaged, OddKey


class Quarantine:
    """The quarantine of one worker name, written for one of its instances."""

    def __init__(self, folder: Path, instance: str) -> None:
        self._folder, self._instance = folder, instance

    def count(self) -> int:
        """How many things lie there, of all instances of this worker."""
        if not self._folder.is_dir():
            return 0
        return sum(1 for path in self._folder.iterdir() if path.suffix == ".json" or _is_database(path))

    def keep(self, key: bytes, record: dict[str, Any], spool: Path | None = None) -> Path:
        """Writes one record, durably, and moves its spool file beside it."""
        self._folder.mkdir(exist_ok=True, mode=0o700)
        path = self._folder / f"{self._instance}-{_safe(key)}.json"
        unfinished = path.with_suffix(".unfinished")  # who looks at the records meanwhile sees whole ones
        durable.write(str(unfinished), json.dumps({"instance_id": self._instance, **record}).encode())
        unfinished.replace(path)
        durable.sync(self._folder)
        if spool is not None and spool.exists():
            spool.replace(path.with_suffix(".result"))
        return path

    def keep_damaged(self, key: bytes | OddKey, damage: Damaged) -> Path:
        """Writes what stands in a damaged row, uninterpreted."""
        stored = key.stored if isinstance(key, OddKey) else key
        record = {"reason": f"damaged: {damage.reason}", "key": _shown(stored), "content": _shown(damage.content)}
        return self.keep(repr(stored).encode(), record)

    def move_database(self, outbox: Path) -> Path:
        """Takes a corrupt cache.db out of an outbox folder."""
        self._folder.mkdir(exist_ok=True, mode=0o700)
        number = 1
        while (target := self._folder / f"cache.db.corrupt-{number}").exists():
            number += 1
        for suffix in ("-wal", ""):
            path = outbox / f"cache.db{suffix}"
            if path.exists():
                path.replace(f"{target}{suffix}")
        (outbox / "cache.db-shm").unlink(missing_ok=True)
        return target


def _is_database(path: Path) -> bool:
    return path.name.startswith("cache.db.corrupt-") and not path.name.endswith("-wal")


def _safe(key: bytes) -> str:
    return key.decode() if key.isdigit() and len(key) <= 20 else hashlib.sha256(key).hexdigest()[:16]


def _shown(content: object) -> object:
    """Readable text as it is, other bytes in base64, anything else by its repr."""
    if isinstance(content, bytes):
        try:
            return content.decode()
        except UnicodeDecodeError:
            return {"base64": base64.b64encode(content).decode()}
    return content if isinstance(content, (str, int, float)) else repr(content)
