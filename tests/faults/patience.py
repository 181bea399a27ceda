"""How slow this machine is, for bars on work that is all computing, such as the start of a process.

The bars are meant for a machine on which Python counts to a million in 60 ms of CPU time. On a slower one (they are
shared, and their speed drifts by a factor of three) such work has more time in proportion, four times as much at most.
"""

import statistics
import time
from functools import cache

REFERENCE_S = 0.06
SLOWEST = 4.0


@cache
def slowness() -> float:
    """1 on the machine that the bars are meant for, or a faster one."""
    return min(SLOWEST, max(1.0, statistics.median(_counted() for _ in range(5)) / REFERENCE_S))


def _counted() -> float:
    began, n = time.process_time(), 0
    for step in range(1_000_000):
        n += step
    return time.process_time() - began
