"""Clients that wait for tasks to end: woken by the transaction that ends one, or so many."""

import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class Watch:
    """One who waits, and how many of his tasks have ended meanwhile. Guarded by the lock of Watchers."""

    def __init__(self, lock: threading.Lock) -> None:
        self._lock, self._event = lock, threading.Event()
        self._ended, self._wanted, self._over = 0, 1, False

    def forget(self) -> None:
        """Count from now on: what has ended before is about to be looked at."""
        with self._lock:
            self._ended = 0

    def wait(self, wanted: int, seconds: float) -> bool:
        """Until so many of the tasks have ended, or the dispatcher drains; False when that took longer."""
        with self._lock:
            self._wanted = wanted
            if self._over or self._ended >= wanted:
                return True
            self._event.clear()
        return self._event.wait(seconds)

    def note(self, ended: int) -> None:
        """So many more have ended."""
        before, self._ended = self._ended, self._ended + ended
        if before < self._wanted <= self._ended:  # not anew for each that comes after it
            self._event.set()

    def close(self) -> None:
        """Wait for nothing any more."""
        self._over = True
        self._event.set()


class Watchers:
    """Who waits for which task."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[int, set[Watch]] = defaultdict(set)
        self.closed = False

    @contextmanager
    def watch(self, ids: Sequence[int]) -> Iterator[Watch]:
        """Counts the ends of these tasks."""
        watch = Watch(self._lock)
        with self._lock:
            for task_id in ids:
                self._waiting[task_id].add(watch)
            if self.closed:
                watch.close()
        try:
            yield watch
        finally:
            self._leave(ids, watch)

    def _leave(self, ids: Sequence[int], watch: Watch) -> None:
        with self._lock:
            for task_id in ids:
                self._waiting[task_id].discard(watch)
                if not self._waiting[task_id]:
                    del self._waiting[task_id]

    def ended(self, ids: Sequence[int]) -> None:
        """Wake whoever waits for these tasks."""
        if not self._waiting:
            return
        with self._lock:
            for task_id in ids:
                for watch in self._waiting.get(task_id, ()):
                    watch.note(1)

    def watched(self) -> list[int]:
        """The tasks that somebody waits for."""
        with self._lock:
            return list(self._waiting)

    def close(self) -> None:
        """A drain: end all waits."""
        with self._lock:
            self.closed = True
            for watches in self._waiting.values():
                for watch in watches:
                    watch.close()
