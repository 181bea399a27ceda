"""The scheduler: makes due tasks ready. When nothing is due it only reads.

It sleeps until the next task that it knows of is due; one that is submitted meanwhile and due earlier, here or at
another dispatcher, is seen after LONGEST_PAUSE_S at the latest.
"""

from dispatcher.clock import Now
from dispatcher.queue import Queue
from dispatcher.queue.pace import Pace, at_once

BATCH = 500  # at most
LONGEST_PAUSE_S, SHORTEST_PAUSE_S = 0.25, 0.02


def pause_until(moment: int | None, now: int, longest: float) -> float:
    """Seconds to sleep until a moment; a due one that somebody else has in hand is looked at again soon."""
    return longest if moment is None else max(SHORTEST_PAUSE_S, min(longest, (moment - now) / 1000))


class Scheduler:
    """Batches keep each write short, so that a million due at once delay no claim."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._next: int | None = None

    def run_once(self, now: Now) -> int:
        """Make everything ready that is due; how many."""
        made, self._next = 0, None  # a pass that fails is not repeated at once
        pace = Pace(self._queue.store, at_once, BATCH)
        while (due := self._queue.next_due()) is not None and due <= now.wall:
            batch = self._queue.make_ready(pace)
            made += batch
            if not batch:
                break
        self._next = due
        return made

    def pause(self) -> float:
        """Seconds until the next task is due."""
        return pause_until(self._next, self._queue.now().wall, LONGEST_PAUSE_S)
