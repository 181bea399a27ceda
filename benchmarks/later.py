"""How late a task comes that was submitted for later, and a schedule's tick, beside a million tasks further out.

    python benchmarks/later.py [--future 1000000] [--tasks 300] [--schedules 200] [--url postgresql://…]

On each store: one dispatcher on SQLite, two on PostgreSQL (that of the tests, with fsync on, unless a URL is given).
The tasks are due at random moments of the next ten seconds; each lateness is from `run_at` to the answer of a claim
that waits for it, at another dispatcher than that of the submit where there are two. Schedules tick every 2 s; their
lateness is from the tick to the commit of its task.
"""

import argparse
import random
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import services
from report import ROOT, arguments, spread, tell

from dispatcher.maintenance.loop import Loop
from dispatcher.maintenance.recurring import Recurring
from dispatcher.maintenance.scheduler import Scheduler
from dispatcher.maintenance.waker import Waker
from dispatcher.model import End, LeaseName, TaskFilter
from dispatcher.queue import Queue
from dispatcher.queue.claim import Claim
from dispatcher.queue.recurring import Schedules, Wanted
from dispatcher.queue.report import Outcome
from dispatcher.queue.submit import Submission
from dispatcher.queue.ticks import Rule
from dispatcher.store.base import Store
from dispatcher.store.postgres import PostgresStore
from dispatcher.store.sqlite import SqliteStore

BULK, DAY_MS, WINDOW_MS, TICKS_S = 10_000, 86_400_000, 10_000, 9


def fill(queue: Queue, number: int) -> float:
    """Tasks of the same type for the days to come, of top priority, one after the other; seconds that it took."""
    began, apart = time.perf_counter(), 30 * DAY_MS // number
    for start in range(0, number, BULK):
        delays = [DAY_MS + apart * n for n in range(start, min(start + BULK, number))]
        queue.submit([Submission("later", "{}", priority=9, delay_ms=delay) for delay in delays])
    return time.perf_counter() - began


@contextmanager
def housekeeping(queue: Queue) -> Iterator[None]:
    """The loops of a dispatcher that matter here, as `python -m dispatcher` runs them."""
    waker = Loop(Waker(queue), 0.5, queue.now)
    queue.on_news(waker.hurry)
    loops = [waker, *(Loop(step, step.pause, queue.now) for step in (Scheduler(queue), Recurring(queue)))]
    for loop in loops:
        loop.start()
    try:
        yield
    finally:
        for loop in loops:
            loop.stop()


def collect(queue: Queue, number: int, late: list[float]) -> None:
    """Claim and report until so many tasks came; how late each was, milliseconds."""
    request = 0
    while len(late) < number:
        request += 1
        granted = queue.claim(Claim("w", "i-w", request, 100, wait_ms=5000)).tasks
        now = queue.now().wall
        late += [now - task.run_at for task in granted]
        if granted:
            queue.report(
                [Outcome(LeaseName(t.task_id, t.token), End.COMPLETED, "{}", run_ms=0) for t in granted], "i-w"
            )


def tasks_for_later(queues: list[Queue], number: int) -> dict[str, float]:
    """Submit at the last dispatcher, claim at the first."""
    late: list[float] = []
    collector = threading.Thread(target=collect, args=(queues[0], number, late))
    collector.start()
    for _ in range(number):
        queues[-1].submit([Submission("later", "{}", delay_ms=random.randrange(WINDOW_MS))])
    collector.join()
    return spread(late)


def ticks(queues: list[Queue], number: int) -> dict[str, float]:
    """Schedules whose ticks all come at once."""
    schedules = Schedules(queues[0])
    for n in range(number):
        schedules.create(Wanted(f"s{n}", Rule(None, "UTC", 2000), Submission("tick", "{}", tags=(f"s{n}",)), "all"))
    due = {s.name: s.next_at or 0 for s in schedules.page("", number)}
    time.sleep(TICKS_S)
    for name in due:
        schedules.delete(name)
    made = {name: [t["created_at"] for t in queues[0].tasks(TaskFilter(tag=name), None, 500)][::-1] for name in due}
    late = [float(at - due[name] - 2000 * n) for name, times in made.items() for n, at in enumerate(times)]
    return {"fired": len(late), **spread(late)}


def measure(name: str, stores: list[Store], options: argparse.Namespace) -> None:
    """All of it on one kind of store."""
    queues = [Queue(store) for store in stores]
    figures = {"dispatchers": len(queues), "future": options.future}
    filled = fill(queues[0], options.future)
    with ExitStack() as stack:
        for queue in queues:
            stack.enter_context(housekeeping(queue))
        tell(f"later {name}", {**figures, "fill_s": filled, **tasks_for_later(queues, options.tasks)})
        tell(f"ticks {name}", {**figures, "schedules": options.schedules, **ticks(queues, options.schedules)})
    for queue in queues:
        queue.drain()
        queue.store.close()


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--future", type=int, default=1_000_000)
    parser.add_argument("--tasks", type=int, default=300)
    parser.add_argument("--schedules", type=int, default=200)
    parser.add_argument("--url")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix=".taskmill-", dir=ROOT) as folder:
        measure("sqlite", [SqliteStore(Path(folder) / "queue.db")], options)
    with ExitStack() as stack:
        schemas = services.Schemas(options.url or stack.enter_context(services.postgres()).url)
        stack.callback(schemas.drop)
        url = schemas.new()
        measure("postgresql", [PostgresStore(url), PostgresStore(url)], options)


if __name__ == "__main__":
    main()
