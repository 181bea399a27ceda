"""When the reporter may try which entry again, and how long an entry has been refused."""

import random
from collections.abc import Callable, Iterable

from worker.outbox import Entry


class Delays:
    """One pause for all entries, and a time of its own for each that failed. Seconds on the monotonic clock."""

    def __init__(self, interval: float, clock: Callable[[], float]) -> None:
        self._interval, self._clock = interval, clock
        self._paused_until = 0.0
        self._due: dict[Entry, float] = {}
        self._refused_at: dict[Entry, float] = {}

    def clear(self) -> None:
        """Everything may be tried now."""
        self._paused_until = 0.0
        self._due.clear()

    def silence(self) -> None:
        """No answer: all wait. What refusals come later are not linked to those before, so nothing has aged."""
        self._refused_at.clear()
        self._paused_until = self._clock() + self._jittered()

    def pause(self, entries: Iterable[Entry], seconds: float | None) -> None:
        """A refusal of the moment: all wait, for as long as was asked; then the others come before these."""
        self._paused_until = self._clock() + (seconds or 0.0) + (self._jittered() if not seconds else 0.0)
        self._due.update(dict.fromkeys(entries, self._paused_until + 0.001))

    def put_off(self, entry: Entry) -> None:
        """This entry waits, the others go on."""
        self._due[entry] = self._clock() + self._jittered()

    def was_refused(self, entry: Entry) -> bool:
        """Whether its last tries were refused, too."""
        return entry in self._refused_at

    def refused(self, entry: Entry) -> float:
        """Seconds since the first of the unbroken refusals that were not counted yet; 0 for a first one."""
        now = self._clock()
        return now - self._refused_at.setdefault(entry, now)

    def counted(self, entry: Entry) -> None:
        """The refusals up to now are counted."""
        self._refused_at[entry] = self._clock()

    def forget(self, entry: Entry) -> None:
        self._due.pop(entry, None)
        self._refused_at.pop(entry, None)

    def next(self, entries: Iterable[Entry]) -> Entry | None:
        """The entry to try now: the first that never failed, else the one that has waited longest."""
        now = self._clock()
        if now < self._paused_until:
            return None
        best, best_due = None, now
        for entry in entries:
            due = self._due.get(entry)
            if due is None:
                return entry
            if due <= best_due:
                best, best_due = entry, due
        return best

    def is_due(self, entry: Entry) -> bool:
        """Whether it may go along with the one that is tried now."""
        return self._due.get(entry, 0.0) <= self._clock()

    @property
    def paused(self) -> bool:
        return self._clock() < self._paused_until

    def _jittered(self) -> float:
        return self._interval * random.uniform(0.75, 1.25)  # noqa: S311 -- jitter, not a secret
