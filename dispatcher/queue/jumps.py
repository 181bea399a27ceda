"""Jumps of the wall clock, seen beside the steady one while the dispatcher runs: an hour that is skipped has not passed
for anybody who waits.

On PostgreSQL both are the database's one clock, so none are seen.
"""

from dispatcher.clock import Now

LEAST_MS = 1_000  # a clock that is being slewed goes a little faster or slower all the time


class Jumps:
    """Those since the start. Who looks says afterwards that he has heeded what he saw: what fails is done again."""

    def __init__(self) -> None:
        self._ahead: int | None = None  # of the steady clock, when it was last heeded
        self._forward: list[tuple[int, int]] = []  # up to which wall time, by how much

    def look(self, now: Now) -> int:
        """By how much it has jumped, milliseconds, negative when it went back."""
        ahead = now.wall - now.steady
        if self._ahead is None or abs(ahead - self._ahead) < LEAST_MS:
            self._ahead = ahead
        return ahead - self._ahead

    def heeded(self, now: Now) -> None:
        """What follows from the jump that was seen then is done."""
        jump = self.look(now)
        if jump > 0:
            self._forward.append((now.wall - jump, jump))
        else:
            self._forward = [(before, by) for before, by in self._forward if before <= now.wall]
        self._ahead = now.wall - now.steady

    def since(self, moment: int) -> int:
        """By how much it has jumped forward since a wall time."""
        return sum(by for before, by in self._forward if moment <= before)
