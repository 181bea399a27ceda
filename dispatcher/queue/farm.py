"""The whole farm in one word, and the numbers that belong to it."""

from collections.abc import Sequence
from typing import NamedTuple

from dispatcher.model import State
from dispatcher.queue.history import SPANS, Point, series
from dispatcher.queue.overview import Overview
from dispatcher.queue.queue import Queue
from dispatcher.queue.workers import able

WORDS = {
    "active": "tasks run",
    "waiting": "tasks wait, none runs",
    "idle": "nothing to do",
    "asleep": "no worker takes tasks",
    "inoperable": "the store takes no writes",
}


class Farm(NamedTuple):
    """How things stand; `oldest_s` is how long the oldest ready task has waited."""

    word: str
    counts: dict[str, int]
    oldest_s: float | None
    able: int  # instances that take tasks
    per_second: float
    failed_share: float | None

    @property
    def why(self) -> str:
        """The word in a few more words."""
        return WORDS[self.word]


def judged(queue: Queue, seen: Overview) -> Farm:
    """How the farm stands."""
    now, states = seen.at, (*(state.value for state in State), "ready")
    counts = {state: sum(n.get(state, 0) for n in seen.counts.values()) for state in states}
    oldest = min(seen.oldest.values(), default=None)
    takers = len(able(seen.workers))
    recent = series(queue, SPANS["5m"], now)
    word = word_for(queue.is_ready(), counts["in_progress"], counts["ready"], takers)
    waited = None if oldest is None else max(now - oldest, 0) / 1000
    return Farm(word, counts, waited, takers, _per_second(queue, recent, now), _failed_share(recent))


def word_for(ready: bool, running: int, waiting: int, able: int) -> str:
    """The one word."""
    if not ready:
        return "inoperable"
    if running:
        return "active"
    if not able:
        return "asleep"
    return "waiting" if waiting else "idle"


def _per_second(queue: Queue, recent: Sequence[Point], now: int) -> float:
    """Ends over the last minute: from memory where this dispatcher is the only one."""
    if not queue.store.shared:
        return float(str(queue.rates.summary(now // 1000)["finished_per_second"]))
    return sum(point.per_second for point in recent[-6:]) / 6


def _failed_share(recent: Sequence[Point]) -> float | None:
    tried = sum(point.tried for point in recent)
    return sum(point.failed for point in recent) / tried if tried else None
