"""The historian: writes down every ten seconds what happened in them. While nothing happens it only reads."""

from dispatcher.clock import Now
from dispatcher.queue import Queue
from dispatcher.queue.history import SHORT_MS, Recorder


class Historian:
    """Any number of dispatchers do this at the same time, each in rows of its own."""

    def __init__(self, queue: Queue) -> None:
        self._queue, self._recorder = queue, Recorder(queue)

    def run_once(self, now: Now) -> int:
        """Write one stretch; 0 when there was nothing."""
        return int(self._recorder.record(now.wall))

    def pause(self) -> float:
        """Seconds until the next stretch is over."""
        return (SHORT_MS - self._queue.now().wall % SHORT_MS) / 1000 + 0.05
