"""The workers: what they are, what they run, what they were ordered."""

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from flask import Blueprint, render_template

from dispatcher.queue import Queue, overview

MOST = 2_000  # running tasks that are shared out among workers
SHOWN = 8  # of each
NUMBERS = ("load", "cpus", "memory_mb", "memory_free_mb", "finished_per_minute", "outbox", "quarantined")
LARGEST = 2**53  # a larger number is no size of anything


def add(views: Blueprint, queue: Queue) -> None:
    """The view."""

    @views.get("/ui/workers")
    def workers() -> str:
        running = _running(queue)
        told = [
            {
                **one,
                "metadata": said(one["metadata"]),
                "tasks": running.get(one["worker_id"], []),
                "seen": _ms(one["last_heartbeat"]),
            }
            for one in overview.workers(queue)
        ]
        return render_template("workers.html", workers=told, shown=SHOWN)


def said(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What a worker says of its machine, as far as it is what it should be: a heartbeat may hold anything."""
    numbers = {name: metadata[name] for name in NUMBERS if name in metadata}
    told = {n: v for n, v in numbers.items() if type(v) in (int, float) and abs(v) < LARGEST}
    return {**told, "hostname": str(metadata.get("hostname") or "")[:128]}


def _ms(moment: str) -> int:
    return round(datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp() * 1000)


def _running(queue: Queue) -> dict[str, list[dict[str, Any]]]:
    """The running tasks of each worker; none where there are very many."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in sorted(queue.running(MOST), key=lambda row: row["task_id"], reverse=True):
        found[row["assigned_to"]].append(row)
    return found
