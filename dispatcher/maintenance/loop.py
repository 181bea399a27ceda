"""The one Loop: owns the thread, the pause between steps, stop and the log of failures."""

import logging
import threading
from collections.abc import Callable
from typing import Protocol

from dispatcher.clock import Now
from dispatcher.errors import DispatcherError

log = logging.getLogger("taskmill.maintenance")
AFTER_A_FAULT_S = 1.0  # where the step itself says how long to pause


class Step(Protocol):
    """A step of housekeeping; returns how many things it did."""

    def run_once(self, now: Now) -> int: ...


class Loop:
    """Runs a step every `interval` seconds (or as long as that says) until stopped; a step that raises is logged and
    tried again."""

    def __init__(self, step: Step, interval: float | Callable[[], float], now: Callable[[], Now]) -> None:
        self._step, self._interval, self._now = step, interval, now
        self._stopped = False
        self._hurry = threading.Event()
        self._thread = threading.Thread(target=self._run, name=type(step).__name__.lower(), daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def hurry(self) -> None:
        """Run the next step now."""
        self._hurry.set()

    def stop(self) -> None:
        """End after the present step."""
        self._stopped = True
        self._hurry.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._hurry.wait(self._turn())
            self._hurry.clear()
            if self._stopped:
                return

    def _turn(self) -> float:
        """One step; the pause after it, in seconds."""
        try:
            self._step.run_once(self._now())
            return self._interval() if callable(self._interval) else self._interval
        except DispatcherError as error:  # housekeeping must outlive a full disk
            log.warning("%s: %s", self._thread.name, error)
        except Exception:
            log.exception("unexpected fault in %s", self._thread.name)
        return AFTER_A_FAULT_S if callable(self._interval) else self._interval
