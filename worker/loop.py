"""A thread that repeats one step: the shell that the worker's own threads share."""

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)
_AFTER_A_FAULT = 1.0  # seconds


class Loop:
    """Calls `step` for ever; it returns the seconds until its next turn, which `wake` cuts short.

    A step that raises is logged and comes again: no fault of one turn may silence a worker. `at_end` runs in the same
    thread, after the last step.
    """

    def __init__(self, name: str, step: Callable[[], float], at_end: Callable[[], None] = lambda: None) -> None:
        self._step, self._at_end = step, at_end
        self._awake = threading.Event()
        self._stopping = False
        # A daemon: a request that still waits for its answer must not hold back the end of the process.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Makes the next step come now; from any thread."""
        self._awake.set()

    def stop(self) -> None:
        """Lets the step that runs be the last one."""
        self._stopping = True
        self._awake.set()

    def join(self, timeout: float) -> bool:
        """Waits for the end; True when the thread has ended."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping:
            self._awake.clear()
            delay = self._turn()
            if delay > 0 and not self._stopping:
                self._awake.wait(delay)
        self._at_end()

    def _turn(self) -> float:
        try:
            return self._step()
        except Exception:
            log.exception("unexpected fault in the %s thread", self._thread.name)
            return _AFTER_A_FAULT
