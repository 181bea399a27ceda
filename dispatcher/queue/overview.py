"""What `/stats`, `/metrics`, `/workers` and the dashboard show of workers and of the whole queue."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from dispatcher.clock import moment
from dispatcher.queue.claim import orders
from dispatcher.queue.queue import Queue

DAY_MS = 86_400_000
ABOUT = ("task_types", "queues", "labels", "concurrency", "slots", "version", "python")


class Overview(NamedTuple):
    """How things stood at one moment: tasks by (queue, type) and state, since when the oldest ready task of each queue
    waits (wall, ms), workers."""

    at: int  # wall, ms
    counts: Mapping[tuple[str, str], Mapping[str, int]]
    oldest: Mapping[str, int]
    workers: list[dict[str, Any]]


def look(queue: Queue) -> Overview:
    """How things stand now."""
    now = queue.now().wall
    with queue.store.read() as reader:
        counts, oldest, rows = reader.counts(), reader.oldest_by_queue(), reader.workers(now - DAY_MS)
    return Overview(now, counts, oldest, _listed(queue, rows, now))


def workers(queue: Queue) -> list[dict[str, Any]]:
    """Every living instance, and of a name with none the newest dead one of the last day; what each is blamed for."""
    now = queue.now().wall
    with queue.store.read() as reader:
        rows = reader.workers(now - DAY_MS)
    return _listed(queue, rows, now)


def _listed(queue: Queue, rows: Iterable[Mapping[str, Any]], now: int) -> list[dict[str, Any]]:
    told = _newest(rows, now - queue.terms.silence_ms)
    return [{**worker, "blamed_for": sorted(queue.blame.types(worker["worker_id"]))} for worker in told]


def _newest(rows: Iterable[Mapping[str, Any]], alive_since: int) -> list[dict[str, Any]]:
    rows = list(rows)
    living = [row for row in rows if row["died_at"] is None and row["seen_at"] >= alive_since]
    names = {row["worker_id"] for row in living}
    newest = {row["worker_id"]: row for row in sorted(rows, key=lambda row: row["seen_at"])}
    gone = [row for name, row in newest.items() if name not in names]
    return [_worker(row, "alive") for row in living] + [_worker(row, "dead") for row in gone]


def _worker(row: Mapping[str, Any], status: str) -> dict[str, Any]:
    metadata = json.loads(row["host"]) if row["host"] else {}
    about = json.loads(row["about"]) if row["about"] else {}
    told = {"worker_id": row["worker_id"], "status": status, "last_heartbeat": moment(row["seen_at"])}
    told["state"] = orders(row["ordered"]).state
    told |= {name: about.get(name) for name in ABOUT if name in about}
    return {**told, "metadata": metadata, "leases": row["leases"], "classic": bool(row["classic"])}
