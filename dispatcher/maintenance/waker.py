"""The waker: where several dispatchers share a store, looks after what the others did for those who wait here."""

from dispatcher.clock import Now
from dispatcher.queue import Queue

SHARED_S, ALONE_S = 0.5, 60.0


class Waker:
    """Reads, and only while somebody waits. A hint from another dispatcher hurries its loop; without one it is late by
    its pause. While the store is this dispatcher's alone there is nothing to look for; a queue that moves to another
    store hurries the loop."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def run_once(self, now: Now) -> int:
        """Look around once; how many claims waited."""
        return self._queue.look_around() if self._queue.store.shared else 0

    def pause(self) -> float:
        """Seconds until the next look."""
        return SHARED_S if self._queue.store.shared else ALONE_S
