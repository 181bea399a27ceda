"""A worker lost: sleeps of 20 ms on two workers, one killed -9 half-way, another one started; when is all done?

    python benchmarks/recovery.py [--rounds 5] [--tasks 500] [--concurrency 1 2]

Each task writes down its beginning and its end, so what ran twice is counted, not inferred: `begun_twice` are tasks
that were begun again, in all rounds, `done_twice` those that came to their end twice. `again_s` is the time from the
kill until the last of them was begun again. All other settings are at their defaults.
"""

import statistics
import time
from collections import Counter
from pathlib import Path

from report import ROOT, arguments, tell

from client.testing import LocalCluster

HANDLERS = Path(__file__).parent / "handlers"
SECONDS = 0.02


def run(tasks: int, concurrency: int) -> dict[str, float]:
    """The figures of one round, on a farm of its own."""
    with LocalCluster(2, concurrency, {"TASKS_PATH": str(HANDLERS)}, ROOT) as farm:
        ledger = farm.folder / "ledger"
        task = {"task_type": "nap", "task_data": {"ledger": str(ledger), "seconds": SECONDS}}
        began = time.monotonic()
        ids = farm.client.submit_many(task for _ in range(tasks))
        farm.until(lambda: farm.client.stats()["completed_tasks"] >= tasks // 2, "half of it is done", 60)
        farm.workers["worker-1"].kill()
        killed = time.monotonic()
        farm.start_worker("worker-3")
        ended = list(farm.client.results(ids, timeout=120))
        took = time.monotonic() - began
        assert sorted(task["task_id"] for task in ended) == sorted(ids)
        assert all(task["status"] == "completed" for task in ended)
        assert farm.client.stats()["completed_tasks"] == tasks
        return {"seconds": took, **count(ledger, killed)}


def count(ledger: Path, killed: float) -> dict[str, float]:
    """What the tasks wrote down."""
    lines = [line.split() for line in ledger.read_text().splitlines()]
    begun = Counter(task for what, task, _ in lines if what == "begin")
    done = Counter(task for what, task, _ in lines if what == "end")
    again = [float(at) - killed for what, task, at in lines if what == "begin" and begun[task] > 1]
    return {
        "begun_twice": sum(n - 1 for n in begun.values()),
        "done_twice": sum(n - 1 for n in done.values()),
        "again_s": max(again, default=0.0),
    }


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=500)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 2], help="children of each worker")
    options = parser.parse_args()
    for children in options.concurrency:
        show(options.tasks, children, [run(options.tasks, children) for _ in range(options.rounds)])


def show(tasks: int, children: int, rounds: list[dict[str, float]]) -> None:
    of = {name: [one[name] for one in rounds] for name in rounds[0]}
    tell(
        "recovery",
        {
            "tasks": tasks,
            "workers": 2,
            "children": children,
            "rounds": len(rounds),
            "median_s": statistics.median(of["seconds"]),
            "max_s": max(of["seconds"]),
            "undone": 0,
            "recorded_twice": 0,
            "begun_twice": sum(of["begun_twice"]),
            "done_twice": sum(of["done_twice"]),
            "again_median_s": statistics.median(of["again_s"]),
            "again_max_s": max(of["again_s"]),
        },
    )


if __name__ == "__main__":
    main()
