"""`/stats`, `/health` and `/openapi.json`."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flask import Blueprint, request

from dispatcher.config import VERSION
from dispatcher.model import State
from dispatcher.queue import Queue, farm, overview
from dispatcher.queue.workers import able, capacity
from dispatcher.routes import body, show


def blueprint(queue: Queue, may_see_details: Callable[[], bool]) -> Blueprint:
    """The views; `/health` says no more than its classic words to who has no token."""
    views = Blueprint("status", __name__)
    started = time.monotonic()

    @views.get("/stats")
    def stats() -> show.Reply:
        body.known_arguments()
        return show.envelope(json.dumps(_stats(queue), separators=(",", ":")))  # what workers told was checked then

    @views.get("/health")
    def health() -> show.Reply:
        body.known_arguments("ready")
        ready = queue.is_ready()
        told: dict[str, Any] = {"status": "healthy" if ready else "unhealthy", "service": "dispatcher"}
        if may_see_details():
            told |= {"ready": ready, "version": VERSION, "uptime_seconds": round(time.monotonic() - started, 1)}
            told |= {"store_id": queue.store.store_id, **queue.store.describe(), "waiting_claims": len(queue.waiting)}
        return show.plain(told, 200 if ready or "ready" not in request.args else 503)

    @views.get("/openapi.json")
    def describe() -> show.Reply:
        from dispatcher.routes.api.document import document  # its many models are a tenth of the start-up time

        return show.plain(document())

    return views


def _stats(queue: Queue) -> dict[str, Any]:
    seen = overview.look(queue)
    now, counts, oldest_of, listed = seen
    oldest = min(oldest_of.values(), default=None)
    told: dict[str, Any] = {
        f"{state.value}_tasks": sum(n.get(state.value, 0) for n in counts.values()) for state in State
    }
    told["farm"] = _farm(farm.judged(queue, seen))
    told["active_workers"] = sum(worker["status"] == "alive" for worker in listed)
    told["workers"] = listed
    told["ready_tasks"] = sum(n.get("ready", 0) for n in counts.values())
    told["oldest_waiting_seconds"] = None if oldest is None else max(now - oldest, 0) / 1000
    told["load"] = _load(counts, oldest_of, listed, now)
    told["queues"] = [{"queue": queue, "task_type": kind, **n} for (queue, kind), n in sorted(counts.items())]
    return {**told, **queue.rates.summary(now // 1000)}


def _farm(found: farm.Farm) -> dict[str, Any]:
    """What the dashboard's first line says."""
    told = {"word": found.word, "why": found.why, "able_workers": found.able}
    return {**told, "finished_per_second": round(found.per_second, 3), "failed_share": found.failed_share}


def _load(
    counts: Mapping[tuple[str, str], Mapping[str, int]],
    oldest: Mapping[str, int],
    listed: Sequence[Mapping[str, Any]],
    now: int,
) -> list[dict[str, Any]]:
    """What an autoscaler asks of each queue: how much waits and for how long, how much runs, how much could."""
    takers = able(listed)
    told = []
    for queue in sorted({queue for queue, _ in counts}):
        by_type = {kind: n for (name, kind), n in counts.items() if name == queue}
        backlog, running = (sum(n.get(state, 0) for n in by_type.values()) for state in ("ready", "in_progress"))
        first = oldest.get(queue)
        age = None if first is None else max(now - first, 0) / 1000
        said = {"queue": queue, "backlog": backlog, "oldest_waiting_seconds": age, "running": running}
        told.append({**said, "capacity": capacity(queue, by_type, takers)})
    return told
