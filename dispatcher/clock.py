"""The two times of the dispatcher, in whole milliseconds.

`wall` is UTC, for `run_at` and display. `steady` is for leases: the wall time at start plus CLOCK_MONOTONIC
since, so that no jump of the wall clock ends a lease (DESIGN mechanism 2).
"""

import time
from typing import NamedTuple, Protocol


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
