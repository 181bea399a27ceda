"""What the loops of maintenance read again and again, read once while nothing is written: an idle dispatcher sleeps."""

import time
from collections.abc import Callable
from typing import TypeVar

from dispatcher.store.base import Reader, Store

T = TypeVar("T")
LONGEST_S = 5.0  # some answers depend on clocks, which may be set


class Kept:
    """Answers by name; each is kept while the store's `writes` stand still, LONGEST_S at most."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._answers: dict[str, tuple[Store, int | None, float, object]] = {}

    def read(self, store: Store, name: str, ask: Callable[[Reader], T]) -> T:
        """What `ask` answers now. `writes` is looked at first: what is written meanwhile makes it an old one."""
        writes, now = store.writes, self._clock()
        of, at, since, answer = self._answers.get(name, (None, None, 0.0, None))
        if of is store and at is not None and at == writes and now - since < LONGEST_S:
            return answer  # type: ignore[return-value]
        with store.read() as reader:
            found = ask(reader)
        self._answers[name] = (store, writes, now, found)
        return found
