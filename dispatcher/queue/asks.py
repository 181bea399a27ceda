"""What workers ask for: the newest claim of each instance, kept in memory, to say why a task waits.

A dispatcher knows only the workers that ask it: of another's the store has what they registered (`living.py`).
"""

import threading
from typing import NamedTuple

from dispatcher.queue.claim import Claim

MOST_REMEMBERED = 10_000


class Ask(NamedTuple):
    """A claim and when it came (steady clock)."""

    claim: Claim
    at: int


class Asks:
    """The newest claims by instance, oldest first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asks: dict[str, Ask] = {}

    def note(self, claim: Claim, at: int) -> None:
        """An instance asks (a classic client is known by its name)."""
        key = claim.instance_id or f"classic {claim.worker_id}"
        with self._lock:
            self._asks.pop(key, None)
            self._asks[key] = Ask(claim, at)
            if len(self._asks) > MOST_REMEMBERED:
                del self._asks[next(iter(self._asks))]

    def since(self, at: int) -> list[Claim]:
        """The newest claim of each instance that asked since then."""
        with self._lock:
            return [ask.claim for ask in self._asks.values() if ask.at >= at]
