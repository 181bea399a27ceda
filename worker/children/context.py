"""What a handler of the form `execute(payload, context)` gets from its child.

Updates are held back so that at most ten a second leave the child; the newest wins, and what is held goes out after
0.1 s by a timer, so that a checkpoint reaches the supervisor even if the handler then computes for an hour.
"""

import time
from _thread import allocate_lock
from collections.abc import Callable
from typing import Any

from common.handlers import updates
from common.json_profile import dump
from worker.children.stopping import StopOrder
from worker.children.tasklog import TaskLog

SPACING = 0.1


class Context:
    """The second argument of `execute`; usable from any thread of the handler."""

    def __init__(self, checkpoint_state: Any, send: Callable[[bytes], None], stop: StopOrder) -> None:
        self.checkpoint_state = checkpoint_state
        self._send = send
        self._stop = stop
        self._lock = allocate_lock()
        self._held: dict[str, str] = {}
        self._log = TaskLog()
        self._sent_at = float("-inf")
        self._timer: Any = None
        self._ended = False

    def progress(self, done: float, total: float | None, note: str = "") -> None:
        """Show that `done` of `total` (any unit; None: unknown) is behind us; raises JsonError for what is not a finite
        number."""
        self._update(updates.progress(done, total, note))

    def checkpoint(self, state: Any) -> None:
        """Save a JSON value for a later attempt; it replaces the one before. Raises ValueError over 1 MiB."""
        self._update({"checkpoint": updates.checkpoint(state)})

    def cancelled(self) -> bool:
        """Whether the task should stop; who asks once is not interrupted but has to stop by itself, in 3 s."""
        self._stop.polled = True
        return self._stop.given

    def partial(self, value: Any) -> None:
        """Show a JSON value as what there is of the result so far. Raises ValueError over 64 KiB."""
        self._update({"partial": updates.partial(value)})

    def log(self, text: str) -> None:
        """Add to the task's log, which can be read while it runs (its last 200 lines or 64 KiB). The lines go to the
        child's output as well, the last of which is in the report of a crash."""
        print(text, flush=True)  # noqa: T201 - standard output is captured, it is where a handler's lines belong
        self._update({}, str(text))

    def end(self) -> str:
        """Send what is held; nothing leaves afterwards. Returns the whole log as a field of the outcome, or nothing:
        no heartbeat may have carried its last lines."""
        with self._lock:
            self._ended = True
            self._flush()
            if self._timer is not None:
                self._timer.cancel()
        log = self._log.whole()
        return "" if log is None else f',"log":{dump(log)}'

    def _update(self, parts: dict[str, str], said: str = "") -> None:
        with self._stop, self._lock:
            if self._ended:
                return
            self._held.update(parts)
            self._log.add(said)
            if self._timer is None:
                self._send_or_wait(self._sent_at + SPACING - time.monotonic())

    def _send_or_wait(self, wait: float) -> None:
        if wait <= 0:
            self._flush()
            return
        from threading import Timer  # here: few handlers need it

        self._timer = Timer(wait, self._late)
        self._timer.daemon = True
        self._timer.start()

    def _late(self) -> None:
        with self._lock:
            self._timer = None
            if not self._ended:
                self._flush()

    def _flush(self) -> None:
        if self._log.pending:
            self._held["log"] = dump(self._log.take())
        if self._held:
            self._send(("{" + ",".join(f'"{name}":{text}' for name, text in self._held.items()) + "}").encode())
            self._held.clear()
            self._sent_at = time.monotonic()
