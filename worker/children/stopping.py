"""How the order to stop reaches a handler.

The supervisor sends its child a signal of its own, and SIGTERM to the whole process group. The child itself takes no
notice of SIGTERM: a service manager sends that to every process of a worker which is to drain, and a drained worker
finishes what it runs. The first order raises `Stopped` inside the handler; one that has asked `context.cancelled()`
is left to end by itself. Who does neither is killed after the grace.
"""

import os
import signal
from _thread import get_ident
from types import FrameType, TracebackType

STOP_SIGNAL = signal.SIGRTMIN
_OURS = (STOP_SIGNAL, signal.SIGTERM)


class Stopped(BaseException):
    """Raised inside a handler that was told to stop; not an Exception, so that `except Exception` lets it pass."""


class StopOrder:
    """Whether the order was given. As a context manager it keeps a piece of work of ours from being interrupted."""

    def __init__(self) -> None:
        self.given = False
        self.polled = False
        self._armed = False
        self._shields = 0
        self._main = get_ident()

    def install(self) -> None:
        """Listen to the signals; processes that a handler forks get Python's own behaviour back."""
        signal.signal(STOP_SIGNAL, self._arrive)
        signal.signal(signal.SIGTERM, lambda number, frame: None)
        os.register_at_fork(before=_hold_signals, after_in_parent=_let_signals, after_in_child=_forget)

    def arm(self) -> None:
        """A handler begins."""
        self.polled = False
        self._armed = True

    def disarm(self) -> None:
        """The handler has ended."""
        self._armed = False

    def __enter__(self) -> None:
        if get_ident() == self._main:  # signals reach no other thread
            self._shields += 1

    def __exit__(self, *raised: type[BaseException] | BaseException | TracebackType | None) -> None:
        if get_ident() == self._main:
            self._shields -= 1
            self._raise_if_due()

    def _arrive(self, number: int, frame: FrameType | None) -> None:
        self.given = True
        self._raise_if_due()

    def _raise_if_due(self) -> None:
        if self.given and self._armed and not self.polled and not self._shields:
            self._armed = False
            raise Stopped


def _hold_signals() -> None:
    """A signal sent to a new process must find Python's own behaviour there, not be swallowed by ours before."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _OURS)


def _let_signals() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _OURS)


def _forget() -> None:
    for number in _OURS:
        signal.signal(number, signal.SIG_DFL)
    _let_signals()
