"""Outcomes on their way from the supervisor to the outbox, cut into batches of what one report may carry."""

import threading
from collections import deque

from worker.model import Outcome

MAX_OUTCOMES = 1000  # in one report, see DESIGN section 5
MAX_TEXT = 8 * 2**20  # characters in one report, well below the limit of a request's body


class Ready:
    """A line of outcomes, safe for all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._outcomes: deque[Outcome] = deque()
        self.urgent = False  # somebody waits for it: who cancelled, or who shall run it again

    def __len__(self) -> int:
        return len(self._outcomes)

    def add(self, outcomes: list[Outcome]) -> None:
        with self._lock:
            self._outcomes.extend(outcomes)
            self.urgent = self.urgent or any(outcome.status != "completed" for outcome in outcomes)

    def put_back(self, batch: list[Outcome]) -> None:
        with self._lock:
            self._outcomes.extendleft(reversed(batch))

    def take(self) -> list[Outcome]:
        """The next batch, in order of arrival; one with a large result comes alone, so that it delays no other."""
        batch: list[Outcome] = []
        room = MAX_TEXT
        with self._lock:
            while self._outcomes and len(batch) < MAX_OUTCOMES:
                first = self._outcomes[0]
                room -= len(first.body)
                if batch and (room < 0 or first.spool):
                    break
                batch.append(self._outcomes.popleft())
                if first.spool:
                    break
            self.urgent = self.urgent and bool(self._outcomes)
        return batch
