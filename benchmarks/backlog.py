"""What a claim and its report cost beside a great many other tasks, against the same beside 10,000; and the overviews.

    python benchmarks/backlog.py [--waiting 1000000 10000000] [--unserved 10000000] [--future 1000000] [--held 100000]
                                 [--turns 150]

The queue and its store in one process, on SQLite with synchronous=FULL. The small and the large queue take turns, so
that both meet the same machine; a turn claims and reports one task, or 64, and every one is checked. The overviews
(`/stats`, the first page of `/tasks`, `GET /task/<id>`) are asked of a dispatcher over HTTP at the largest number of
waiting tasks.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import filling
from report import ROOT, arguments, spread, tell

from client.testing import LocalCluster
from dispatcher.model import End, LeaseName
from dispatcher.queue import Queue
from dispatcher.queue.claim import Claim
from dispatcher.queue.report import Outcome
from dispatcher.queue.submit import Submission
from dispatcher.store.sqlite import SqliteStore

SMALL, BATCHES, ASKED, PAGE = 10_000, (1, 64), 60, 100


class Cost(NamedTuple):
    """Of one turn, milliseconds: by the clock and of the processor."""

    wall: float
    cpu: float


class Worker:
    """One worker of no-op tasks on one queue."""

    def __init__(self, path: Path) -> None:
        self.store = SqliteStore(path)
        self._queue, self._number = Queue(self.store), 0

    def supply(self, tasks: int) -> None:
        """Submit tasks for the turns to come."""
        self._queue.submit([Submission("noop", "{}")] * tasks)

    def turn(self, batch: int) -> Cost:
        """Claim and report so many tasks."""
        self._number += 1
        wall, cpu = time.perf_counter(), time.process_time()
        granted = self._queue.claim(Claim("w", "i-w", self._number, batch, task_types=frozenset({"noop"}))).tasks
        done = [Outcome(LeaseName(g.task_id, g.token), End.COMPLETED, "{}", run_ms=1) for g in granted]
        verdicts, _, _ = self._queue.report(done, "i-w")
        took = Cost((time.perf_counter() - wall) * 1000, (time.process_time() - cpu) * 1000)
        assert len(granted) == batch
        assert all(verdict.name == "ACCEPTED" for verdict in verdicts), verdicts
        return took


def against(small: Path, large: Path, turns: int) -> dict[str, float]:
    """The medians of both, and their ratios, for each size of batch."""
    workers = [Worker(path) for path in (small, large)]
    told: dict[str, float] = {}
    for batch in BATCHES:
        costs: list[list[Cost]] = [[], []]
        for worker in workers:
            worker.supply((turns + 5) * batch)
        for turn in range(turns + 5):
            pairs = list(zip(workers, costs, strict=True))
            for worker, of in pairs if turn % 2 else reversed(pairs):
                of.append(worker.turn(batch))
        told |= compared(batch, *(of[5:] for of in costs))
    for worker in workers:
        worker.store.close()
    return told


def compared(batch: int, small: list[Cost], large: list[Cost]) -> dict[str, float]:
    before, now = (statistics.median(c.wall for c in costs) for costs in (small, large))
    work, now_work = (statistics.median(c.cpu for c in costs) for costs in (small, large))
    return {f"batch_{batch}_small_ms": before, f"batch_{batch}_ms": now, f"batch_{batch}_ratio": now / before,
            f"batch_{batch}_cpu_ratio": now_work / work}  # fmt: skip


def overviews(path: Path, newest: int) -> dict[str, float]:
    """Milliseconds of each over HTTP."""
    with LocalCluster(0, 1, {"DB_PATH": str(path)}, ROOT) as farm:
        asked: dict[str, Callable[[int], Any]] = {
            "stats": lambda _: farm.client.stats(),
            "page": lambda _: next(farm.client.tasks(limit=PAGE)),
            "page_failed": lambda _: list(farm.client.tasks(limit=PAGE, status="failed")),
            "page_of_type": lambda _: next(farm.client.tasks(limit=PAGE, task_type="noop", status="pending")),
            "task": lambda n: farm.client.task(1 + n * (newest - 1) // ASKED),
        }
        told: dict[str, float] = {}
        for name, ask in asked.items():
            times = [timed(ask, n) for n in range(ASKED)]
            told |= {f"{name}_first_ms": times[0], **{f"{name}_{at}": ms for at, ms in spread(times).items()}}
    return told


def timed(ask: Callable[[int], Any], n: int) -> float:
    began = time.perf_counter()
    ask(n)
    return (time.perf_counter() - began) * 1000


def filled(folder: Path, name: str, tasks: int) -> Path:
    path = folder / f"{name}-{tasks}.db"
    began = time.perf_counter()
    filling.fill(path, tasks, getattr(filling, name))
    took, size = time.perf_counter() - began, path.stat().st_size / 2**20
    print(f"{tasks:,} {name}: filled in {took:.0f} s, {size:,.0f} MiB", flush=True)
    return path


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--waiting", type=int, nargs="*", default=[1_000_000, 10_000_000])
    parser.add_argument("--unserved", type=int, nargs="*", default=[10_000_000])
    parser.add_argument("--future", type=int, nargs="*", default=[1_000_000])
    parser.add_argument("--held", type=int, nargs="*", default=[100_000])
    parser.add_argument("--turns", type=int, default=150)
    options = parser.parse_args()
    costs: dict[str, dict[str, float]] = {}
    for name in ("waiting", "unserved", "future", "held"):
        for tasks in getattr(options, name):
            with ExitStack() as stack:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=".taskmill-", dir=ROOT)))
                large = filled(folder, name, tasks)
                costs[f"{tasks} {name}"] = against(filled(folder, name, SMALL), large, options.turns)
                if name == "waiting" and tasks == max(options.waiting):
                    tell("overviews", {"waiting": tasks, **overviews(large, tasks)})
    for name, cost in costs.items():
        print(f"beside {name}: of 64 {cost['batch_64_ratio']:.2f} x, of one {cost['batch_1_ratio']:.2f} x")
    worst = max(cost["batch_64_ratio"] for cost in costs.values())
    tell("backlog", {"turns": options.turns, "small": SMALL, "worst_ratio": worst, "costs": costs})


if __name__ == "__main__":
    main()
