"""What is told while somebody listens: how changed and watched tasks stand, and the counts."""

from collections.abc import Mapping
from typing import Any

from dispatcher.model import State
from dispatcher.queue.queue import Queue

COUNTS_MS = 1_000  # counts are told no more often


class Teller:
    """Looks and tells; while nobody listens it does nothing."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._counted = self._looked = 0

    def tell(self, now: int) -> int:
        """One look (`now`: steady clock); how many events."""
        events = self._queue.events
        events.rest(now)
        if not events.heard:
            self._looked = 0
            return 0
        return self._tell_tasks() + self._tell_counts(now)

    def _tell_tasks(self) -> int:
        events = self._queue.events
        changed, watched = events.changed(), events.watched()
        with self._queue.store.read() as reader:
            changed += self._elsewhere(reader)
            wanted = list(dict.fromkeys([*changed, *watched]))
            rows = {row["task_id"]: row for row in reader.signs(wanted)} if wanted else {}
        told = 0
        for task_id in wanted:
            row = rows.get(task_id)
            said = sign(row) if row else {"task_id": task_id, "status": "deleted"}
            told += events.publish("task", said, task_id, unless_same=True)
        return told

    def _elsewhere(self, reader: Any) -> list[int]:
        """The tasks that ended at another dispatcher since the last look."""
        if not self._queue.store.shared:
            return []
        since, self._looked = self._looked, self._queue.now().wall
        return reader.ended_since(since - COUNTS_MS) if since else []

    def _tell_counts(self, now: int) -> int:
        if abs(now - self._counted) < COUNTS_MS:
            return 0
        self._counted = now
        with self._queue.store.read() as reader:
            counts = reader.counts()
            seen = reader.workers(self._queue.now().wall - self._queue.terms.silence_ms)
        states = [*(state.value for state in State), "ready"]
        said = {state: sum(n.get(state, 0) for n in counts.values()) for state in states}
        said["workers"] = sum(row["died_at"] is None for row in seen)
        return int(self._queue.events.publish("counts", said, unless_same=True))


def sign(row: Mapping[str, Any]) -> dict[str, Any]:
    """How a task stands, as an event says it."""
    same = ("task_id", "task_type", "queue", "status", "attempts", "max_attempts", "generation", "assigned_to", "note")
    progress = None if row["done"] is None else {"done": row["done"], "total": row["total"]}
    error = (row["error"] or "").partition("\n")[0][:500] or None
    return {**{name: row[name] for name in same}, "progress": progress, "error": error, "log": row["log_next"] or 0}
