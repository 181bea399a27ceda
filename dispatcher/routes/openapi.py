"""OpenAPI, generated from the models that validate."""

from functools import cache
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from dispatcher.config import VERSION
from dispatcher.routes import models


class Operation(NamedTuple):
    """One endpoint: what it takes and what it does."""

    method: str
    path: str
    model: type[BaseModel] | None
    summary: str
    success: int = 200


OPERATIONS = (
    Operation("post", "/submit-task", models.SubmitTask, "Submit one task", 201),
    Operation("post", "/submit-tasks", models.SubmitTasks, "Submit up to 10,000 tasks, all or none", 201),
    Operation("post", "/get-task", models.ClassicClaim, "Claim one task, classic form"),
    Operation("post", "/get-tasks", models.Claim, "Claim tasks; waits up to wait_seconds"),
    Operation("post", "/submit-result", models.ClassicReport, "Report one outcome, classic form"),
    Operation("post", "/submit-results", models.Report, "Report outcomes, each gets a verdict; may claim too"),
    Operation("post", "/report-death", models.Death, "Report an instance that is certainly dead"),
    Operation("post", "/heartbeat", models.Heartbeat, "Renew leases; without instance_id the classic form"),
    Operation("put", "/result/{lease_id}", None, "Put a large or binary result, raw, before its report"),
    Operation("get", "/task/{task_id}", None, "Everything about a task; ?wait=25 waits for its end"),
    Operation("get", "/task/{task_id}/result", None, "The result, raw"),
    Operation("get", "/tasks", None, "Tasks, newest first; status, queue, task_type, tag, ids, limit, cursor"),
    Operation("post", "/wait-tasks", models.WaitTasks, "Those of the tasks that have ended; waits for the first"),
    Operation("post", "/cancel-tasks", models.TaskIds, "Cancel waiting tasks, ask running ones to stop"),
    Operation("get", "/stats", None, "Counts, rates, times, workers"),
    Operation("get", "/health", None, "Liveness; ?ready=1 answers 503 when the store takes no writes"),
    Operation("get", "/openapi.json", None, "This document"),
)
ERROR = {
    "type": "object",
    "required": ["status", "code", "message", "error"],
    "properties": {name: {"type": "string"} for name in ("status", "code", "message", "error")},
}


@cache
def document() -> dict[str, Any]:
    """The whole document."""
    used = [(operation.model, "validation") for operation in OPERATIONS if operation.model]
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
        schema = {"$ref": f"#/components/schemas/{operation.model.__name__}"}
        told["requestBody"] = {"required": True, "content": _json(schema)}
    parameters = [part[1:-1] for part in operation.path.split("/") if part.startswith("{")]
    if parameters:
        told["parameters"] = [_parameter(name) for name in parameters]
    return told


def _parameter(name: str) -> dict[str, Any]:
    kind = "integer" if name == "task_id" else "string"
    return {"name": name, "in": "path", "required": True, "schema": {"type": kind}}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
