"""The limiter: when a queue's rate lets the next task start, the claims that wait are served it.

While no rate holds anything back it only looks into memory.
"""

from dispatcher.clock import Now
from dispatcher.queue import Queue
from dispatcher.queue.queues import wake_rated


class Limiter:
    """Short steps, so that a rate is used up evenly."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def run_once(self, now: Now) -> int:
        """Look once; how many queues had become free."""
        return wake_rated(self._queue, now.steady)
