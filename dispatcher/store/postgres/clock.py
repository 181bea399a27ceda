"""The database's clock, the one that all dispatchers share: read with each transaction, carried on in between."""

import time

from dispatcher.clock import Now

NOW = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint"


class DatabaseClock:
    """Between two readings it goes on with this machine's steady clock, so it is behind by a round trip at most."""

    def __init__(self) -> None:
        self._reading = (0, time.monotonic_ns())

    def set(self, milliseconds: int) -> None:
        """What the database has just said (the result of NOW)."""
        self._reading = (milliseconds, time.monotonic_ns())

    def now(self) -> Now:
        """The present moment: both clocks are the database's."""
        read, at = self._reading
        wall = read + (time.monotonic_ns() - at) // 1_000_000
        return Now(wall, wall)
