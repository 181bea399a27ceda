"""Control over one task, and over many by ids or filter; and how long ended tasks are kept."""

from collections.abc import Mapping
from typing import Any

from flask import Blueprint

from dispatcher.errors import Invalid, NotFinal, NotFound, NotUnique
from dispatcher.model import FINAL, State, TaskFilter
from dispatcher.queue import Queue, bulk, options
from dispatcher.queue.control import Edit
from dispatcher.queue.retention import ANY
from dispatcher.routes import body, models, show
from dispatcher.routes.submit import in_ms, limit_ms, text_of_data, webhooks_on
from dispatcher.routes.tasks import known

RUNS = "it runs and was told to stop; delete it when it has ended"


def blueprint(queue: Queue, defaults_ms: Mapping[State, int]) -> Blueprint:
    """The views; `defaults_ms` are the settings' retentions."""
    views = Blueprint("bulk", __name__)
    _one(views, queue)

    @views.post("/tasks/<any(cancel, retry, delete):action>")
    def tasks(action: str) -> show.Reply:
        order = _order(bulk.Action(action), body.parse(models.Bulk), queue.now().wall)
        return show.success(_done(bulk.run(queue, order), order))

    @views.get("/retention")
    def get_retention() -> show.Reply:
        body.known_arguments()
        return show.success(_retention(queue, defaults_ms))

    @views.post("/retention")
    def set_retention() -> show.Reply:
        asked = body.parse(models.Retention)
        given = {State(name.partition("_")[0]): getattr(asked, name) for name in asked.model_fields_set - {"queue"}}
        if not given:
            raise Invalid("", "name at least one of completed_seconds, failed_seconds, cancelled_seconds")
        queue.keep_for(asked.queue or ANY, given)
        return show.success(_retention(queue, defaults_ms))

    return views


def _one(views: Blueprint, queue: Queue) -> None:
    @views.post("/task/<int:task_id>/cancel")
    def cancel(task_id: int) -> show.Reply:
        body.nothing()
        return _verdict(task_id, queue.cancel([known(task_id)])[task_id])

    @views.post("/task/<int:task_id>/retry")
    def retry(task_id: int) -> show.Reply:
        body.nothing()
        return _verdict(task_id, queue.retry([known(task_id)])[task_id])

    @views.patch("/task/<int:task_id>")
    def edit(task_id: int) -> show.Reply:
        asked = body.parse(models.EditTask)
        row = queue.change(known(task_id), _edit(queue, task_id, asked))
        return show.success({"task_id": task_id, "status": row.state.value, "generation": row.generation})

    @views.delete("/task/<int:task_id>")
    def delete(task_id: int) -> show.Reply:
        body.known_arguments("force")
        force = body.query_int("force", 0, 0, 1) == 1
        verdict = queue.remove(known(task_id), force)
        if verdict == "not_final" and force:
            raise NotFinal(task_id, RUNS)
        return _verdict(task_id, verdict)


def _verdict(task_id: int, verdict: str) -> show.Reply:
    if verdict == "not_found":
        raise NotFound(f"task {task_id}")
    if verdict == "not_final":
        raise NotFinal(task_id)
    if verdict == "not_unique":
        raise NotUnique(task_id)
    return show.success({"task_id": task_id, "verdict": verdict})


# edit


def _edit(queue: Queue, task_id: int, asked: Any) -> Edit:
    """What an edit says, checked. Raises Invalid, TooLarge and NotFound."""
    given: set[str] = asked.model_fields_set
    if not given:
        raise Invalid("", "name at least one field to change")
    if asked.run_at is not None and asked.delay_seconds is not None:
        raise Invalid("delay_seconds", "not together with run_at")
    if asked.webhook is not None:
        webhooks_on(queue, "webhook")
    columns: dict[str, Any] = {}
    if "task_data" in given:
        queue.schemas.check(queue.task(task_id)["task_type"], asked.task_data, "task_data")
        columns["data"] = text_of_data(asked.task_data, "task_data")
    if asked.run_at is not None:
        columns["run_at"] = int(asked.run_at.timestamp() * 1000)
    if "timeout_seconds" in given:
        columns["timeout_ms"] = limit_ms(asked.timeout_seconds)
    columns |= {name: getattr(asked, name) for name in ("priority", "max_attempts") if getattr(asked, name) is not None}
    tags = tuple(asked.tags) if "tags" in given else None
    wanted = asked.model_dump(mode="json", include=options.NAMES & given)
    return Edit(columns, asked.queue, in_ms(asked.delay_seconds), tags, wanted)


# many


def _order(action: bulk.Action, asked: models.Bulk, wall: int) -> bulk.Order:
    if (asked.filter is None) == (asked.task_ids is None):
        raise Invalid("filter", "give either filter or task_ids")
    if asked.task_ids is not None:
        ids = tuple(dict.fromkeys(asked.task_ids))
        return bulk.Order(action, TaskFilter(ids=ids), asked.dry_run)
    wanted = asked.filter
    if wanted is None or not wanted.model_fields_set:
        raise Invalid("filter", "must say something: nothing is done to all tasks at once")
    older, newer = in_ms(wanted.older_than_seconds), in_ms(wanted.newer_than_seconds)
    chosen = TaskFilter(
        state=None if wanted.status is None else State(wanted.status),
        queue=wanted.queue,
        task_type=wanted.task_type,
        tag=wanted.tag,
        before=None if older is None else wall - older,
        since=None if newer is None else wall - newer,
    )
    return bulk.Order(action, chosen, asked.dry_run, asked.cursor or 0)


def _done(done: bulk.Done, order: bulk.Order) -> dict[str, Any]:
    told: dict[str, Any] = {
        "dry_run": order.dry_run,
        "matched": done.matched,
        "changed": done.changed,
        "verdicts": dict(done.verdicts),
        "sample_ids": done.sample,
        "next_cursor": done.cursor,
    }
    if done.each:
        told["tasks"] = [{"task_id": task_id, "verdict": verdict} for task_id, verdict in done.each.items()]
    return told


# retention


def _retention(queue: Queue, defaults_ms: Mapping[State, int]) -> dict[str, Any]:
    kept = queue.retention()
    names = sorted({name for name, _ in kept if name != ANY})
    general = {state: kept.get((ANY, state), defaults_ms[state] / 1000) for state in FINAL}
    queues = {name: {_field(state): kept[name, state] for state in State if (name, state) in kept} for name in names}
    return {"default": {_field(state): general[state] for state in State if state in FINAL}, "queues": queues}


def _field(state: State) -> str:
    return f"{state.value}_seconds"
