"""Recent rates and times, kept in memory: what /stats says beside the counts."""

import threading
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from dispatcher.meters import TIMES, Histogram, Totals
from dispatcher.model import End

WINDOW_S = 60
SAMPLES = 1000


class Sample(NamedTuple):
    """What came since the last sample; of very many times the newest."""

    ended: int
    tried: int
    failed: int
    waits: list[float]
    runs: list[float]


class Rates:
    """Ends of tasks by second of the last minute; samples of how long tasks waited and ran."""

    def __init__(self) -> None:
        self.wait_times, self.run_times, self.heartbeats = Histogram(TIMES), Histogram(TIMES), Totals()
        self._lock = threading.Lock()
        self._ended: deque[tuple[int, int]] = deque()
        self._waits: deque[float] = deque(maxlen=SAMPLES)
        self._runs: deque[float] = deque(maxlen=SAMPLES)
        self._since = [0, 0, 0, 0, 0]  # ended, tried, failed, waited, ran: how many since the last sample

    def ended(self, n: int, second: int) -> None:
        """Count tasks that ended."""
        with self._lock:
            self._since[0] += n
            if self._ended and self._ended[-1][0] == second:
                n += self._ended.pop()[1]
            self._ended.append((second, n))
            while self._ended[0][0] <= second - WINDOW_S:
                self._ended.popleft()

    def waited(self, times: Sequence[float]) -> None:
        """How long granted tasks had been ready, in seconds."""
        self.wait_times.add(times)
        with self._lock:
            self._since[3] += len(times)
            self._waits.extend(times)

    def ran(self, times: Sequence[float]) -> None:
        """How long handlers ran, in seconds."""
        self.run_times.add(times)
        with self._lock:
            self._since[4] += len(times)
            self._runs.extend(times)

    def tried(self, ends: Sequence[End]) -> None:
        """Count attempts by what was reported of them."""
        failed = ends.count(End.FAILED)
        with self._lock:
            self._since[1] += ends.count(End.COMPLETED) + failed
            self._since[2] += failed

    def take(self) -> Sample:
        """What came since the last call."""
        with self._lock:
            ended, tried, failed, waited, ran = self._since
            self._since = [0, 0, 0, 0, 0]
            return Sample(ended, tried, failed, _newest(self._waits, waited), _newest(self._runs, ran))

    def summary(self, second: int) -> dict[str, object]:
        """Tasks ended a second over the last minute, and percentiles in seconds."""
        with self._lock:
            recent = sum(n for at, n in self._ended if at > second - WINDOW_S)
            waits, runs = sorted(self._waits), sorted(self._runs)
        return {
            "finished_per_second": round(recent / WINDOW_S, 3),
            "wait_seconds": _percentiles(waits),
            "run_seconds": _percentiles(runs),
        }


def _newest(times: deque[float], n: int) -> list[float]:
    return list(times)[-n:] if n else []


def _percentiles(ordered: Sequence[float]) -> dict[str, float | None]:
    def at(share: float) -> float | None:
        return round(ordered[min(int(share * len(ordered)), len(ordered) - 1)], 4) if ordered else None

    return {"p50": at(0.5), "p95": at(0.95), "p99": at(0.99)}
