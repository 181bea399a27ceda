"""How slow this machine is at the moment, for bars on work that is all computing, such as the start of a process.

The bars are meant for a machine on which Python counts to a million in 60 ms while nothing else runs. Machines are
shared and their speed drifts by a factor of three, and other scenarios run beside this one: such work has more time in
proportion, four times as much at most.
"""

import statistics
import time

COUNT, REFERENCE_S = 300_000, 0.018
SLOWEST = 4.0


def slowness() -> float:
    """1 on the machine that the bars are meant for, or a faster one."""
    return min(SLOWEST, max(1.0, statistics.median(_counted() for _ in range(5)) / REFERENCE_S))


def _counted() -> float:
    began, n = time.perf_counter(), 0
    for step in range(COUNT):
        n += step
    return time.perf_counter() - began
