"""The OpenAPI document, generated from the models that validate and the tables of operations."""

from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from dispatcher import errors
from dispatcher.config import BODY_LIMIT, VERSION
from dispatcher.errors import DispatcherError
from dispatcher.model import State
from dispatcher.routes import models, worker_models
from dispatcher.routes.api import queues, status, tasks, work
from dispatcher.routes.api.operation import AT, LEASE, Operation
from dispatcher.routes.auth import OPEN_PATHS

OPERATIONS = {"tasks": tasks, "workers": work, "queues and schedules": queues, "dispatcher": status}
# models that views apply to parts of a body, or by its form
TAKEN_APART = (worker_models.Outcome, worker_models.ClassicHeartbeat, worker_models.TypeDefaults)
EVERYWHERE = (errors.Invalid, errors.Unauthorized, errors.Forbidden, errors.TooManyGuesses,
              errors.DispatcherError, errors.Unavailable)  # fmt: skip
WRITES = (errors.TooLarge, errors.StorageFull)
DESCRIPTION = f"""A distributed task queue over HTTP.

Units: a field or argument whose name ends in `_seconds` is a number of seconds, `wait` too; `memory_mb` is MiB; `bytes`
and sizes are bytes; times are RFC 3339 UTC (`{AT}`); `share` and `jitter` run from 0 to 1. A request body has
at most {BODY_LIMIT} bytes. Replies are `{{"status": "success", "data": …}}`, errors
`{{"status": "error", "code": "…", "message": "…", "error": "…"}}`; `message` names field and reason.
"""
NAME = {"type": "string", "pattern": models.NAME}
ID = {"type": "integer", "minimum": 1, "maximum": models.MAX_INT}
PATH_PARAMETERS: dict[str, tuple[dict[str, Any], str, Any]] = {
    "task_id": (ID, "the task", 1),
    "lease_id": ({"type": "string", "pattern": "^[0-9]{1,18}-[0-9a-f]{16}$"}, "the lease", LEASE),
    "worker_id": (NAME, "the worker's name", "worker-1"),
    "name": (NAME, "its name", "nightly"),
    "action": ({"enum": ["cancel", "retry", "delete"]}, "what is done to each", "cancel"),
}
QUERY_PARAMETERS: dict[str, tuple[dict[str, Any], str]] = {
    "store_id": ({"type": "string"}, "the store that gave the lease"),
    "wait": ({"type": "number", "minimum": 0, "maximum": 25}, "seconds to wait for the end"),
    "status": ({"enum": [state.value for state in State]}, "only those in this state"),
    "queue": (NAME, "only those in this queue"),
    "task_type": (NAME, "only those of this type"),
    "tag": (NAME, "only those with this tag"),
    "ids": ({"type": "string", "pattern": "^[0-9]{1,15}(,[0-9]{1,15}){0,499}$"}, "only these, with commas between"),
    "limit": ({"type": "integer", "minimum": 1, "maximum": 500}, "how many on a page (100)"),
    "cursor": (ID, "the next_cursor of the page before"),
    "after": ({"type": "string"}, "where the answer before ended"),
    "force": ({"enum": [0, 1]}, "1: cancel it first, if need be"),
    "copy": (NAME, "a name that you choose for the copy"),
    "ready": ({"type": "string"}, "there at all: answer 503 while the store takes no writes"),
}
ERROR = {
    "type": "object",
    "required": ["status", "code", "message", "error"],
    "properties": {
        "status": {"const": "error"},
        "code": {"type": "string"},
        "message": {"type": "string"},
        "error": {"type": "string", "description": "the message again, for classic clients"},
    },
}


@cache
def document() -> dict[str, Any]:
    """The whole document."""
    paths: dict[str, Any] = {}
    for tag, table in OPERATIONS.items():
        for operation in table.OPERATIONS:
            paths.setdefault(operation.path, {})[operation.method] = {"tags": [tag], **_operation(operation)}
    components = {
        "schemas": {**_schemas(), "Error": ERROR},
        "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "DISPATCHER_TOKEN"}},
    }
    info = {"title": "Taskmill", "version": VERSION, "description": DESCRIPTION}
    return {
        "openapi": "3.1.0",
        "info": info,
        "tags": [{"name": tag, "description": (table.__doc__ or "").strip()} for tag, table in OPERATIONS.items()],
        "paths": paths,
        "components": components,
        "security": [{"token": []}],
    }


def _schemas() -> dict[str, Any]:
    """Of all that is asked and answered; a schema of a reply describes what goes out."""
    listed = [operation for table in OPERATIONS.values() for operation in table.OPERATIONS]
    asked = {operation.model for operation in listed if operation.model}.union(TAKEN_APART)
    told = {operation.reply for operation in listed if operation.reply}
    ordered = sorted(asked | told, key=lambda model: model.__name__)
    used: Any = [(model, "validation") for model in ordered]
    _, schemas = models_json_schema(used, ref_template="#/components/schemas/{model}")
    return dict(schemas["$defs"])


def _operation(operation: Operation) -> dict[str, Any]:
    told: dict[str, Any] = {
        "operationId": f"{operation.method}{operation.path.replace('/', '_')}".replace("{", "").replace("}", ""),
        "summary": operation.summary,
        "description": operation.description,
        "responses": {**_refusals(operation), **_replies(operation)},
    }
    if operation.model:
        content = _json(_reference(operation.model), operation.asks)
        told["requestBody"] = {"required": operation.model is not models.Nothing, "content": content}
    elif operation.method == "put":
        told["requestBody"] = {"required": True, "content": {"text/plain": {"example": "hello"}, "*/*": {}}}
    in_path = [_in_path(part[1:-1]) for part in operation.path.split("/") if part.startswith("{")]
    if parameters := in_path + [_in_query(name) for name in operation.query]:
        told["parameters"] = parameters
    return told | ({"security": []} if operation.path in OPEN_PATHS else {})


def _replies(operation: Operation) -> dict[str, Any]:
    """By status, what an answer holds."""
    answer: dict[str, Any] = {"description": "done"}
    if operation.reply:
        schema = _ref(operation.reply)
        says = operation.says if operation.bare else {"status": "success", "data": operation.says}
        answer["content"] = _json(schema if operation.bare else _enveloped(schema), says)
    raw = {"description": "the bytes", "content": {operation.media: {}}}
    if operation.media and not operation.reply:
        raw["content"] = {operation.media: {"example": operation.says}}
        return {str(operation.success): raw}
    told = {str(status): answer for status in (operation.success, *operation.also)}
    return told | ({"200": raw} if operation.media else {})


def _refusals(operation: Operation) -> dict[str, Any]:
    """By status, the codes with what they mean."""
    causes = {*EVERYWHERE, *operation.errors, *(WRITES if operation.method != "get" else ())}
    if operation.path in OPEN_PATHS:
        causes -= {errors.Unauthorized, errors.TooManyGuesses}
    found: dict[str, list[str]] = {}
    for cause in sorted(causes, key=lambda cause: (cause.status, cause.code, cause.__name__)):
        found.setdefault(str(cause.status), []).append(f"`{cause.code}`: {_meaning(cause)}")
    error = {"$ref": "#/components/schemas/Error"}
    return {status: {"description": "\n\n".join(said), "content": _json(error)} for status, said in found.items()}


def _meaning(cause: type[DispatcherError]) -> str:
    return "the dispatcher failed; its log says why" if cause is DispatcherError else (cause.__doc__ or "").strip()


def _enveloped(schema: dict[str, Any]) -> dict[str, Any]:
    properties = {"status": {"const": "success"}, "message": {"type": "string"}, "data": schema}
    return {"type": "object", "required": ["status", "data"], "properties": properties}


def _reference(model: type[BaseModel]) -> dict[str, Any]:
    if model is worker_models.Heartbeat:
        return {"anyOf": [_ref(model), _ref(worker_models.ClassicHeartbeat)]}
    return _ref(model)


def _ref(model: type[BaseModel]) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def _in_path(name: str) -> dict[str, Any]:
    schema, description, example = PATH_PARAMETERS[name]
    said = {"name": name, "in": "path", "required": True, "schema": schema}
    return {**said, "description": description, "example": example}


def _in_query(name: str) -> dict[str, Any]:
    schema, description = QUERY_PARAMETERS[name]
    said = {"name": name, "in": "query", "required": name == "store_id", "schema": schema}
    return {**said, "description": description}


def _json(schema: dict[str, Any], example: Any = None) -> dict[str, Any]:
    return {"application/json": {"schema": schema, **({} if example is None else {"example": example})}}
