"""What went on, kept for charts: throughput, times, errors and backlog over the last minutes, hour and day.

Every dispatcher writes rows of its own, one for each 10 seconds and one for each minute, and adds nothing while nothing
happens. Readers sum over dispatchers; what they measured of the whole queue (backlog) is the same for all, so the
highest counts. Times are kept as histograms, which can be summed where percentiles cannot.
"""

import json
import math
import secrets
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from dispatcher.model import State
from dispatcher.queue.queue import Queue
from dispatcher.queue.rates import Sample

SHORT_MS, LONG_MS = 10_000, 60_000
KEPT_MS = {SHORT_MS: 15 * 60_000, LONG_MS: 25 * 3_600_000}
FINENESS = 4  # buckets of a histogram for each doubling: a percentile is right within a tenth


class Span(NamedTuple):
    """A stretch of time as charts show it: its length, that of a point, and the rows that points are made of."""

    length_ms: int
    point_ms: int
    step_ms: int


SPANS = {
    "5m": Span(300_000, 10_000, SHORT_MS),
    "1h": Span(3_600_000, 60_000, LONG_MS),
    "24h": Span(86_400_000, 600_000, LONG_MS),
}


@dataclass(slots=True)
class Stretch:
    """What happened in a stretch of time."""

    ended: int = 0  # tasks
    tried: int = 0  # attempts that were reported
    failed: int = 0  # of those
    ready: int = 0  # tasks that waited at its end
    running: int = 0
    waits: Counter[int] = field(default_factory=Counter)
    runs: Counter[int] = field(default_factory=Counter)

    def add(self, other: "Stretch") -> None:
        """Another part of it, in time or of another dispatcher."""
        self.ended, self.tried, self.failed = (
            self.ended + other.ended, self.tried + other.tried, self.failed + other.failed,
        )  # fmt: skip
        self.ready, self.running = max(self.ready, other.ready), max(self.running, other.running)
        self.waits.update(other.waits)
        self.runs.update(other.runs)

    def text(self) -> str:
        """As it is stored."""
        numbers = {name: getattr(self, name) for name in ("ended", "tried", "failed", "ready", "running")}
        return json.dumps({**numbers, "waits": self.waits, "runs": self.runs}, separators=(",", ":"))

    @classmethod
    def parse(cls, text: str) -> "Stretch":
        """As it was stored."""
        said = json.loads(text)
        for name in ("waits", "runs"):
            said[name] = Counter({int(bucket): n for bucket, n in said[name].items()})
        return cls(**said)


class Point(NamedTuple):
    """One place on a chart: rates are per second, times seconds, None where nothing was measured."""

    at: int
    per_second: float
    tried: int
    failed: int
    failed_share: float | None
    ready: int
    running: int
    run_p50: float | None
    run_p95: float | None
    wait_p50: float | None
    wait_p95: float | None


class Recorder:
    """One dispatcher's rows."""

    def __init__(self, queue: Queue) -> None:
        self._queue, self._writer = queue, secrets.token_hex(4)
        self._minute, self._minute_at = Stretch(), 0
        self._quiet = True

    def record(self, wall: int) -> bool:
        """Write what happened since the last call; whether there was anything."""
        now = self._measured(self._queue.rates.take())
        quiet = now == Stretch()
        if quiet and self._quiet:  # the zero behind the last number was written
            return False
        self._quiet = quiet
        at = max(wall // SHORT_MS - 1, 0) * SHORT_MS
        if at // LONG_MS * LONG_MS != self._minute_at:
            self._minute, self._minute_at = Stretch(), at // LONG_MS * LONG_MS
        self._minute.add(now)
        rows = [(SHORT_MS // 1000, at, self._writer, now.text())]
        rows.append((LONG_MS // 1000, self._minute_at, self._writer, self._minute.text()))
        old = [(step // 1000, wall - kept) for step, kept in KEPT_MS.items()]
        self._queue.store.write(lambda tx: tx.put_history(rows, old))
        return True

    def _measured(self, sample: Sample) -> Stretch:
        with self._queue.store.read() as reader:
            counts = reader.counts()
        ready, running = (sum(n.get(s, 0) for n in counts.values()) for s in ("ready", State.IN_PROGRESS.value))
        waits, runs = histogram(sample.waits), histogram(sample.runs)
        return Stretch(sample.ended, sample.tried, sample.failed, ready, running, waits, runs)


def series(queue: Queue, span: Span, wall: int) -> list[Point]:
    """The points of a span up to now, the oldest first, none left out."""
    last = wall // span.point_ms * span.point_ms
    first = last - span.length_ms
    with queue.store.read() as reader:
        rows = reader.history(span.step_ms // 1000, first)
    found = {at: Stretch() for at in range(first, last, span.point_ms)}
    for at, text in rows:
        if (place := at // span.point_ms * span.point_ms) in found:
            found[place].add(Stretch.parse(text))
    return [_point(at, stretch, span.point_ms / 1000) for at, stretch in found.items()]


def _point(at: int, s: Stretch, seconds: float) -> Point:
    share = s.failed / s.tried if s.tried else None
    times = [percentile(buckets, part) for buckets in (s.runs, s.waits) for part in (0.5, 0.95)]
    return Point(at, s.ended / seconds, s.tried, s.failed, share, s.ready, s.running, *times)


def histogram(seconds: Iterable[float]) -> Counter[int]:
    """Lengths of time by buckets; what is under a tenth of a millisecond counts as that."""
    return Counter(round(FINENESS * math.log2(max(s, 0.0001))) for s in seconds)


def percentile(buckets: Mapping[int, int], share: float) -> float | None:
    """The seconds that a share of the times stays under, within a tenth."""
    left = share * sum(buckets.values())
    for bucket in sorted(buckets):
        left -= buckets[bucket]
        if left <= 0:
            return float(2 ** (bucket / FINENESS))
    return None
