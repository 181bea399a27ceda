"""Workers: who they are, and orders to them."""

import json

from flask import Blueprint

from dispatcher.errors import Invalid, NotFound
from dispatcher.queue import Queue, overview
from dispatcher.queue.workers import HURRIED
from dispatcher.routes import body, show
from dispatcher.routes.models import WorkerOrder


def blueprint(queue: Queue) -> Blueprint:
    """The views."""
    views = Blueprint("workers", __name__)

    @views.get("/workers")
    def get_workers() -> show.Reply:
        body.known_arguments()
        return show.envelope(json.dumps({"workers": overview.workers(queue)}))

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
