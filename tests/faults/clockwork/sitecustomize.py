"""Python imports this at its start where this folder is on PYTHONPATH: the wall clock then runs off.

By how much, in seconds, says the file that TASKMILL_TEST_CLOCK names, read at each look at the clock. The monotonic
clock is left alone, as the kernel would.
"""

import os
import time

_real_ns = time.time_ns


def _off_ns() -> int:
    with open(os.environ["TASKMILL_TEST_CLOCK"]) as file:
        return int(file.read() or 0) * 1_000_000_000


def _time_ns() -> int:
    return _real_ns() + _off_ns()


time.time_ns = _time_ns
time.time = lambda: _time_ns() / 1e9
