"""How long the steps are in which limits of time are judged when very many are over at once, and what a claim feels.

    python benchmarks/limits.py [--tasks 100000] [--url postgresql://…]

On SQLite and on PostgreSQL (that of the tests, with fsync on, unless a URL is given). `step` is the operation inside
the writer's transaction; `claim` is a whole empty-handed round trip through the same writer meanwhile, the COMMIT of
the group included.
"""

import argparse
import json
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from report import ROOT, tell

sys.path.insert(0, str(ROOT / "tests"))

from postgres_server import Schemas, running

from dispatcher.maintenance.attempts import Attempts
from dispatcher.queue import Queue, deadlines
from dispatcher.queue.claim import Claim
from dispatcher.queue.submit import Submission
from dispatcher.store.base import Store
from dispatcher.store.postgres import PostgresStore
from dispatcher.store.sqlite import SqliteStore

DURABLE = {"fsync": "on", "full_page_writes": "on", "autovacuum": "on"}
BULK, WAIT_S = 1_000, 0.001


def clocked(call: Any, took: list[float]) -> Any:
    """The call, with a note of how long each run of it is."""

    def run(*given: Any) -> Any:
        began = time.perf_counter()
        try:
            return call(*given)
        finally:
            took.append(time.perf_counter() - began)

    return run


def claims(queue: Queue, over: threading.Event, took: list[float]) -> None:
    """Claims one after the other, through the writer, of a type that there is none of."""
    number = 0
    claim = clocked(queue.claim, took)
    while not over.is_set():
        number += 1
        claim(Claim("ann", "i-ann", number, 1, frozenset({"other"})))
        time.sleep(0.01)


def told(seconds: list[float]) -> dict[str, float]:
    """The spread in milliseconds."""
    ordered = sorted(seconds)
    marks = {f"p{share}_ms": 1000 * ordered[len(ordered) * share // 100] for share in (50, 99)}
    return {**marks, "max_ms": 1000 * ordered[-1]}


def measure(name: str, store: Store, tasks: int) -> None:
    """All limits over at once."""
    queue, options = Queue(store), json.dumps({"wait_seconds": WAIT_S})
    for _ in range(0, tasks, BULK):
        queue.submit([Submission("noop", "{}", options=options)] * BULK)
    steps: list[float] = []
    felt: list[float] = []
    over, enforce = threading.Event(), deadlines.enforce
    deadlines.enforce = clocked(enforce, steps)
    asking = threading.Thread(target=claims, args=(queue, over, felt))
    asking.start()
    began = time.perf_counter()
    judged = Attempts(queue).run_once(queue.now())
    took = time.perf_counter() - began
    over.set()
    asking.join()
    deadlines.enforce = enforce
    tell(f"limits {name}: step", {"judged": judged, "seconds": took, **told(steps)})
    tell(f"limits {name}: claim", {"claims": len(felt), **told(felt)})
    queue.drain()
    store.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--url")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=ROOT) as folder:
        measure("sqlite", SqliteStore(Path(folder) / "queue.db"), options.tasks)
    with ExitStack() as stack:
        schemas = Schemas(options.url or stack.enter_context(running(DURABLE, Path("/tmp"))).url)
        stack.callback(schemas.close)
        measure("postgresql", PostgresStore(schemas.new()), options.tasks)


if __name__ == "__main__":
    main()
