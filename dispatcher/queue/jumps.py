"""Jumps of the wall clock, seen beside the steady one: an hour that it skips has not passed for anybody who waits.

Where both are one, as on PostgreSQL, there are none.
"""

from dispatcher.clock import Now

LEAST_MS = 1_000  # a clock that is being slewed goes a little faster or slower all the time


class Jumps:
    """Those that were seen since the start."""

    def __init__(self) -> None:
        self._ahead: int | None = None  # of the steady clock
        self._forward: list[tuple[int, int]] = []  # up to which wall time, by how much

    def look(self, now: Now) -> int | None:
        """By how much it has jumped since the last look, milliseconds, negative when it went back; None when nobody has
        looked yet."""
        ahead, before = now.wall - now.steady, self._ahead
        self._ahead = ahead
        if before is None:
            return None
        jump = ahead - before
        if jump >= LEAST_MS:
            self._forward.append((now.wall - jump, jump))
        return jump if abs(jump) >= LEAST_MS else 0

    def since(self, moment: int) -> int:
        """By how much it has jumped forward since a wall time."""
        return sum(jump for before, jump in self._forward if moment <= before)
