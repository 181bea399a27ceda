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
        self._by_type[task_type] = _moved(self._by_type.get(task_type), seconds)
        self.mean = _moved(self.mean, seconds)

    def expected(self, task_type: str) -> float:
        """Seconds that a task of this type will take; infinite while nothing is known."""
        return self._by_type.get(task_type, math.inf)


def _moved(mean: float | None, value: float) -> float:
    return value if mean is None else mean + _WEIGHT * (value - mean)
