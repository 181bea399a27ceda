"""How slow this machine is at the moment, for bars on work that is all computing, such as the start of a process.

The bars are meant for a machine on which Python counts to a million in 60 ms, and a process finds a processor free.
Machines are shared and their speed drifts by a factor of three, and other scenarios run beside this one: such work has
more time in proportion, four times as much at most.
"""

import os
import statistics
import time

COUNT, REFERENCE_S = 300_000, 0.018
SLOWEST = 4.0


def slowness() -> float:
    """1 on the machine that the bars are meant for, or a faster one."""
    crowd = os.getloadavg()[0] / (os.cpu_count() or 1)  # of the last minute: those who wait for each processor
    slow = statistics.median(_counted() for _ in range(5)) / REFERENCE_S
    return min(SLOWEST, max(1.0, slow) * max(1.0, crowd))


def _counted() -> float:
    began, n = time.process_time(), 0
    for step in range(COUNT):
        n += step
    return time.process_time() - began
