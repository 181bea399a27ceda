"""How long the next claim waits at the dispatcher.

25 s, and after one that waited in vain up to 50 s: an idle worker asks half as often. Between them may stand a proxy
that ends a request which takes longer than half a minute, so when a longer wait fails there is none for an hour.

The dispatcher says, in answers to heartbeats, up to which wait a claim stands for the heartbeats of a worker that holds
nothing. One that says nothing (an older one) wants heartbeats, and takes no wait over 25 s.
"""

import random
import time
from collections.abc import Callable

FIRST_WAIT, LONGEST_WAIT = 25.0, 50.0  # seconds
_EARLY = 1.0  # seconds, for which the dispatcher's clock may differ
_JITTER = (0.8, 1.0)
_SHORT_FOR = 3600.0


class Patience:
    """Of one worker: `answered` and `failed` hear of its claims, `told` of answers to heartbeats."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._wait, self._short_until = FIRST_WAIT, 0.0
        self._told: float | None = None

    def next(self) -> float:
        """Seconds."""
        wait = FIRST_WAIT if self._told is None or self._clock() < self._short_until else self._wait
        return random.uniform(*_JITTER) * min(wait, self._told or wait)  # noqa: S311 -- jitter, not a secret

    def told(self, seconds: object) -> None:
        """What an answer to a heartbeat says of waits, if it says anything."""
        self._told = float(seconds) if isinstance(seconds, (int, float)) and seconds > 0 else None

    def answered(self, wait: float, seconds: float, count: int) -> None:
        """After so many seconds, with so many tasks. One that was not to wait says nothing."""
        if wait > 0:
            self._wait = LONGEST_WAIT if not count and seconds > wait - _EARLY else FIRST_WAIT

    def failed(self, wait: float) -> None:
        """It got no answer, or a refusal."""
        if wait > FIRST_WAIT:
            self._short_until = self._clock() + _SHORT_FOR

    def stands_for_heartbeats(self, wait: float) -> bool:
        """Whether the dispatcher takes a claim that waits so long for a sign of life."""
        return self._told is not None and 0 < wait <= self._told
