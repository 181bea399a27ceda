"""The one Loop: runs its step until stopped, and outlives its failures."""

import threading

import pytest

from dispatcher.clock import Now
from dispatcher.errors import StorageFull
from dispatcher.maintenance.loop import Loop
from dispatcher.maintenance.scheduler import SHORTEST_PAUSE_S, pause_until

PATIENCE = 20.0


class Step:
    """Counts its runs; fails when told to."""

    def __init__(self) -> None:
        self.runs: list[Now] = []
        self.enough = threading.Event()
        self.fault: Exception | None = None

    def run_once(self, now: Now) -> int:
        self.runs.append(now)
        if len(self.runs) >= 3:
            self.enough.set()
        if self.fault is not None:
            raise self.fault
        return 1


@pytest.mark.parametrize("failing", [False, True])
def test_runs_again_and_again_whatever_happens(failing: bool, caplog: pytest.LogCaptureFixture) -> None:
    step = Step()
    step.fault = OSError("the disk is away") if failing else None
    loop = Loop(step, 0.001, lambda: Now(1, 2))
    loop.start()
    assert step.enough.wait(PATIENCE)
    loop.stop()
    done = len(step.runs)
    assert step.runs[0] == Now(1, 2)
    assert ("the disk is away" in caplog.text) is failing
    assert len(step.runs) == done


def test_an_unexpected_fault_is_told_whole_and_one_of_the_pause_is_outlived(caplog: pytest.LogCaptureFixture) -> None:
    pauses = iter([KeyError("missing"), 0.001, 0.001])

    def pause() -> float:
        told = next(pauses)
        if isinstance(told, Exception):
            raise told
        return told

    step = Step()
    loop = Loop(step, pause, lambda: Now(1, 2))
    loop.start()
    loop.hurry()
    assert step.enough.wait(PATIENCE)
    loop.stop()
    assert "KeyError: 'missing'" in caplog.text


def test_a_full_disk_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    step = Step()
    step.fault = StorageFull()
    loop = Loop(step, 3600, lambda: Now(1, 2))
    loop.start()
    loop.stop()
    (record,) = caplog.records
    assert (record.levelname, record.exc_info) == ("WARNING", None)


def test_stop_does_not_wait_for_the_interval() -> None:
    step = Step()
    loop = Loop(step, 3600, lambda: Now(1, 2))
    loop.start()
    loop.stop()
    assert len(step.runs) == 1


def test_the_pause_may_be_the_steps_own() -> None:
    step = Step()
    pauses = iter([0.001, 0.001, 3600.0])
    loop = Loop(step, lambda: next(pauses), lambda: Now(1, 2))
    loop.start()
    assert step.enough.wait(PATIENCE)
    loop.stop()
    assert len(step.runs) == 3


@pytest.mark.parametrize(
    ("due_in_ms", "pause"), [(None, 0.25), (10_000, 0.25), (100, 0.1), (0, SHORTEST_PAUSE_S), (-5000, SHORTEST_PAUSE_S)]
)
def test_a_pause_ends_when_something_is_due(due_in_ms: int | None, pause: float) -> None:
    assert pause_until(None if due_in_ms is None else 1000 + due_in_ms, 1000, 0.25) == pause
