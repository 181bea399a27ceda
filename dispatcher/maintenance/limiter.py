"""The limiter: when a queue's rate lets the next task start, the claims that wait are served it.

It sleeps until then; while no rate holds anything back it sleeps on.
"""

from dispatcher.clock import Now
from dispatcher.queue import Queue
from dispatcher.queue.queues import wake_rated

LONGEST_PAUSE_S, SHORTEST_PAUSE_S = 30.0, 0.01


class Limiter:
    """Short steps, so that a rate is used up evenly."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def run_once(self, now: Now) -> int:
        """Look once; how many queues had become free."""
        return wake_rated(self._queue, now.steady)

    def pause(self) -> float:
        """Seconds until the next rate lets something start."""
        soonest = self._queue.waiting.soonest()
        if soonest is None:
            return LONGEST_PAUSE_S
        return max(SHORTEST_PAUSE_S, (soonest - self._queue.now().steady) / 1000)
