"""What a task has logged."""

from flask import Blueprint, request

from dispatcher.queue import Queue
from dispatcher.queue.output import cursor_of, new_lines
from dispatcher.routes import body, show
from dispatcher.routes.tasks import known


def blueprint(queue: Queue) -> Blueprint:
    """The view."""
    views = Blueprint("output", __name__)

    @views.get("/task/<int:task_id>/log")
    def get_log(task_id: int) -> show.Reply:
        body.known_arguments("after")
        row = queue.task(known(task_id))
        told = {"task_id": task_id, "status": row["status"], "attempts": row["attempts"]}
        output = queue.output(task_id)
        lines = new_lines(output, request.args.get("after", ""))
        return show.success({**told, "lines": lines, "cursor": cursor_of(output)})

    return views
