"""What a task has logged."""

from flask import Blueprint, Response

from dispatcher.queue import Queue
from dispatcher.queue.output import lines_of
from dispatcher.routes import body, show
from dispatcher.routes.tasks import known


def blueprint(queue: Queue) -> Blueprint:
    """The view."""
    views = Blueprint("output", __name__)

    @views.get("/task/<int:task_id>/log")
    def get_log(task_id: int) -> Response:
        body.known_arguments()
        row = queue.task(known(task_id))
        told = {"task_id": task_id, "status": row["status"], "attempts": row["attempts"]}
        return show.success({**told, "lines": lines_of(queue.output(task_id))})

    return views
