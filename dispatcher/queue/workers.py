"""Orders to workers: run, quiet (finish, take nothing new), sleep (the same, and give back what was not begun), stop.

An order is written to the worker's living instances, where every claim reads it: a claim that comes after the answer
to an order gets nothing new, at whichever dispatcher. `quiet`, `sleep` and `run` are remembered by the worker's name
as well, for every instance of that name to come; `stop` is for the present ones alone, so that a worker that is started
again by hand runs. A worker that must not come back to work (a service manager restarts it) is made quiet first.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from dispatcher.errors import NotFound
from dispatcher.store.base import Tx

STATES = ("run", "quiet", "sleep", "stop")
HURRIED = frozenset({"sleep", "stop"})  # these may be meant for now, and not for after what runs


def order(tx: Tx, worker_id: str, state: str, now: bool) -> list[int]:
    """Give an order; the instances that it reached. Raises NotFound for a name that was never seen."""
    ordered = None if state == "run" else f"{state}_now" if now and state in HURRIED else state
    reached = tx.order_worker(worker_id, ordered, None if state == "stop" else state)
    if reached is None:
        raise NotFound(f"worker {worker_id}")
    return reached


def able(workers: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those that take tasks, of workers as `GET /workers` lists them."""
    return [one for one in workers if one["status"] == "alive" and one["state"] == "run"]


def capacity(queue: str, task_types: Iterable[str], workers: Iterable[Mapping[str, Any]]) -> int:
    """How many tasks of a queue the workers run at a time; each is `about` itself."""
    wanted = frozenset(task_types)
    return sum(about.get("concurrency") or 0 for about in workers if _serves(about, queue, wanted))


def _serves(about: Mapping[str, Any], queue: str, task_types: frozenset[str]) -> bool:
    queues, types = about.get("queues"), about.get("task_types")
    return (queues is None or queue in queues) and (types is None or not task_types.isdisjoint(types))
