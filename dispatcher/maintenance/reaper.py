"""The reaper: ends expired leases, and never because of its own absence (the gap rule, DESIGN mechanism 2)."""

import logging

from dispatcher.clock import Now
from dispatcher.queue import Queue
from dispatcher.queue.upkeep import REAP_LIMIT

log = logging.getLogger("taskmill.reaper")


class Reaper:
    """A pass succeeds when its write committed, or when no lease lives that could suffer.

    While the store is in trouble it writes all the same: so the dispatcher finds out when it is well again. When the
    queue has moved to another store, whose clock is another, what it knew of the last pass is worth nothing.
    """

    def __init__(self, queue: Queue) -> None:
        self._queue, self._store = queue, queue.store
        self._last: int | None = None

    def run_once(self, now: Now) -> int:
        """End the leases that are over, a batch at a time; how many."""
        if self._queue.store is not self._store:
            self._store, self._last = self._queue.store, None
        if self._queue.is_ready() and not self._queue.live_leases():
            self._last = now.steady
            return 0
        ended = batch = self._reap()
        while batch == REAP_LIMIT and not self._queue.draining:
            batch = self._reap()
            ended += batch
        if ended:
            log.info("%d leases expired", ended)
        return ended

    def _reap(self) -> int:
        ended, self._last = self._queue.reap(self._last)
        return ended
