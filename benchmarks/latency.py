"""Submit to result on an idle system: one task at a time, the result seen by the waiting client.

    python benchmarks/latency.py [--tasks 300]

Beside it the fsync of the same disk in the same run, since each task waits for a few of them.
"""

import argparse
import os
import statistics
import time
from pathlib import Path

from report import ROOT, tell

from client.testing import LocalCluster


def fsync_ms(folder: Path, n: int = 200) -> float:
    """The median fsync after a 4 KiB append, milliseconds."""
    times = []
    with (folder / "fsync").open("ab", buffering=0) as file:
        for _ in range(n):
            file.write(b"x" * 4096)
            began = time.perf_counter()
            os.fsync(file.fileno())
            times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=300)
    options = parser.parse_args()
    times = []
    with LocalCluster(1, 2, parent=ROOT) as running:
        for _ in range(options.tasks + 20):
            began = time.perf_counter()
            assert running.client.result(running.client.submit("noop")) == {}
            times.append((time.perf_counter() - began) * 1000)
        disk = fsync_ms(running.folder)
    times = sorted(times[20:])
    at = [times[int(share * len(times))] for share in (0.5, 0.95, 0.99)]
    tell(
        "latency",
        {
            "tasks": options.tasks,
            "p50_ms": at[0],
            "p95_ms": at[1],
            "p99_ms": at[2],
            "max_ms": times[-1],
            "fsync_p50_ms": disk,
        },
    )


if __name__ == "__main__":
    main()
