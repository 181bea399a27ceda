"""No-op tasks end to end: bulk submit, child processes, durable commits, every result read back and checked.

    python benchmarks/throughput.py [--tasks 10000] [--rounds 5] [--concurrency 2] [--workers 1]

A round is timed from the first submit until the last result was read; the figure is the median over the rounds.
"""

import argparse
import statistics
import time

from report import ROOT, tell

from client.testing import LocalCluster


def run(farm: LocalCluster, tasks: int) -> float:
    """Tasks per second of one round."""
    began = time.perf_counter()
    ids = farm.client.submit_many({"task_type": "noop", "task_data": {}} for _ in range(tasks))
    ended = list(farm.client.results(ids))
    took = time.perf_counter() - began
    assert len(ended) == tasks == len({task["task_id"] for task in ended})
    assert all(task["status"] == "completed" and task["result"] == {} for task in ended)
    return tasks / took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--concurrency", type=int, default=2)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    with LocalCluster(options.workers, options.concurrency, parent=ROOT) as running:
        run(running, 200)
        rates = [run(running, options.tasks) for _ in range(options.rounds)]
    figures = {"tasks": options.tasks, "workers": options.workers, "children": options.concurrency}
    tell("throughput", {**figures, "median_per_s": statistics.median(rates), "min": min(rates), "max": max(rates)})


if __name__ == "__main__":
    main()
