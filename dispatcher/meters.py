"""Counting what happens at next to no cost: whole batches are kept, and sorted into buckets later (docs/metrics.md)."""

import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

FOLD_AT = 64  # batches; more memory than theirs is never held
TIMES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)
COMMITS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Reading(NamedTuple):
    """A histogram at one moment: how many values were at most each bound, how many there were, their sum."""

    at_most: tuple[tuple[float, int], ...]
    number: int
    total: float


class Histogram:
    """Values by size. `add` keeps a batch, which costs the same whatever it holds; any thread may call it."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._lock = threading.Lock()
        self._batches: deque[Sequence[float]] = deque()
        self._at_most = [0] * len(self._bounds)
        self._count, self._total = 0, 0.0

    def add(self, values: Sequence[float]) -> None:
        """Count values; the caller must not change them afterwards."""
        self._batches.append(values)
        if len(self._batches) >= FOLD_AT:
            self._fold()

    def read(self) -> Reading:
        """What was counted by now."""
        self._fold()
        with self._lock:
            return Reading(tuple(zip(self._bounds, self._at_most, strict=True)), self._count, self._total)

    def _fold(self) -> None:
        with self._lock:
            values: list[float] = []
            while self._batches:
                values += self._batches.popleft()
            values.sort()
            for place, bound in enumerate(self._bounds):
                self._at_most[place] += bisect_right(values, bound)
            self._count += len(values)
            self._total += sum(values)


class Totals:
    """Numbers that only rise, by their labels; any thread may add."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n: dict[tuple[str, ...], int] = {}

    def add(self, *labels: str, n: int = 1) -> None:
        """Count."""
        with self._lock:
            self._n[labels] = self._n.get(labels, 0) + n

    def read(self) -> Mapping[tuple[str, ...], int]:
        """What was counted by now."""
        with self._lock:
            return dict(self._n)


class StoreMeters:
    """What a writer counts: how long its COMMITs take (seconds), how many operations share one, the ends it stored."""

    def __init__(self) -> None:
        self.commit_seconds, self.group_sizes = Histogram(COMMITS), Histogram(SIZES)
        self.ended = Totals()
