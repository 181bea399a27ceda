"""The courier: delivers webhooks, several at a time, so that a slow receiver keeps nobody else waiting."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from dispatcher.clock import Now
from dispatcher.errors import DispatcherError
from dispatcher.queue import Queue
from dispatcher.queue.webhooks import Hook

log = logging.getLogger("taskmill.webhooks")
SLOTS = 8
Post = Callable[[str, str, str], None]


class Courier:
    """`post(url, delivery, body)` raises when it could not deliver."""

    def __init__(self, queue: Queue, post: Post, slots: int = SLOTS) -> None:
        self._queue, self._post = queue, post
        self._lock, self._free = threading.Lock(), slots
        self._threads = ThreadPoolExecutor(slots, "courier")
        self.hurry: Callable[[], None] = lambda: None

    def run_once(self, now: Now) -> int:
        """Begin the deliveries that are due, as many as there are hands free; how many."""
        with self._lock:
            free = self._free
        if not free or self._queue.draining:
            return 0
        taken = self._queue.take_hooks(free)
        with self._lock:
            self._free -= len(taken)
        for hook in taken:
            self._threads.submit(self._deliver, hook)
        return len(taken)

    def close(self) -> None:
        """Begin no more; what is under way is due again when nobody settles it."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _deliver(self, hook: Hook) -> None:
        try:
            self._settle(hook, self._try(hook))
        except DispatcherError as error:  # it is due again after a while
            log.warning("webhook %s for task %d: could not be recorded: %s", hook.delivery, hook.task_id, error)
        finally:
            with self._lock:
                self._free += 1
            self.hurry()

    def _try(self, hook: Hook) -> str:
        """What went wrong, empty when nothing did."""
        try:
            self._post(hook.url, hook.delivery, hook.body)
        except Exception as error:  # whatever it is, the row must not stay without a verdict
            return str(error) or type(error).__name__
        return ""

    def _settle(self, hook: Hook, failure: str) -> None:
        became = self._queue.settle_hook(hook, not failure)
        if failure:
            given = (hook.delivery, hook.task_id, hook.tries, failure, became)
            log.warning("webhook %s for task %d, try %d: %s: %s", *given)
