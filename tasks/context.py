"""What a handler may ask of the child that runs it, and how often it should."""

import time
from typing import Any, Protocol


class Context(Protocol):
    """The second argument of `execute(payload, context)`."""

    @property
    def checkpoint_state(self) -> Any:
        """The JSON value an earlier attempt saved last, or None."""

    def progress(self, done: float, total: float | None, note: str = "") -> None:
        """Show that `done` of `total` (any unit; None: unknown) is behind us."""

    def checkpoint(self, state: Any) -> None:
        """Save a JSON value for a later attempt; it replaces the one before."""

    def cancelled(self) -> bool:
        """Whether the task should stop early."""

    def partial(self, value: Any) -> None:
        """Show what there is of the result so far: a JSON value of at most 64 KiB."""

    def log(self, text: str) -> None:
        """Add lines to the task's log, which can be read while it runs."""


class Cancelled(Exception):
    """The handler stopped because `context.cancelled()` was true: what it has is no result."""


class Fail(Exception):
    """The attempt failed: `raise Fail("no such customer", retry=False)` when no other attempt can succeed."""

    def __init__(self, reason: str, *, retry: bool = True) -> None:
        super().__init__(reason)
        self.taskmill_retry = retry


class Snooze(Exception):
    """Run the task again later: `raise Snooze("90s")`, or a number of seconds. The attempt does not count."""

    def __init__(self, delay: str | float) -> None:
        super().__init__(f"again in {delay if isinstance(delay, str) else f'{delay:g} s'}")
        self.taskmill_snooze = delay


class Pulse:
    """Is due once every `seconds`, for what is cheap but not free."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._last = time.monotonic()

    def due(self) -> bool:
        """True when `seconds` have passed since it was last true, or since the start."""
        now = time.monotonic()
        if now - self._last < self._seconds:
            return False
        self._last = now
        return True


class Ticker:
    """Shows the progress of a long loop at most ten times a second, and ends a cancelled one."""

    def __init__(self, context: Context, total: float) -> None:
        self._context = context
        self._total = total
        self._pulse = Pulse(0.1)

    def tick(self, done: float) -> None:
        """To be called after each piece of work; raises Cancelled."""
        if not self._pulse.due():
            return
        if self._context.cancelled():
            raise Cancelled(f"cancelled after {done} of {self._total}")
        self._context.progress(done, self._total)
