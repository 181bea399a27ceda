"""The one Loop: runs its step until stopped, and outlives its failures."""

import threading

import pytest

from dispatcher.clock import Now
from dispatcher.maintenance.loop import Loop

PATIENCE = 20.0


class Step:
    """Counts its runs; fails when told to."""

    def __init__(self) -> None:
        self.runs: list[Now] = []
        self.enough = threading.Event()
        self.failing = False

    def run_once(self, now: Now) -> int:
        self.runs.append(now)
        if len(self.runs) >= 3:
            self.enough.set()
        if self.failing:
            raise OSError("the disk is away")
        return 1


@pytest.mark.parametrize("failing", [False, True])
def test_runs_again_and_again_whatever_happens(failing: bool, caplog: pytest.LogCaptureFixture) -> None:
    step = Step()
    step.failing = failing
    loop = Loop(step, 0.001, lambda: Now(1, 2))
    loop.start()
    assert step.enough.wait(PATIENCE)
    loop.stop()
    done = len(step.runs)
    assert step.runs[0] == Now(1, 2)
    assert ("the disk is away" in caplog.text) is failing
    assert len(step.runs) == done


def test_stop_does_not_wait_for_the_interval() -> None:
    step = Step()
    loop = Loop(step, 3600, lambda: Now(1, 2))
    loop.start()
    loop.stop()
    assert len(step.runs) == 1
