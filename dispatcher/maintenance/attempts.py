"""Limits of time that are over, and blame that has lapsed. When there is neither, it only reads."""

from dispatcher.clock import Now
from dispatcher.queue import Queue

BATCH = 25  # a step of some milliseconds


class Attempts:
    """Any number of dispatchers may do this at once: each takes limits that no other has in hand."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def run_once(self, now: Now) -> int:
        """Look at every limit that may be over; at how many it was."""
        seen = 0
        self._queue.heed_clock(now)
        while (due := self._queue.next_deadline()) is not None and due <= now.wall:
            batch = self._queue.enforce_deadlines(BATCH)
            seen += batch
            if not batch:
                break
        self._queue.tend_attempts(now)
        return seen
