"""Many small writes in a row that nobody else notices: each short, and then a longer pause."""

import time
from collections.abc import Callable
from typing import Any, TypeVar

from dispatcher.store.base import Store, Tx

T = TypeVar("T")

MOST, LEAST, FIRST = 200, 10, 50  # things in one write
LONG_S, SHORT_S = 0.004, 0.002  # of one write: longer ones shrink, shorter ones grow
REST, LEAST_REST_S = 2.0, 0.005  # the pause after a write: so many times its own length, and a moment
STEP_BYTES = 8 * 2**20  # are touched by one write, unless a single task has more
STEP_PARTS = 8  # of uploads, a mebibyte each


def at_once(_: float) -> None:
    """No pause: what waits is due."""


class Pace:
    """`size` says how many things the next write should touch. Operations of others go in between, and first."""

    def __init__(self, store: Store, sleep: Callable[[float], None] = time.sleep, most: int = MOST) -> None:
        self._store, self._sleep, self._most = store, sleep, most
        self.size = FIRST

    def write(self, op: Callable[[Tx], T]) -> T:
        """One write, and the pause after it."""
        took = 0.0

        def timed(tx: Any) -> T:
            nonlocal took
            began = time.perf_counter()
            answer = op(tx)
            took = time.perf_counter() - began
            return answer

        answer = self._store.write(timed)
        if took > LONG_S:
            self.size = max(LEAST, self.size // 2)
        elif took < SHORT_S:
            self.size = min(self._most, self.size * 2)
        self._sleep(REST * took + LEAST_REST_S)
        return answer


def light(tx: Tx, ids: list[int]) -> list[int]:
    """As many of the tasks, from the first on, as one write may touch with all their data: at least one."""
    weights, total = tx.weigh(ids), 0
    for place, task_id in enumerate(ids):
        total += weights.get(task_id, 0)
        if place and total > STEP_BYTES:
            return ids[:place]
    return ids
