"""The pruner: deletes ended tasks after their retention, in small batches."""

from collections.abc import Callable
from functools import partial

from dispatcher.clock import Now
from dispatcher.model import State
from dispatcher.queue import Queue

BATCH = 200
KEY_RETENTION_MS = 24 * 3600 * 1000


class Pruner:
    """Retention in milliseconds: completed, and what did not complete (failed, cancelled)."""

    def __init__(self, queue: Queue, completed_ms: int, failed_ms: int) -> None:
        self._queue = queue
        self._retention = {State.COMPLETED: completed_ms, State.FAILED: failed_ms, State.CANCELLED: failed_ms}

    def run_once(self, now: Now) -> int:
        """Delete everything that is over its time; how many tasks."""
        deleted = 0
        for state, retention in self._retention.items():
            before = now.wall - retention
            deleted += self._until_done(partial(self._queue.prune, state, before, BATCH))
        self._until_done(partial(self._queue.prune_leftovers, now.wall - KEY_RETENTION_MS, BATCH))
        self._until_done(partial(self._queue.give_back, BATCH))
        return deleted

    def _until_done(self, step: Callable[[], int]) -> int:
        total = 0
        while not self._queue.draining and (done := step()):
            total += done
        return total
