"""What a worker tells of the machine that it runs on: load and memory."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

SETTLED_S = 10.0  # heartbeats may come quickly, one after the other
MEMORY = {"MemTotal": "memory_mb", "MemAvailable": "memory_free_mb"}


class Speed:
    """How many tasks end here in a minute, counted from one question to the next."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since, self._ended, self._per_minute = clock(), 0, 0.0

    def count(self, n: int) -> None:
        """So many more ended."""
        self._ended += n

    def per_minute(self) -> float:
        """The speed since the last answer that is SETTLED_S old."""
        passed = self._clock() - self._since
        if passed >= SETTLED_S:
            self._per_minute = round(self._ended / passed * 60, 1)
            self._since, self._ended = self._clock(), 0
        return self._per_minute


def described(meminfo: Path = Path("/proc/meminfo")) -> dict[str, Any]:
    """`load` over a minute, `cpus`; `memory_mb` and `memory_free_mb` in MiB, on Linux."""
    told: dict[str, Any] = {"cpus": os.cpu_count()}
    with suppress(OSError):
        told["load"] = round(os.getloadavg()[0], 2)
    with suppress(OSError):
        for line in meminfo.read_text().splitlines():
            name, _, amount = line.partition(":")
            if name in MEMORY:
                told[MEMORY[name]] = int(amount.split()[0]) // 1024
    return told
