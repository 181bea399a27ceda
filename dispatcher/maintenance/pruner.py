"""The pruner: deletes ended tasks after their retention, in small batches, and what was theirs after them."""

from collections.abc import Callable, Mapping
from functools import partial

from dispatcher.clock import Now
from dispatcher.model import State
from dispatcher.queue import Queue, retention
from dispatcher.queue.pace import Pace

BATCH = 200
KEY_RETENTION_MS = 24 * 3600 * 1000


class Pruner:
    """Retention in milliseconds by final state, where no queue says otherwise."""

    def __init__(self, queue: Queue, defaults: Mapping[State, int]) -> None:
        self._queue, self.defaults = queue, defaults

    def run_once(self, now: Now) -> int:
        """Delete everything that is over its time; how many tasks."""
        store, deleted = self._queue.store, 0
        pace = Pace(store)
        for lane in retention.due(store, now.wall, self.defaults):
            deleted += self._until_done(partial(retention.clear, lane, pace))
        self._until_done(partial(self._queue.prune_leftovers, now.wall - KEY_RETENTION_MS, BATCH))
        self._until_done(partial(retention.sweep, pace))
        self._until_done(partial(self._queue.give_back, BATCH))
        return deleted

    def _until_done(self, step: Callable[[], int]) -> int:
        total = 0
        while not self._queue.draining and (done := step()):
            total += done
        return total
