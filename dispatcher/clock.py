"""The two times of the dispatcher, in whole milliseconds.

`wall` is UTC, for `run_at` and display. `steady` is for leases: the wall time at start plus CLOCK_MONOTONIC
since, so that no jump of the wall clock ends a lease (DESIGN mechanism 2).
"""

import time
from datetime import datetime, timezone
from functools import lru_cache
from typing import NamedTuple, Protocol, overload


class Now(NamedTuple):
    """One moment on both clocks, milliseconds."""

    wall: int
    steady: int


class Clock(Protocol):
    """Where a store takes its time from; tests inject one that stands still."""

    def now(self) -> Now:
        """The present moment."""
        ...


class SystemClock:
    """The machine's clocks."""

    def __init__(self) -> None:
        self._offset = time.time_ns() - time.monotonic_ns()

    def now(self) -> Now:
        """The present moment."""
        return Now(time.time_ns() // 1_000_000, (self._offset + time.monotonic_ns()) // 1_000_000)


@overload
def moment(ms: int) -> str: ...
@overload
def moment(ms: int | None) -> str | None: ...
@lru_cache(4096)  # what ended in one transaction ended at one moment
def moment(ms: int | None) -> str | None:
    """Wall time as it is written: RFC 3339, UTC."""
    return None if ms is None else f"{_second(ms // 1000)}.{ms % 1000:03d}Z"


@lru_cache(4096)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
