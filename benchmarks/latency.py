"""Submit to result, the result seen by the waiting client: one task at a time, on an idle system and on a busy one.

    python benchmarks/latency.py [--tasks 300] [--rounds 5]

Idle: in rounds, with pauses between them, since a virtual machine is faster in one minute than in the next; figures are
of all rounds together, and of each.
Busy: another client submits a task of 0.1 s of pure Python every 0.1 s, which takes half of the two children's time.
Beside it the fsync of the same disk in the same run, since each task waits for three of them: one between each two
tasks, at their own pace, and for comparison many back to back, which find disk and processor awake.
"""

import argparse
import os
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from typing import Any

from measuring import Pace, rounds_a_second
from report import HANDLERS, ROOT, arguments, spread, tell

from client import Client
from client.testing import LocalCluster

CHILDREN, LOAD_S, WARM, FSYNCS = 2, 0.1, 20, 200
PAUSE_S = 15.0


def fsync_ms(file: FileIO) -> float:
    """One fsync after a 4 KiB append, milliseconds."""
    file.write(b"x" * 4096)
    began = time.perf_counter()
    os.fsync(file.fileno())
    return (time.perf_counter() - began) * 1000


def singles(client: Client, tasks: int, file: FileIO) -> tuple[list[float], list[float]]:
    """Milliseconds of each task, and of the fsyncs between them."""
    times, syncs = [], []
    for _ in range(WARM + tasks):
        began = time.perf_counter()
        assert client.result(client.submit("noop")) == {}
        times.append((time.perf_counter() - began) * 1000)
        syncs.append(fsync_ms(file))
    return times[WARM:], syncs[WARM:]


def in_rounds(client: Client, options: argparse.Namespace, file: FileIO, pace: Pace) -> dict[str, Any]:
    """The figures of the idle system."""
    times, syncs, rounds = list[float](), list[float](), list[list[float]]()
    for number in range(options.rounds):
        time.sleep(PAUSE_S if number else 0.0)
        loop = pace.note()
        took, disk = singles(client, options.tasks, file)
        rounds.append([statistics.median(took), statistics.median(disk), loop])
        times, syncs = times + took, syncs + disk
    return {"rounds": rounds, "fsync_p50_ms": statistics.median(syncs), **spread(times)}


@contextmanager
def load(url: str) -> Iterator[list[float]]:
    """Tasks that take half of the children's time meanwhile; what they took, seconds."""
    over, spent = threading.Event(), list[float]()
    with Client(url) as client:
        rounds = int(LOAD_S * rounds_a_second(client, CHILDREN))

    def feed() -> None:
        with Client(url) as client:
            ids, next_at = list[int](), time.monotonic()
            while not over.wait(max(0.0, next_at - time.monotonic())):
                ids.append(client.submit("burn", {"rounds": rounds}))
                next_at += LOAD_S
            spent.extend(task["result"]["cpu_seconds"] for task in client.results(ids))

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        yield spent
    finally:
        over.set()
        feeder.join()


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--tasks", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    farm = LocalCluster(1, CHILDREN, {"TASKS_PATH": str(HANDLERS)}, ROOT)
    with farm, (farm.folder / "fsync").open("ab", buffering=0) as file:
        pace = Pace()
        idle = in_rounds(farm.client, options, file, pace)
        awake = statistics.median(fsync_ms(file) for _ in range(FSYNCS))
        with load(farm.client.url) as spent:
            began = time.monotonic()
            busy, _ = singles(farm.client, options.tasks, file)
            took = time.monotonic() - began
        share = sum(spent) / CHILDREN / took
    pace.note()
    told = {
        "tasks": options.tasks,
        **pace.told(),
        "fsync_back_to_back_p50_ms": awake,
        **idle,
    }
    tell("latency", {**told, "load_share": share, **{f"busy_{name}": ms for name, ms in spread(busy).items()}})


if __name__ == "__main__":
    main()
