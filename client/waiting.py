"""Waiting for the ends of many tasks with few requests."""

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

Task = dict[str, Any]
ENDED = frozenset({"completed", "failed", "cancelled"})
WINDOW = 1_000  # task ids in one request
LONGEST_WAIT = 25.0  # seconds that one request may wait


class Watch:
    """The tasks among `task_ids` that have not ended, and rounds that bring those which have.

    `ask(ids, seconds)` returns the ended tasks among at most WINDOW ids, waiting up to `seconds` for the first.
    """

    def __init__(self, ask: Callable[[list[int], float], list[Task]], task_ids: Iterable[int]) -> None:
        self._ask = ask
        self._open = dict.fromkeys(task_ids)

    def __len__(self) -> int:
        return len(self._open)

    @property
    def open(self) -> list[int]:
        """The ids that are still waited for, the next to be asked about first."""
        return list(self._open)

    def round(self, seconds: float) -> list[Task]:
        """The tasks that have ended, perhaps none, after one request of at most `seconds` (and LONGEST_WAIT).

        With more than WINDOW open, a round waits no more than a second and goes on to others: any of them may end.
        """
        window = list(islice(self._open, WINDOW))
        if not window:
            return []
        ended = self._ask(window, min(seconds, LONGEST_WAIT if len(self._open) <= WINDOW else 1.0))
        for task in ended:
            self._open.pop(task["task_id"], None)
        if not ended:
            self._turn(window)
        return ended

    def _turn(self, window: list[int]) -> None:
        for task_id in window:
            del self._open[task_id]
            self._open[task_id] = None
