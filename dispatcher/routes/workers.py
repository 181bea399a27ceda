"""Workers: who they are, and orders to them."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from flask import Blueprint

from dispatcher.clock import moment
from dispatcher.errors import Invalid, NotFound
from dispatcher.queue import Queue
from dispatcher.queue.claim import orders
from dispatcher.queue.workers import HURRIED
from dispatcher.routes import body, show
from dispatcher.routes.models import WorkerOrder

DAY_MS = 86_400_000
ABOUT = ("task_types", "queues", "labels", "concurrency", "slots", "version", "python")


def blueprint(queue: Queue) -> Blueprint:
    """The views."""
    views = Blueprint("workers", __name__)

    @views.get("/workers")
    def get_workers() -> show.Reply:
        body.known_arguments()
        now = queue.now().wall
        with queue.store.read() as reader:
            rows = reader.workers(now - DAY_MS)
        return show.envelope(json.dumps({"workers": listed(queue, rows, now)}))

    @views.patch("/workers/<worker_id>")
    def patch_worker(worker_id: str) -> show.Reply:
        asked = body.parse(WorkerOrder)
        if asked.when is not None and asked.state not in HURRIED:
            raise Invalid("when", "goes with the states sleep and stop alone")
        if not body.is_name(worker_id):
            raise NotFound("worker")
        reached = queue.order_worker(worker_id, asked.state, asked.when == "now")
        return show.success({"worker_id": worker_id, "state": asked.state, "instances": reached})

    return views


def listed(queue: Queue, rows: Iterable[Mapping[str, Any]], now: int) -> list[dict[str, Any]]:
    """Every living instance, and of a name with none the newest dead one; what each is blamed for."""
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
