"""Queues: what they hold, and their settings (docs/queues.md)."""

from typing import Any

from flask import Blueprint

from dispatcher.errors import NotFound
from dispatcher.model import QueueSettings, Rate
from dispatcher.queue import Queue, queues
from dispatcher.queue.queues import QueueView
from dispatcher.routes import body, show
from dispatcher.routes.models import QueueChanges

RATES = {"rate": ("rate_count", "rate_ms"), "key_rate": ("key_rate_count", "key_rate_ms")}  # and their columns


def blueprint(queue: Queue) -> Blueprint:
    """The views."""
    views = Blueprint("queues", __name__)

    @views.get("/queues")
    def get_queues() -> show.Reply:
        body.known_arguments()
        return show.success({"queues": [_shown(view) for view in queues.listed(queue)]})

    @views.get("/queues/<name>")
    def get_queue(name: str) -> show.Reply:
        body.known_arguments()
        return _one(queue, name)

    @views.patch("/queues/<name>")
    def change_queue(name: str) -> show.Reply:
        return _change(queue, name, _changes(body.parse(QueueChanges)))

    @views.post("/queues/<name>/pause")
    def pause_queue(name: str) -> show.Reply:
        body.nothing()
        return _change(queue, name, {"paused": True})

    @views.post("/queues/<name>/resume")
    def resume_queue(name: str) -> show.Reply:
        body.nothing()
        return _change(queue, name, {"paused": False})

    return views


def _change(queue: Queue, name: str, changes: dict[str, Any]) -> show.Reply:
    queues.configure(queue, body.name("queue", name), changes)
    return _one(queue, name)


def _one(queue: Queue, name: str) -> show.Reply:
    for view in queues.listed(queue):
        if view.settings.queue == name:
            return show.success(_shown(view))
    raise NotFound(f"queue {name[:128]}")


def _changes(asked: QueueChanges) -> dict[str, Any]:
    """The fields that were given, as columns."""
    changes = asked.model_dump(include=asked.model_fields_set - RATES.keys())
    if "paused" in changes:
        changes["paused"] = bool(changes["paused"])
    for field in asked.model_fields_set & RATES.keys():
        rate = getattr(asked, field)
        values = (None, None) if rate is None else (rate.count, round(rate.period_seconds * 1000))
        changes.update(zip(RATES[field], values, strict=True))
    return changes


def _shown(view: QueueView) -> dict[str, Any]:
    s, counts = view.settings, view.counts
    numbers = {"pending": counts["pending"], "ready": counts["ready"], "running": counts["in_progress"]}
    return {"queue": s.queue, "paused": s.paused, **numbers, "blocked": counts["blocked"], **_limits(s)}


def _limits(s: QueueSettings) -> dict[str, Any]:
    of_queue = {"max_running": s.max_running, "rate": _shown_rate(s.rate), "weight": s.weight or 1}
    of_keys = {"key_running": s.key_running, "key_rate": _shown_rate(s.key_rate)}
    return {**of_queue, "max_waiting": s.max_waiting, **of_keys}


def _shown_rate(rate: Rate | None) -> dict[str, Any] | None:
    return None if rate is None else {"count": rate.starts, "period_seconds": rate.ms / 1000}
