"""The scheduler: makes due tasks ready. When nothing is due it only reads."""

from dispatcher.clock import Now
from dispatcher.queue import Queue

BATCH = 500


class Scheduler:
    """Batches keep each write short, so that a million due at once delay no claim."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def run_once(self, now: Now) -> int:
        """Make everything ready that is due; how many."""
        made = 0
        while (due := self._queue.next_due()) is not None and due <= now.wall:
            batch = self._queue.make_ready(BATCH)
            made += batch
            if not batch:
                break
        return made
