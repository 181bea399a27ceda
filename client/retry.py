"""When and how often a call is tried again: on silence and 5xx only, with full jitter, for a bounded time."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from client.errors import Refused, Rejected, TransportError, Unreachable

T = TypeVar("T")
_FIRST, _LONGEST = 0.1, 10.0  # seconds


@dataclass(frozen=True, slots=True)
class Timing:
    """Clock, sleep and chance; tests bring their own."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    uniform: Callable[[float, float], float] = random.uniform


@dataclass(frozen=True, slots=True)
class Retry:
    """Repeats a call for up to `seconds` (0: one try). `notice` hears each error that will be tried again."""

    seconds: float
    timing: Timing = Timing()
    notice: Callable[[TransportError], None] = lambda error: None

    def run(self, call: Callable[[], T]) -> T:
        """What the call returns; raises Rejected for a 4xx at once, and the last error when time is over."""
        deadline, tries = self.timing.now() + self.seconds, 0
        while True:
            try:
                return call()
            except (Unreachable, Refused) as error:
                delay = self._delay(error, tries, deadline - self.timing.now())
                self.notice(error)
            self.timing.sleep(delay)
            tries += 1

    def _delay(self, error: Unreachable | Refused, tries: int, left: float) -> float:
        """Seconds to wait before the next try; raises when there shall be none."""
        asked = 0.0
        if isinstance(error, Refused):
            if error.status < 500:
                raise Rejected(error) from None
            asked = error.retry_after or 0.0
        if left <= 0 or asked > left:
            raise error
        jitter = self.timing.uniform(0, min(_LONGEST, _FIRST * 2 ** min(tries, 10)))
        return min(asked + jitter, left)
