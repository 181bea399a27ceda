"""How long tasks take, as measured: what groups and prefetch follow."""

import math

_WEIGHT = 0.1  # of the newest measurement


class Pace:
    """Moving means of the handlers' run times in seconds, per type and of all tasks together."""

    def __init__(self) -> None:
        self._by_type: dict[str, float] = {}
        self.mean: float | None = None

    def note(self, task_type: str, seconds: float) -> None:
        """One task ran for so long."""
        known = self._by_type.get(task_type, seconds)
        self._by_type[task_type] = known + _WEIGHT * (seconds - known)
        self.mean = seconds if self.mean is None else self.mean + _WEIGHT * (seconds - self.mean)

    def expected(self, task_type: str) -> float:
        """Seconds that a task of this type will take; infinite while nothing is known."""
        return self._by_type.get(task_type, math.inf)
