"""What a bulk action over many tasks costs everybody else: times of claims on a store with and without one beside.

    python benchmarks/bulk.py [--tasks 100000] [--action cancel|retry|delete]

In one process on SQLite, so that the figure is the store's own and not that of HTTP: a thread that claims and completes
a task every few milliseconds, first alone, then while the action runs over all the other tasks.
"""

import tempfile
import threading
import time
from pathlib import Path

from report import ROOT, arguments, tell

from dispatcher.model import End, LeaseName, TaskFilter
from dispatcher.queue import Queue, bulk
from dispatcher.queue.claim import Claim
from dispatcher.queue.report import Outcome
from dispatcher.queue.submit import Submission
from dispatcher.store.sqlite import SqliteStore

SPACING_S = 0.005
ALONE_S = 10.0


class Claims:
    """Claims one task after the other, and remembers how long each took."""

    def __init__(self, queue: Queue) -> None:
        self.queue, self.number, self.times = queue, 0, list[float]()

    def run(self, until: threading.Event) -> list[float]:
        """The times, milliseconds, sorted."""
        self.times = []
        while not until.wait(SPACING_S):
            self.queue.submit([Submission("noop", "{}", queue="live")])
            self.number += 1
            began = time.perf_counter()
            claimed = self.queue.claim(Claim("w", "i" * 32, self.number, 1, queues=frozenset({"live"})))
            self.times.append((time.perf_counter() - began) * 1000)
            names = [LeaseName(task.task_id, task.token) for task in claimed.tasks]
            self.queue.report([Outcome(name, End.COMPLETED, "{}") for name in names], "i" * 32)
        return sorted(self.times)


def fill(queue: Queue, tasks: int, action: str) -> None:
    for _ in range(0, tasks, 5000):
        queue.submit([Submission("noop", '{"limit": 100000}', queue="many") for _ in range(5000)])
    if action != "cancel":
        while bulk.run(queue, bulk.Order(bulk.Action.CANCEL, TaskFilter(queue="many"))).cursor:
            pass


def act(queue: Queue, action: str, over: threading.Event) -> tuple[int, float]:
    """How many tasks were changed, in what time."""
    began, changed, after = time.perf_counter(), 0, 0
    while True:
        done = bulk.run(queue, bulk.Order(bulk.Action(action), TaskFilter(queue="many"), after=after))
        changed += done.changed
        if done.cursor is None:
            over.set()
            return changed, time.perf_counter() - began
        after = done.cursor


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--action", choices=["cancel", "retry", "delete"], default="cancel")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix=".taskmill-", dir=ROOT) as folder:
        store = SqliteStore(Path(folder) / "queue.db")
        queue = Queue(store)
        fill(queue, options.tasks, options.action)
        claims, alone, over = Claims(queue), threading.Event(), threading.Event()
        threading.Timer(ALONE_S, alone.set).start()
        before = claims.run(alone)
        told: list[tuple[int, float]] = []
        thread = threading.Thread(target=lambda: told.append(act(queue, options.action, over)))
        thread.start()
        beside = claims.run(over)
        thread.join()
        store.close()
    figures: dict[str, object] = {"action": options.action, "changed": told[0][0], "seconds": told[0][1]}
    for name, times in (("alone", before), ("beside", beside)):
        figures |= {f"{name}_p{round(share * 100)}_ms": times[int(share * len(times))] for share in (0.5, 0.99)}
        figures[f"{name}_max_ms"] = times[-1]
    tell("bulk", figures)


if __name__ == "__main__":
    main()
