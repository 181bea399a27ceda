"""`GET /events` and `/task/<id>/events`: server-sent events (docs/events.md).

Each stream holds a thread of the server, so their number is bounded, in all and for one address; one more is answered
503 with Retry-After.
"""

from flask import Blueprint, Response, request

from dispatcher.queue import Queue
from dispatcher.routes import body
from dispatcher.routes.guesses import source
from dispatcher.routes.tasks import known


def blueprint(queue: Queue) -> Blueprint:
    """The views."""
    views = Blueprint("events", __name__)

    @views.get("/events")
    def events() -> Response:
        body.known_arguments("after")
        return _stream(queue, None)

    @views.get("/task/<int:task_id>/events")
    def events_of_task(task_id: int) -> Response:
        body.known_arguments("after")
        queue.task(known(task_id))
        return _stream(queue, task_id)

    return views


def _stream(queue: Queue, task_id: int | None) -> Response:
    last_id = request.headers.get("Last-Event-ID") or request.args.get("after")
    stream = queue.events.listen(task_id, last_id, source(request.remote_addr or ""))
    response = Response(iter(stream), mimetype="text/event-stream")
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"  # a proxy must pass each event on at once
    response.call_on_close(stream.close)
    return response
