"""Control over tasks: cancelling them."""

from flask import Blueprint

from dispatcher.queue import Queue
from dispatcher.routes import body, show
from dispatcher.routes.models import TaskIds


def blueprint(queue: Queue) -> Blueprint:
    """The views."""
    views = Blueprint("control", __name__)

    @views.post("/cancel-tasks")
    def cancel_tasks() -> show.Reply:
        verdicts = queue.cancel(body.parse(TaskIds).task_ids)
        return show.success({"tasks": [{"task_id": i, "verdict": verdict} for i, verdict in verdicts.items()]})

    return views
