"""`/stats`, `/health` and `/openapi.json`."""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flask import Blueprint, Response, request

from dispatcher.config import VERSION
from dispatcher.model import State
from dispatcher.queue import Queue
from dispatcher.routes import body, openapi, show

DAY_MS = 86_400_000


def blueprint(queue: Queue, may_see_details: Callable[[], bool]) -> Blueprint:
    """The views; `/health` says no more than its classic words to who has no token."""
    views = Blueprint("status", __name__)
    started = time.monotonic()

    @views.get("/stats")
    def stats() -> Response:
        body.known_arguments()
        return show.envelope(json.dumps(_stats(queue), separators=(",", ":")))  # what workers told was checked then

    @views.get("/health")
    def health() -> Response:
        body.known_arguments("ready")
        ready = queue.is_ready()
        told: dict[str, Any] = {"status": "healthy" if ready else "unhealthy", "service": "dispatcher"}
        if may_see_details():
            told |= {"ready": ready, "version": VERSION, "uptime_seconds": round(time.monotonic() - started, 1)}
            told |= {"store_id": queue.store.store_id, **queue.store.describe(), "waiting_claims": len(queue.waiting)}
        return show.plain(told, 200 if ready or "ready" not in request.args else 503)

    @views.get("/openapi.json")
    def describe() -> Response:
        return show.plain(openapi.document())

    return views


def _stats(queue: Queue) -> dict[str, Any]:
    now = queue.store.now().wall
    with queue.store.read() as reader:
        counts, oldest = reader.counts(), reader.oldest_ready()
        seen = reader.workers(now - DAY_MS)
    workers = _workers(seen, now - queue.terms.silence_ms)
    told: dict[str, Any] = {
        f"{state.value}_tasks": sum(n.get(state.value, 0) for n in counts.values()) for state in State
    }
    told["active_workers"] = sum(worker["status"] == "alive" for worker in workers)
    told["workers"] = workers
    told["ready_tasks"] = sum(n.get("ready", 0) for n in counts.values())
    told["oldest_waiting_seconds"] = None if oldest is None else max(now - oldest, 0) / 1000
    told["queues"] = [{"queue": queue, "task_type": kind, **n} for (queue, kind), n in sorted(counts.items())]
    return {**told, **queue.rates.summary(now // 1000)}


def _workers(rows: Iterable[Mapping[str, Any]], alive_since: int) -> list[dict[str, Any]]:
    """Every living instance, and of a name with none the newest dead one."""
    living = [row for row in rows if row["died_at"] is None and row["seen_at"] >= alive_since]
    names = {row["worker_id"] for row in living}
    newest = {row["worker_id"]: row for row in sorted(rows, key=lambda row: row["seen_at"])}
    gone = [row for name, row in newest.items() if name not in names]
    return [_worker(row, "alive") for row in living] + [_worker(row, "dead") for row in gone]


def _worker(row: Mapping[str, Any], status: str) -> dict[str, Any]:
    metadata = json.loads(row["host"]) if row["host"] else {}
    told = {"worker_id": row["worker_id"], "status": status, "last_heartbeat": show.moment(row["seen_at"])}
    return {**told, "metadata": metadata, "leases": row["leases"], "classic": bool(row["classic"])}
