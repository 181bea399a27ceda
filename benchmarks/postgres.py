"""The PostgreSQL store: claim and report per dispatcher, alone and two together, and what waiting tasks and an old
snapshot do to a claim.

    python benchmarks/postgres.py [--url postgresql://…] [--seconds 4] [--rounds 3] [--old-snapshot-seconds 120]

Without a URL it starts a PostgreSQL of its own (that of the tests, with fsync on, its data under /tmp). A dispatcher is
a process with the queue's rules over its store, as `python -m dispatcher` has, without HTTP before it; `--batch` tasks
are claimed and reported at a time by each of `--callers` threads.
"""

import argparse
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import services
from report import arguments, tell
from services import Schemas

from dispatcher.model import End, LeaseName
from dispatcher.queue import Queue
from dispatcher.queue.claim import Claim
from dispatcher.queue.report import Outcome
from dispatcher.queue.submit import Submission
from dispatcher.store.postgres import PostgresStore

SUBMIT, SIZES = 5_000, (10_000, 100_000, 1_000_000)


class Caller:
    """One worker as the queue hears of it: claims and reports, one after the other."""

    def __init__(self, queue: Queue, name: str, batch: int) -> None:
        self._queue, self._name, self._batch, self._number = queue, name, batch, 0
        self.claims: list[float] = []

    def turn(self) -> int:
        """One claim and the report of it; how many tasks."""
        self._number += 1
        began = time.perf_counter()
        granted = self._queue.claim(Claim(self._name, f"i-{self._name}", self._number, self._batch)).tasks
        self.claims.append(time.perf_counter() - began)
        done = [Outcome(LeaseName(g.task_id, g.token), End.COMPLETED, "{}", run_ms=1) for g in granted]
        if done:
            self._queue.report(done, f"i-{self._name}")
        return len(granted)


def fill(queue: Queue, tasks: int) -> None:
    """Submit so many tasks."""
    for start in range(0, tasks, SUBMIT):
        queue.submit([Submission("noop", "{}")] * min(SUBMIT, tasks - start))


def dispatch(url: str, name: str, seconds: float, callers: int, batch: int) -> None:
    """A dispatcher's process: starts on a line of stdin, prints its tasks per second."""
    store = PostgresStore(url)
    queue = Queue(store)
    counted: list[int] = []

    def work(caller: Caller) -> None:
        deadline, n = time.perf_counter() + seconds, 0
        while time.perf_counter() < deadline:
            n += caller.turn()
        counted.append(n)

    print("ready", flush=True)
    sys.stdin.readline()
    threads = [threading.Thread(target=work, args=(Caller(queue, f"{name}-{i}", batch),)) for i in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(sum(counted) / seconds, flush=True)
    store.close()


def together(url: str, dispatchers: int, options: argparse.Namespace) -> list[float]:
    """Tasks per second of so many dispatchers that run at the same time."""
    argv = [sys.executable, __file__, "--dispatch", url, "--seconds", str(options.seconds),
            "--callers", str(options.callers), "--batch", str(options.batch)]  # fmt: skip
    running = [
        subprocess.Popen([*argv, "--name", f"d{i}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for i in range(dispatchers)
    ]
    for one in running:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    for one in running:
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.flush()
    return [float(one.communicate()[0]) for one in running]


def throughput(schemas: Schemas, options: argparse.Namespace) -> None:
    """Alone and two together, in turns."""
    alone, both = [], []
    for _ in range(options.rounds):
        for count, rates in ((1, alone), (2, both)):
            url = schemas.new()
            store = PostgresStore(url)
            fill(Queue(store), int(options.seconds * 20_000))
            store.close()
            rates.append(together(url, count, options))
    figures = {"batch": options.batch, "callers": options.callers}
    one = statistics.median(sum(rates) for rates in alone)
    two = statistics.median(sum(rates) for rates in both)
    tell("postgres throughput", {**figures, "one_per_s": one, "two_per_s": two, "ratio": two / one})


def claim_cost(schemas: Schemas, options: argparse.Namespace) -> None:
    """The median claim with 10^4, 10^5, 10^6 tasks waiting."""
    medians: dict[int, float] = {}
    store = PostgresStore(schemas.new())
    queue = Queue(store)
    for size in SIZES:
        fill(queue, size - sum(queue_counts(queue)))
        medians[size] = claims(queue, options, f"c{size}")
    tell("postgres claim cost", {f"ms_at_{size}": 1000 * median for size, median in medians.items()})
    with old_snapshot(schemas.last):
        old_snapshot_cost(queue, options, medians[SIZES[-1]])
    store.close()


def queue_counts(queue: Queue) -> list[int]:
    """How many tasks wait, by lane."""
    with queue.store.read() as reader:
        return [counts.get("pending", 0) for counts in reader.counts().values()]


def claims(queue: Queue, options: argparse.Namespace, name: str, turns: int = 60) -> float:
    """The median of some claims of a batch."""
    caller = Caller(queue, name, options.batch)
    for _ in range(turns):
        assert caller.turn() == options.batch
    return statistics.median(caller.claims)


@contextmanager
def old_snapshot(url: str) -> Iterator[None]:
    """A transaction that keeps seeing the database as it is now."""
    with psycopg.connect(url) as db:
        db.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        db.execute("SELECT count(*) FROM meta")
        yield


def old_snapshot_cost(queue: Queue, options: argparse.Namespace, before: float) -> None:
    """Claims while it stands: at first, and after minutes of work."""
    began, caller, done = time.perf_counter(), Caller(queue, "old", options.batch), 0
    while time.perf_counter() - began < options.old_snapshot_seconds:
        done += caller.turn()
        if sum(queue_counts(queue)) < 10 * options.batch:
            fill(queue, SIZES[0])
    edge = max(20, len(caller.claims) // 50)
    first, last = statistics.median(caller.claims[:edge]), statistics.median(caller.claims[-edge:])
    figures = {"seconds": options.old_snapshot_seconds, "tasks_meanwhile": done, "ms_before": 1000 * before}
    tell("postgres old snapshot", {**figures, "ms_first": 1000 * first, "ms_last": 1000 * last, "ratio": last / before})


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--url")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--callers", type=int, default=4)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--old-snapshot-seconds", type=float, default=120.0)
    parser.add_argument("--dispatch", help=argparse.SUPPRESS)
    parser.add_argument("--name", default="d", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.dispatch:
        dispatch(options.dispatch, options.name, options.seconds, options.callers, options.batch)
    elif options.url:
        measure(options.url, options)
    else:
        with services.postgres() as server:
            measure(server.url, options)


def measure(url: str, options: argparse.Namespace) -> None:
    """All of it."""
    schemas = Schemas(url)
    try:
        throughput(schemas, options)
        claim_cost(schemas, options)
    finally:
        schemas.close()


if __name__ == "__main__":
    main()
