"""Attendance: those whose claims wait here are recorded as seen, for they send no heartbeats meanwhile.

Their host data is written with it. While nobody waits nothing is written.
"""

from dispatcher.clock import Now
from dispatcher.queue import Queue

LONGEST_PAUSE_S = 20.0


class Attendance:
    """One write for all of them, several times within the silence after which one would be thought dead."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def run_once(self, now: Now) -> int:
        """Record them once; how many."""
        return self._queue.note_waiting()

    def pause(self) -> float:
        """Seconds until the next time."""
        return min(LONGEST_PAUSE_S, self._queue.terms.silence_ms / 3000)
