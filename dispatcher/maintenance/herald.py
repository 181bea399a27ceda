"""The herald: tells those who listen to events what has changed. While nobody listens it does nothing."""

from dispatcher.clock import Now
from dispatcher.queue import Queue
from dispatcher.queue.telling import Teller

LISTENED_S, DEAF_S = 0.2, 1.0


class Herald:
    """Looks often enough for people, and no oftener."""

    def __init__(self, queue: Queue) -> None:
        self._queue, self._teller = queue, Teller(queue)

    def run_once(self, now: Now) -> int:
        """Tell once; how many events."""
        return self._teller.tell(now.steady)

    def pause(self) -> float:
        """Seconds until the next look."""
        return LISTENED_S if self._queue.events.heard else DEAF_S
