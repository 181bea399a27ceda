"""Looking at tasks and waiting for them."""

from flask import Blueprint, Response, request

from dispatcher.errors import Invalid, NotFound
from dispatcher.model import State, TaskFilter
from dispatcher.queue import Queue, why
from dispatcher.routes import body, show
from dispatcher.routes.direct import Direct
from dispatcher.routes.models import WaitTasks

PAGE = 500
MAX_ID = 2**53
FILTERS = ("status", "queue", "task_type", "tag", "ids", "limit", "cursor")


def blueprint(queue: Queue, direct: Direct) -> Blueprint:
    """The views."""
    views = Blueprint("tasks", __name__)

    @views.get("/task/<int:task_id>")
    def get_task(task_id: int) -> show.Reply:
        body.known_arguments("wait")
        row = queue.task(known(task_id), body.query_seconds("wait", 25))
        told = {**row, "waiting_because": why.because(queue, row)}
        return show.envelope(show.task(told, queue.output(task_id)))

    @views.get("/task/<int:task_id>/result")
    def get_result(task_id: int) -> Response | show.Reply:
        body.known_arguments()
        row = queue.task(known(task_id))
        if row["sha256"] is not None:
            headers = {"Content-Length": str(row["bytes"]), "Content-Security-Policy": "sandbox"}  # a page stays inert
            return Response(queue.result_parts(task_id), content_type=row["media_type"], headers=headers)
        if row["result"] is None:
            raise NotFound(f"result of task {task_id} ({row['status']})")
        return show.Reply(row["result"])

    @views.get("/tasks")
    def get_tasks() -> show.Reply:
        body.known_arguments(*FILTERS)
        limit = body.query_int("limit", 100, 1, PAGE) or PAGE
        wanted = _filter()
        rows = queue.tasks(wanted, body.query_int("cursor", None, 1, MAX_ID), limit)
        last = rows[-1]["task_id"] if rows else 0
        more = len(rows) == limit or (rows and queue.tasks(wanted, last, 1))
        cursor = f'"{last}"' if more else "null"
        return show.envelope(f'{{"tasks":{show.tasks(rows)},"next_cursor":{cursor}}}')

    @direct.post(views, "/wait-tasks")
    def wait_tasks(sent: bytes) -> show.Reply:
        asked = body.parse(WaitTasks, sent)
        ended, still_open = queue.wait_tasks(asked.task_ids, asked.wait_seconds)
        return show.envelope(f'{{{show.all_ended(ended, asked.brief)},"open":{still_open}}}')

    return views


def known(task_id: int) -> int:
    """The id, if one like it can exist. Raises NotFound."""
    if task_id > MAX_ID:
        raise NotFound(f"task {task_id}")
    return task_id


def _filter() -> TaskFilter:
    return TaskFilter(_state(), _name("queue"), _name("task_type"), _name("tag"), _ids())


def _state() -> State | None:
    text = request.args.get("status")
    try:
        return None if text is None else State(text)
    except ValueError:
        raise Invalid("status", f"must be one of {', '.join(state.value for state in State)}") from None


def _name(argument: str) -> str | None:
    text = request.args.get(argument)
    return None if text is None else body.name(argument, text)


def _ids() -> tuple[int, ...] | None:
    text = request.args.get("ids")
    if text is None:
        return None
    parts = text.split(",")
    if len(parts) > PAGE or not all(p.isascii() and p.isdigit() and len(p) <= 15 for p in parts):
        raise Invalid("ids", f"must be at most {PAGE} task ids with commas between them")
    return tuple(int(part) for part in parts)
