"""Operations on tasks: submit, look, wait, cancel, retry, edit, delete."""

from typing import Any, Literal

from pydantic import Field, JsonValue

from dispatcher import errors
from dispatcher.routes import models
from dispatcher.routes.api.operation import AT, Moment, Operation, Reply, Status, TaskVerdict, Text
from dispatcher.routes.tasks import FILTERS


class Submitted(Reply):
    """The new task, or its twin."""

    task_id: int
    task_type: str
    status: Status = "pending"
    max_attempts: int = 3
    created: bool = Field(True, description="false: there was such a task already, task_id names it")


class SubmittedMany(Reply):
    """The new tasks, in the order of the request."""

    task_ids: list[int]
    count: int


class ListedTask(Reply):
    """A task as lists show it."""

    task_id: int
    task_type: str
    task_data: dict[str, Any]
    queue: str
    status: Status
    priority: int
    attempts: int = Field(description="attempts that were counted")
    max_attempts: int
    generation: int = Field(description="raised by an edit and by a retry")
    assigned_to: Text = Field(description="the worker that runs it")
    tags: list[str]
    requires: list[str]
    key: Text
    created_at: Moment
    run_at: Moment | None
    started_at: Moment | None
    finished_at: Moment | None
    timeout_seconds: float | None
    run_seconds: float | None = Field(description="how long the handler ran, seconds")
    cancel_requested: bool
    progress: dict[str, Any] | None
    note: Text
    error: Text
    result: JsonValue = None


class EndedAttempt(Reply):
    """One attempt that has ended."""

    attempt: int
    generation: int
    worker_id: Text
    error: Text
    started_at: Moment | None
    ended_at: Moment | None
    outcome: Text
    counted: bool


class ShownTask(ListedTask):
    """A task with everything; the fields of a result object stand at this level too."""

    attempts_log: list[EndedAttempt]
    waiting_because: JsonValue = Field(description="why it waits, null when it does not")


class TaskPage(Reply):
    """A page of tasks."""

    tasks: list[ListedTask]
    next_cursor: Text = Field(description="the cursor of the next page; null: this is the last one")


class EndTerms(Reply):
    """What the tasks that one report ended have in common."""

    task_type: str
    queue: str
    status: Literal["completed", "failed", "cancelled"]
    attempts: int
    assigned_to: Text
    finished_at: Moment


class EndedTask(EndTerms):
    """What a task ended in."""

    task_id: int
    run_seconds: float | None = Field(description="how long the handler ran, seconds")
    task_data: dict[str, Any]
    result: JsonValue = None
    error: Text = None


class WaitedTasks(Reply):
    """Those that have ended, and how many have not."""

    tasks: list[EndedTask | tuple[int, int, int, dict[str, Any], JsonValue]] = Field(
        description="when asked briefly most as task_id, place in `terms`, milliseconds, task_data, result"
    )
    terms: list[EndTerms] = Field(default_factory=list, description="only when asked briefly")
    open: int


class TaskVerdicts(Reply):
    """What became of each."""

    tasks: list[TaskVerdict]


class TaskLog(Reply):
    """Lines of a task's log."""

    task_id: int
    status: Status
    attempts: int
    lines: list[Any]
    cursor: str = Field(description="give it as `after` to get the lines that follow")


class Edited(Reply):
    """The task after an edit."""

    task_id: int
    status: Status
    generation: int


class BulkDone(Reply):
    """What one step of a bulk action did."""

    dry_run: bool
    matched: int
    changed: int
    verdicts: dict[str, int]
    sample_ids: list[int]
    next_cursor: int | None = Field(description="not null: ask again with this cursor for the rest")
    tasks: list[TaskVerdict] | None = Field(None, description="of an action by ids: the verdict on each")


LISTED: dict[str, Any] = {
    "task_id": 1, "task_type": "prime", "task_data": {"limit": 100000, "method": "sieve"}, "queue": "default",
    "status": "completed", "priority": 0, "attempts": 1, "max_attempts": 3, "generation": 1, "assigned_to": None,
    "tags": [], "requires": [], "key": None, "created_at": AT, "run_at": AT, "started_at": AT, "finished_at": AT,
    "timeout_seconds": None, "run_seconds": 0.021, "cancel_requested": False, "progress": None, "note": None,
    "error": None, "result": {"prime_count": 9592},
}  # fmt: skip
ATTEMPT = {
    "attempt": 1, "generation": 1, "worker_id": "worker-1", "error": None, "started_at": AT, "ended_at": AT,
    "outcome": "completed", "counted": True,
}  # fmt: skip
ENDED = {
    "task_id": 1, "task_type": "prime", "queue": "default", "status": "completed", "attempts": 1, "assigned_to": None,
    "finished_at": AT, "run_seconds": 0.021, "task_data": {"limit": 100000}, "result": {"prime_count": 9592},
}  # fmt: skip
SHOWN = {**LISTED, "attempts_log": [ATTEMPT], "waiting_because": None}
PRIME = {"task_type": "prime", "task_data": {"limit": 100000, "method": "sieve"}}
EVENT = 'id: 5f0c1a2b-1042\nevent: task\ndata: {"task_id":7,"status":"in_progress"}\n\n'
WAITS = "Waiting holds a connection: at most 25 seconds at a time, then ask again."

OPERATIONS = (
    Operation(
        "post", "/submit-task", models.SubmitTask, Submitted, "Submit one task",
        "Durable once answered. 201: a new task, or the same answer again to a repeated `idempotency_key`. 200 with "
        "`created` false: a twin holds the `unique_key`, `task_id` names it. The `task_data` of a known type is "
        "checked against its handler's schema.",
        {"task_id": 1, "task_type": "prime", "status": "pending", "max_attempts": 3}, PRIME, 201, also=(200,),
        errors=(errors.KeyConflict, errors.BacklogFull, errors.Unsupported),
    ),
    Operation(
        "post", "/submit-tasks", models.SubmitTasks, SubmittedMany, "Submit up to 10,000 tasks, all or none",
        "One transaction. Ids stand in the order of the tasks; with a `unique_key` among them `created` says of each "
        "whether it is new. The same bytes under the same `idempotency_key` are answered as they were the first time. "
        "A fault is named with its place, like `tasks[3].task_type`.",
        {"task_ids": [1, 2], "count": 2}, {"tasks": [PRIME, {"task_type": "noop"}]}, 201,
        errors=(errors.KeyConflict, errors.BacklogFull, errors.Unsupported),
    ),
    Operation(
        "get", "/task/{task_id}", None, ShownTask, "Everything about a task; ?wait=25 waits for its end",
        f"State, attempts with their errors, progress, result, why it waits. {WAITS}", SHOWN, query=("wait",),
        errors=(errors.NotFound,),
    ),
    Operation(
        "get", "/task/{task_id}/result", None, None, "The result, raw",
        "JSON, or the bytes that the worker put with their own media type, streamed.", {"prime_count": 9592},
        errors=(errors.NotFound,), media="*/*",
    ),
    Operation(
        "get", "/task/{task_id}/log", None, TaskLog, "The last lines that the task logged, while it runs and after",
        "Of all attempts; give the answer's `cursor` as `after` to get what came since.",
        {"task_id": 1, "status": "in_progress", "attempts": 1, "lines": ["sieving"], "cursor": "9f86d081884c-1"},
        query=("after",), errors=(errors.NotFound,),
    ),
    Operation(
        "get", "/events", None, None, "What becomes of tasks, as server-sent events",
        "Endless (docs/events.md). Resume behind an event with the header Last-Event-ID or `after`.", EVENT,
        query=("after",), media="text/event-stream",
    ),
    Operation(
        "get", "/task/{task_id}/events", None, None, "The same for one task",
        "How it stands comes first; progress, notes, logs and retries are told here too.", EVENT,
        query=("after",), errors=(errors.NotFound,), media="text/event-stream",
    ),
    Operation(
        "get", "/tasks", None, TaskPage, "Tasks, newest first, page by page",
        "All filters must match. Give `next_cursor` as `cursor` for the next page.",
        {"tasks": [LISTED], "next_cursor": None}, query=FILTERS,
    ),
    Operation(
        "post", "/wait-tasks", models.WaitTasks, WaitedTasks, "Those of the tasks that have ended; waits for the first",
        f"Answers at once when any has ended. {WAITS}", {"tasks": [ENDED], "open": 1},
        {"task_ids": [1, 2], "wait_seconds": 0}, errors=(errors.NotFound,),
    ),
    Operation(
        "post", "/cancel-tasks", models.TaskIds, TaskVerdicts, "Cancel waiting tasks, ask running ones to stop",
        "Verdicts: `cancelled`, `cancel_requested` (it runs and was told), `already_final`, `not_found`.",
        {"tasks": [{"task_id": 1, "verdict": "cancelled"}]}, {"task_ids": [1]},
    ),
    Operation(
        "post", "/task/{task_id}/cancel", None, TaskVerdict, "Cancel one task",
        "A waiting task ends at once; a running one is told to stop at once.",
        {"task_id": 1, "verdict": "cancelled"}, errors=(errors.NotFound,),
    ),
    Operation(
        "post", "/task/{task_id}/retry", None, TaskVerdict, "Run a task that has ended again",
        "Its next generation begins, with all its attempts.", {"task_id": 1, "verdict": "retried"},
        errors=(errors.NotFound, errors.NotFinal, errors.NotUnique),
    ),
    Operation(
        "patch", "/task/{task_id}", models.EditTask, Edited, "Change a waiting task",
        "What is not named stays as it is; at least one field must be.",
        {"task_id": 1, "status": "pending", "generation": 2}, {"priority": 10},
        errors=(errors.NotFound, errors.NotWaiting),
    ),
    Operation(
        "delete", "/task/{task_id}", None, TaskVerdict, "Delete a task that has ended; ?force=1 cancels",
        "With `force` a waiting task is deleted too; a running one is told to stop, and answers 409 until it has.",
        {"task_id": 1, "verdict": "deleted"}, query=("force",), errors=(errors.NotFound, errors.NotFinal),
    ),
    Operation(
        "post", "/tasks/{action}", models.Bulk, BulkDone, "Cancel, retry or delete many tasks, by ids or by filter",
        "Either `task_ids` or a `filter` that says something. Many small transactions, not one: while `next_cursor` is "
        "not null ask again with it. `dry_run` counts and changes nothing.",
        {"dry_run": True, "matched": 1, "changed": 0, "verdicts": {"cancelled": 1}, "sample_ids": [1],
         "next_cursor": None},
        {"filter": {"status": "pending", "queue": "default"}, "dry_run": True}, errors=(errors.NotFound,),
    ),
)  # fmt: skip
