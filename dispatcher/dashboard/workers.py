"""The workers: what they are, what they run, what they were ordered."""

from collections import defaultdict
from datetime import datetime
from typing import Any

from flask import Blueprint, render_template

from dispatcher.dashboard.overview import all_workers
from dispatcher.model import State
from dispatcher.queue import Queue

MOST = 2_000  # running tasks that are shared out among workers
SHOWN = 8  # of each


def add(views: Blueprint, queue: Queue) -> None:
    """The view."""

    @views.get("/ui/workers")
    def workers() -> str:
        running = _running(queue)
        told = [
            {**one, "tasks": running.get(one["worker_id"], []), "seen": _ms(one["last_heartbeat"])}
            for one in all_workers(queue)
        ]
        return render_template("workers.html", workers=told, shown=SHOWN)


def _ms(moment: str) -> int:
    return round(datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp() * 1000)


def _running(queue: Queue) -> dict[str, list[dict[str, Any]]]:
    """The running tasks of each worker; none where there are very many."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    with queue.store.read() as reader:
        for row in reader.listed(reader.few(State.IN_PROGRESS, MOST) or []):
            found[row["worker_id"]].append(row)
    return found
