"""Clients that wait for tasks to end: woken by the transaction that ends one."""

import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class Watchers:
    """Who waits for which task."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[int, set[threading.Event]] = defaultdict(set)
        self.closed = False

    @contextmanager
    def watch(self, ids: Sequence[int]) -> Iterator[threading.Event]:
        """An event that is set when one of the tasks ends (or the dispatcher drains)."""
        event = threading.Event()
        with self._lock:
            for task_id in ids:
                self._waiting[task_id].add(event)
            if self.closed:
                event.set()
        try:
            yield event
        finally:
            self._leave(ids, event)

    def _leave(self, ids: Sequence[int], event: threading.Event) -> None:
        with self._lock:
            for task_id in ids:
                self._waiting[task_id].discard(event)
                if not self._waiting[task_id]:
                    del self._waiting[task_id]

    def ended(self, ids: Sequence[int]) -> None:
        """Wake whoever waits for these tasks."""
        if self._waiting:
            with self._lock:
                for event in set().union(*(self._waiting[task_id] for task_id in ids if task_id in self._waiting)):
                    event.set()

    def watched(self) -> list[int]:
        """The tasks that somebody waits for."""
        with self._lock:
            return list(self._waiting)

    def close(self) -> None:
        """A drain: end all waits."""
        with self._lock:
            self.closed = True
            for events in self._waiting.values():
                for event in events:
                    event.set()
