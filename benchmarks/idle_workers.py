"""A thousand idle workers whose claims wait at the dispatcher: what that costs it, and how soon a new task starts.

    python benchmarks/idle_workers.py [--workers 1000] [--seconds 60] [--tasks 100]

The workers are two sockets each in one other process (`simulated.py`): they register and claim as a worker does, and
send a heartbeat when they hold something. A task's start is the moment when the answer of its claim arrives; it counts
from the beginning of the submit. Each is completed and its worker waits again.
"""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import measuring
from report import ROOT, arguments, spread, tell

from client.testing import LocalCluster

SIMULATED = Path(__file__).with_name("simulated.py")
SPACING_S = (0.02, 0.1)


def starts(farm: LocalCluster, workers: "subprocess.Popen[str]", tasks: int) -> list[float]:
    """Milliseconds from the submit to the start of each of some tasks."""
    assert workers.stdout
    dice, times = random.Random(1), []
    for _ in range(tasks):
        time.sleep(dice.uniform(*SPACING_S))
        began = time.monotonic()
        task = farm.client.submit("noop")
        told = json.loads(workers.stdout.readline())
        assert told["task"] == task
        times.append((told["at"] - began) * 1000)
    assert all(task["status"] == "completed" for task in farm.client.results(range(1, tasks + 1), timeout=60))
    return times


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--tasks", type=int, default=100)
    options = parser.parse_args()
    with LocalCluster(0, 1, parent=ROOT) as farm:
        argv = [sys.executable, str(SIMULATED), farm.client.url, str(options.workers)]
        workers = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert workers.stdout
        assert workers.stdin
        try:
            assert json.loads(workers.stdout.readline())["waiting"] == options.workers
            cost = measuring.idle_cost([farm.dispatcher.pid], options.seconds)
            alive = farm.client.stats()["active_workers"]
            assert alive == options.workers, alive
            times = starts(farm, workers, options.tasks)
        finally:
            workers.stdin.close()
            workers.wait(20)
    told = {"workers": options.workers, "seconds": options.seconds, **cost}
    tell("idle workers", {**told, **{f"start_{name}": ms for name, ms in spread(times).items()}})


if __name__ == "__main__":
    main()
