"""Blame: which workers do not get which types, and forgiving them; what types want unless their tasks say otherwise."""

import json
import logging

from flask import Blueprint
from pydantic import ValidationError

from dispatcher.clock import moment
from dispatcher.errors import NotFound
from dispatcher.queue import Queue
from dispatcher.routes import body, models, show, worker_models

log = logging.getLogger("taskmill.attempts")


def blueprint(queue: Queue) -> Blueprint:
    """The views."""
    views = Blueprint("attempts", __name__)

    @views.get("/blames")
    def blames() -> show.Reply:
        body.known_arguments()
        found = [{**row, "blamed_at": moment(row["blamed_at"])} for row in queue.blames()]
        return show.success({"blames": found})

    @views.post("/forgive")
    def forgive() -> show.Reply:
        asked = body.parse(models.Forgive)
        forgiven = queue.forgive(asked.worker_id, asked.task_type)
        if not forgiven:
            raise NotFound(f"blame of {asked.worker_id}{f' for {asked.task_type}' if asked.task_type else ''}")
        return show.success({"worker_id": asked.worker_id, "forgiven": forgiven})

    return views


def defaults_of(told: worker_models.Registration) -> dict[str, str | None]:
    """What types want, as JSON text; what is wrong is left out: it must not silence a worker."""
    found: dict[str, str | None] = {}
    for name, value in told.defaults.items():
        try:
            wanted = worker_models.TypeDefaults.model_validate(value).model_dump(exclude_none=True)
        except ValidationError as error:
            log.warning("the defaults of type %s cannot be used: %s", name, body.fault(error))
            continue
        found[name] = json.dumps(wanted, sort_keys=True) if wanted else None
    return found
