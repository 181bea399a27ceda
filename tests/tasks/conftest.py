"""What the handlers' tests share: a context that records, and a clock under which everything is always due."""

import sys
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest


class RecordingContext:
    """A handler's context that keeps what it is given; `cancel_after` counts calls of `cancelled()`."""

    def __init__(self, checkpoint_state: Any = None, cancel_after: int | None = None) -> None:
        self.checkpoint_state = checkpoint_state
        self.progressed: list[tuple[float, float]] = []
        self.checkpoints: list[Any] = []
        self._cancel_after = cancel_after
        self._asked = 0

    def progress(self, done: float, total: float, note: str = "") -> None:
        self.progressed.append((done, total))

    def checkpoint(self, state: Any) -> None:
        self.checkpoints.append(state)

    def cancelled(self) -> bool:
        self._asked += 1
        return self._cancel_after is not None and self._asked > self._cancel_after

    def log(self, text: str) -> None:
        pass


@pytest.fixture
def context() -> RecordingContext:
    return RecordingContext()


@pytest.fixture
def make_context() -> type[RecordingContext]:
    return RecordingContext


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look at the clock is ten seconds later, so that every pulse is due; segments are tiny."""
    times = count(0, 10)
    monkeypatch.setattr("tasks.context.time", SimpleNamespace(monotonic=lambda: next(times)))
    monkeypatch.setattr("tasks.odd_sieve.FLAGS_PER_SEGMENT", 500)
    monkeypatch.setattr("tasks.sieves.TRIALS_PER_SEGMENT", 500)


@pytest.fixture(autouse=True)
def _plain_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of this machine, and no primesieve even where it is installed."""
    for name in ("PRIMES_MAX_LIMIT", "PRIMES_DEFAULT_METHOD", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(sys.modules, "primesieve", None)
