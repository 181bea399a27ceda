"""What each request may hold: pydantic models, from which OpenAPI is generated as well.

Strict on submit and control (an unknown field is refused by name), tolerant on claim, report and heartbeat
(`worker_models.py`), so that workers and dispatchers of neighbouring versions work together (DESIGN section 5).
"""

import dataclasses
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    create_model,
)

from dispatcher import outward
from dispatcher.config import TEN_YEARS
from dispatcher.queue.options import Options

MAX_INT = 2**53
MOST_TASKS = 10_000  # of a bulk submit
NAME = r"^[A-Za-z0-9_.:-]{1,128}$"
Name = Annotated[str, Field(pattern=NAME)]
Key = Annotated[str, Field(min_length=1, max_length=128)]
TaskId = Annotated[int, Field(ge=1, le=MAX_INT)]
RequestId = Annotated[int, Field(ge=1, le=MAX_INT)]
LeaseId = Annotated[str, Field(max_length=64)]


def _moment(value: object) -> datetime:
    """A moment in RFC 3339, with its offset from UTC."""
    if not isinstance(value, str):
        raise ValueError("must be text in RFC 3339, like 2026-11-22T09:00:00Z")
    text = value[:-1] + "+00:00" if value.endswith(("Z", "z")) else value
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("must be a moment in RFC 3339, like 2026-11-22T09:00:00Z") from None
    if moment.tzinfo is None or not 1970 <= moment.year < 9999:
        raise ValueError("must be after 1970 and say its offset from UTC, like 2026-11-22T09:00:00Z")
    return moment


def _unique_for(value: object) -> object:
    """While the twin is unfinished, or a period."""
    if value != "unfinished" and (isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0):
        raise ValueError('must be "unfinished" or a number of seconds above 0')
    if isinstance(value, (int, float)) and value > TEN_YEARS:
        raise ValueError("must be at most ten years")
    return value


UNIQUE_FOR = {"anyOf": [{"const": "unfinished"}, {"type": "number", "exclusiveMinimum": 0, "maximum": TEN_YEARS}]}


def _webhook(url: str) -> str:
    if fault := outward.fault_of(url):
        raise ValueError(fault)
    return url


WebhookUrl = Annotated[str, Field(max_length=outward.LONGEST, pattern="^https?://"), AfterValidator(_webhook)]


class Strict(BaseModel):
    """An unknown field is an error."""

    model_config = ConfigDict(extra="forbid", strict=True, defer_build=True)


class Tolerant(BaseModel):
    """Unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore", strict=True, defer_build=True)


class Backoff(Strict):
    """How long a failed task waits for its next attempt."""

    first_seconds: float = Field(2, ge=0, le=TEN_YEARS)
    factor: float = Field(4, ge=1, le=100, description="each wait is so many times longer")
    max_seconds: float = Field(3600, ge=0, le=TEN_YEARS)
    jitter: float = Field(0.2, ge=0, le=1, description="the part of a wait by which it may be shorter or longer")


class SubmitTask(Strict):
    """One task."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"task_type": "prime", "task_data": {"limit": 100000, "method": "sieve"}}]}
    )
    task_type: Name
    task_data: dict[str, Any] = Field(default_factory=dict, description="what the handler gets: a JSON object, ≤ 1 MiB")
    queue: Name = "default"
    priority: int = Field(0, ge=-(2**31), lt=2**31, description="higher first within a queue")
    run_at: Annotated[datetime, BeforeValidator(_moment)] | None = Field(None, description="RFC 3339; not before then")
    delay_seconds: float | None = Field(None, ge=0, le=TEN_YEARS, description="instead of run_at")
    max_attempts: int | None = Field(None, ge=1, le=1000)
    timeout_seconds: float | None = Field(None, gt=0, le=TEN_YEARS, description="the longest one attempt may run")
    backoff: Backoff | None = Field(None, description="how long it waits for its next attempt")
    wait_seconds: float | None = Field(None, gt=0, le=TEN_YEARS, description="fails if nobody took it so long")
    total_seconds: float | None = Field(None, gt=0, le=TEN_YEARS, description="the longest all attempts may take")
    idempotency_key: Key | None = Field(None, description="the same key with the same body submits once")
    tags: list[Name] = Field(default_factory=list, max_length=32)
    memory_mb: int | None = Field(None, ge=16, le=2**24, description="MiB; the attempt that needs more fails")
    unique_key: Key | None = Field(None, description="while a twin with this key exists, its id is the answer")
    unique_for: Annotated[Any, BeforeValidator(_unique_for), WithJsonSchema(UNIQUE_FOR)] = Field(
        "unfinished", description="how long a twin counts: while it is unfinished, or seconds since its submit"
    )
    requires: list[Name] = Field(default_factory=list, max_length=16, description="labels that its worker must have")
    key: Key | None = Field(None, description="like user:42; queues may limit the tasks of each key")
    webhook: WebhookUrl | None = Field(None, description="told when the task has ended (docs/webhooks.md)")


class Rate(Strict):
    """So many starts in a stretch of time."""

    count: int = Field(ge=1, le=1_000_000)
    period_seconds: float = Field(ge=0.1, le=30 * 86400)


class QueueChanges(Strict):
    """Settings of a queue to be changed; null takes a limit away."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"max_running": 10, "rate": None}]})
    paused: bool | None = None
    max_running: int | None = Field(None, ge=0, le=1_000_000, description="tasks of the queue that run at a time")
    rate: Rate | None = Field(None, description="tasks of the queue that may start in a stretch of time")
    weight: int | None = Field(None, ge=1, le=1_000, description="its part of the work beside other queues; null is 1")
    max_waiting: int | None = Field(None, ge=0, le=MAX_INT, description="above it submits are answered 429")
    key_running: int | None = Field(None, ge=1, le=1_000_000, description="tasks of one key that run at a time")
    key_rate: Rate | None = Field(None, description="tasks of one key that may start in a stretch of time")


class Nothing(Strict):
    """An empty object, where a path says it all."""


class SomeTasks(SubmitTask):
    """One task, or many that differ in nothing but their data."""

    each: list[dict[str, Any]] | None = Field(
        None, min_length=1, max_length=MOST_TASKS, description="a task for each of these, instead of task_data"
    )


class SubmitTasks(Strict):
    """Many tasks, all or none."""

    tasks: list[SomeTasks] = Field(min_length=1, max_length=MOST_TASKS, description="10,000 in all")
    idempotency_key: Key | None = Field(
        None, description="of the request: the same key with the same body submits once"
    )


class TaskIds(Strict):
    """Tasks by their ids."""

    task_ids: list[TaskId] = Field(min_length=1, max_length=1_000)


EDITABLE = frozenset({"task_data", "queue", "priority", "run_at", "delay_seconds", "max_attempts", "timeout_seconds",
                      "tags"}) | {field.name for field in dataclasses.fields(Options)} - {"unique_key"}  # fmt: skip
EditTask = create_model(
    "EditTask",
    __base__=Strict,
    __doc__="What to change of a waiting task; a field that is not there stays as it is.",
    **{name: (field.rebuild_annotation(), None) for name, field in SubmitTask.model_fields.items() if name in EDITABLE},
)  # type: ignore[call-overload]


class BulkFilter(Strict):
    """The tasks for a bulk action: those that match all of it. Ages count from the end, or else from the submit."""

    status: Literal["blocked", "pending", "in_progress", "completed", "failed", "cancelled"] | None = None
    queue: Name | None = None
    task_type: Name | None = None
    tag: Name | None = None
    older_than_seconds: float | None = Field(None, ge=0, le=TEN_YEARS)
    newer_than_seconds: float | None = Field(None, ge=0, le=TEN_YEARS)


class Bulk(Strict):
    """A bulk action, on tasks by their ids or by a filter."""

    filter: BulkFilter | None = None
    task_ids: list[TaskId] | None = Field(None, min_length=1, max_length=1_000)
    dry_run: bool = Field(False, description="say what would be changed, change nothing")
    cursor: TaskId | None = Field(None, description="the next_cursor of the answer before: go on from there")


class Retention(Strict):
    """How long ended tasks are kept; null: no longer said here."""

    queue: Name | None = Field(None, description="absent: every queue that says nothing itself")
    completed_seconds: int | None = Field(None, ge=0, le=10 * TEN_YEARS)
    failed_seconds: int | None = Field(None, ge=0, le=10 * TEN_YEARS)
    cancelled_seconds: int | None = Field(None, ge=0, le=10 * TEN_YEARS)


class Migrate(Strict):
    """Where the queue shall move."""

    to: str = Field(min_length=1, max_length=2048, description="postgresql://user:password@host:5432/database")
    source: str | None = Field(None, alias="from", max_length=4096, description="refused when it is another file")
    dry_run: bool = Field(False, description="look at both sides, change nothing")


class WaitTasks(TaskIds):
    """Tasks to wait for."""

    wait_seconds: float = Field(0, ge=0, le=25)
    brief: bool = Field(False, description="most tasks come as arrays, what they have in common once")


class WorkerOrder(Strict):
    """What a worker shall do: run, be quiet (finish, take nothing new), sleep (also give back what it has not begun),
    or stop."""

    state: Literal["run", "quiet", "sleep", "stop"]
    when: Literal["after", "now"] | None = Field(
        None, description="of sleep and stop: after the running tasks (default), or now"
    )


class Forgive(Strict):
    """A worker that shall get a type again, without a type all of them."""

    worker_id: Name
    task_type: Name | None = None
