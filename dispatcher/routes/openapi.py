"""OpenAPI, generated from the models that validate."""

from functools import cache
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from dispatcher.config import VERSION
from dispatcher.routes import models, schedules
from dispatcher.routes.auth import OPEN_PATHS
from dispatcher.routes.tasks import FILTERS


class Operation(NamedTuple):
    """One endpoint: what it takes and what it does."""

    method: str
    path: str
    model: type[BaseModel] | None
    summary: str
    success: int = 200
    query: tuple[str, ...] = ()


OPERATIONS = (
    Operation("post", "/submit-task", models.SubmitTask, "Submit one task", 201),
    Operation("post", "/submit-tasks", models.SubmitTasks, "Submit up to 10,000 tasks, all or none", 201),
    Operation("post", "/get-task", models.ClassicClaim, "Claim one task, classic form"),
    Operation("post", "/get-tasks", models.Claim, "Claim tasks; waits up to wait_seconds"),
    Operation("post", "/submit-result", models.ClassicReport, "Report one outcome, classic form"),
    Operation("post", "/submit-results", models.Report, "Report outcomes, each gets a verdict; may claim too"),
    Operation("post", "/report-death", models.Death, "Report an instance that is certainly dead"),
    Operation("post", "/heartbeat", models.Heartbeat, "Renew leases; without instance_id the classic form"),
    Operation("put", "/result/{lease_id}", None, "Put a large or binary result before its report", query=("store_id",)),
    Operation("get", "/task/{task_id}", None, "Everything about a task; ?wait=25 waits for its end", query=("wait",)),
    Operation("get", "/task/{task_id}/result", None, "The result, raw"),
    Operation("get", "/tasks", None, "Tasks, newest first, page by page", query=FILTERS),
    Operation("post", "/wait-tasks", models.WaitTasks, "Those of the tasks that have ended; waits for the first"),
    Operation("post", "/cancel-tasks", models.TaskIds, "Cancel waiting tasks, ask running ones to stop"),
    Operation("get", "/task/{task_id}/log", None, "The last lines that the task logged, while it runs and after"),
    Operation("get", "/events", None, "What becomes of tasks, as server-sent events", query=("after",)),
    Operation("get", "/task/{task_id}/events", None, "The same for one task", query=("after",)),
    Operation("get", "/workers", None, "The workers: what they are and what they were ordered"),
    Operation("patch", "/workers/{worker_id}", models.WorkerOrder, "Have a worker run, be quiet or stop"),
    Operation("post", "/task/{task_id}/cancel", None, "Cancel one task"),
    Operation("post", "/task/{task_id}/retry", None, "Run a task that has ended again"),
    Operation("patch", "/task/{task_id}", models.EditTask, "Change a waiting task"),
    Operation("delete", "/task/{task_id}", None, "Delete a task that has ended; ?force=1 cancels", query=("force",)),
    Operation("post", "/tasks/{action}", models.Bulk, "Cancel, retry or delete many tasks, by ids or by filter"),
    Operation("get", "/retention", None, "How long ended tasks are kept"),
    Operation("post", "/retention", models.Retention, "Set how long a queue's ended tasks are kept"),
    Operation("get", "/schedules", None, "Recurring schedules by name, page by page", query=("limit", "after")),
    Operation("post", "/schedules", schedules.NewSchedule, "Make a recurring schedule, or look what it would do", 201),
    Operation("get", "/schedules/{name}", None, "A schedule and its next ticks"),
    Operation("patch", "/schedules/{name}", schedules.ScheduleChanges, "Change a schedule, pause it, resume it"),
    Operation("delete", "/schedules/{name}", None, "Delete a schedule; the tasks that it submitted stay"),
    Operation("post", "/schedules/{name}/run", schedules.RunSchedule, "Submit a schedule's task now", 201),
    Operation("get", "/queues", None, "All queues: what they hold, their settings"),
    Operation("get", "/queues/{name}", None, "One queue"),
    Operation("patch", "/queues/{name}", models.QueueChanges, "Change settings of a queue; null takes a limit away"),
    Operation("post", "/queues/{name}/pause", models.Nothing, "No task of the queue starts until it is resumed"),
    Operation("post", "/queues/{name}/resume", models.Nothing, "Go on"),
    Operation("get", "/backup", None, "A copy of the database file; 202 while it is being made", query=("copy",)),
    Operation("post", "/migrate", models.Migrate, "Move the queue into a database, while it goes on", 202),
    Operation("get", "/migrate", None, "How the present move stands, or the last one"),
    Operation("get", "/blames", None, "Workers that do not get a type, because it fails on them alone"),
    Operation("post", "/forgive", models.Forgive, "Let a worker have a type again"),
    Operation("get", "/stats", None, "Counts, rates, times, workers"),
    Operation("get", "/health", None, "Liveness; ?ready=1: 503 when the store takes no writes", query=("ready",)),
    Operation("get", "/openapi.json", None, "This document"),
)
# models that views apply to parts of a body, or by its form
TAKEN_APART = (models.Outcome, models.ClassicHeartbeat, models.TypeDefaults)
NUMBERS = frozenset({"task_id", "limit", "cursor", "wait", "force"})
ERROR = {
    "type": "object",
    "required": ["status", "code", "message", "error"],
    "properties": {name: {"type": "string"} for name in ("status", "code", "message", "error")},
}


@cache
def document() -> dict[str, Any]:
    """The whole document."""
    found = {operation.model for operation in OPERATIONS if operation.model}.union(TAKEN_APART)
    used = [(model, "validation") for model in sorted(found, key=lambda model: model.__name__)]
    _, schemas = models_json_schema(used, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
    paths: dict[str, Any] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation)
    components = {
        "schemas": {**schemas["$defs"], "Error": ERROR},
        "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
    }
    info = {"title": "Taskmill", "version": VERSION, "description": "A distributed task queue over HTTP."}
    return {"openapi": "3.1.0", "info": info, "paths": paths, "components": components, "security": [{"token": []}]}


def _operation(operation: Operation) -> dict[str, Any]:
    error = {"description": "names field and reason", "content": _json({"$ref": "#/components/schemas/Error"})}
    told: dict[str, Any] = {
        "operationId": f"{operation.method}{operation.path.replace('/', '_')}".replace("{", "").replace("}", ""),
        "summary": operation.summary,
        "responses": {str(operation.success): {"description": "done"}, "4XX": error, "5XX": error},
    }
    if operation.model:
        told["requestBody"] = {"required": True, "content": _json(_reference(operation.model))}
    elif operation.method == "put":
        told["requestBody"] = {"required": True, "content": {"*/*": {}}}
    in_path = [_parameter(part[1:-1], "path") for part in operation.path.split("/") if part.startswith("{")]
    if parameters := in_path + [_parameter(name, "query") for name in operation.query]:
        told["parameters"] = parameters
    return told | ({"security": []} if operation.path in OPEN_PATHS else {})


def _reference(model: type[BaseModel]) -> dict[str, Any]:
    reference = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"anyOf": [reference, _reference(models.ClassicHeartbeat)]} if model is models.Heartbeat else reference


def _parameter(name: str, place: str) -> dict[str, Any]:
    kind = "integer" if name in NUMBERS else "string"
    return {"name": name, "in": place, "required": place == "path" or name == "store_id", "schema": {"type": kind}}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
