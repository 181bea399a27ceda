"""Queues and schedules."""

from typing import Any

from flask import Blueprint, render_template

from dispatcher.model import Schedule
from dispatcher.queue import Queue, queues
from dispatcher.queue.recurring import Schedules, next_ticks, rule_of, told

PAGE = 200
NEXT = 3


def add(views: Blueprint, queue: Queue) -> None:
    """The views."""
    all_schedules = Schedules(queue)

    @views.get("/ui/queues")
    def show_queues() -> str:
        return render_template("queues.html", queues=queues.listed(queue))

    @views.get("/ui/schedules")
    def show_schedules() -> str:
        found = all_schedules.page("", PAGE)
        last = {r["task_id"]: r for r in queue.signs([s.last_task_id for s in found if s.last_task_id])}
        rows = [_schedule(one, last.get(one.last_task_id or 0)) for one in found]
        return render_template("schedules.html", schedules=rows, more=len(found) == PAGE)


def _schedule(one: Schedule, last: dict[str, Any] | None) -> dict[str, Any]:
    rule, task = rule_of(one), told(one)
    coming = [(tick, rule.local(tick)) for tick in next_ticks(one, NEXT)]
    return {
        **one._asdict(), "words": rule.words(), "coming": coming, "last": last,
        "task_type": task["task_type"], "queue": task.get("queue", "default"),
    }  # fmt: skip
