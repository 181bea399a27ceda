"""The courier: delivers webhooks, several at a time and only some of them to one host, so that a slow one keeps nobody
else waiting."""

import logging
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from dispatcher.clock import Now
from dispatcher.errors import DispatcherError
from dispatcher.queue import Queue
from dispatcher.queue.webhooks import Hook

log = logging.getLogger("taskmill.webhooks")
SLOTS, EACH = 24, 8  # deliveries at a time: in all, to one host
MARGIN_MS = 5_000  # a clock that was set back
Post = Callable[[str, str, str], None]


class Courier:
    """`post(url, delivery, body)` raises when it could not deliver."""

    def __init__(self, queue: Queue, post: Post, slots: int = SLOTS, each: int = EACH) -> None:
        self._queue, self._post = queue, post
        self._slots, self._each = slots, min(each, slots)
        self._lock, self._busy = threading.Lock(), Counter[str]()  # by host
        self._full: frozenset[str] = frozenset()  # the hosts that were spared last
        self._since = 0  # what was due before is all to them
        self._threads = ThreadPoolExecutor(slots, "courier")
        self.hurry: Callable[[], None] = lambda: None

    def run_once(self, now: Now) -> int:
        """Begin the deliveries that are due, as many as there are hands free; how many."""
        begun = 0
        while not self._queue.draining:
            room, full = self._room()
            taken = self._take(room, full, now.wall) if room else []
            for hook in taken:
                self._threads.submit(self._deliver, hook)
            begun += len(taken)
            if len(taken) == 0 or len(taken) < room:
                break
        return begun

    def _room(self) -> tuple[int, frozenset[str]]:
        """How many may be begun, even if they all go to one host; and the hosts that have no room."""
        with self._lock:
            free = self._slots - self._busy.total()
            full = frozenset(host for host, number in self._busy.items() if number >= self._each)
            most = max((number for host, number in self._busy.items() if host not in full), default=0)
        return min(free, self._each - most), full

    def _take(self, room: int, full: frozenset[str], now: int) -> list[Hook]:
        if not self._full <= full:
            self._since = 0
        self._full = full
        taken = self._queue.take_hooks(room, full, self._since)
        if full and len(taken) < room:
            self._since = now - MARGIN_MS
        with self._lock:
            self._busy.update(hook.host for hook in taken)
        return taken

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
                self._busy -= Counter([hook.host])
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
