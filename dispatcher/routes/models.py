"""What each request may hold: pydantic models, from which OpenAPI is generated as well.

Strict on submit and control (an unknown field is refused by name), tolerant on claim, report and heartbeat, so that
workers and dispatchers of neighbouring versions work together (DESIGN section 5).
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
    JsonValue,
    WithJsonSchema,
    create_model,
)

from dispatcher import outward
from dispatcher.config import TEN_YEARS
from dispatcher.queue.options import Options
from dispatcher.queue.terms import LONGEST_WAIT_MS

MAX_INT = 2**53
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


class SubmitTasks(Strict):
    """Many tasks, all or none."""

    tasks: list[SubmitTask] = Field(min_length=1, max_length=10_000)
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


class ClassicClaim(Tolerant):
    """A claim in the classic form."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"worker_id": "worker-1"}]})
    worker_id: Name
    task_types: list[Name] | None = None


class KnownOrders(Tolerant):
    """The orders that a worker knows."""

    state: str = Field("run", max_length=16)
    now: bool = False
    cancel: list[LeaseId] = Field(default_factory=list, max_length=10_000)


class ClaimTerms(Tolerant):
    """What a claim asks for."""

    request_id: RequestId
    max_tasks: int = Field(ge=0, le=1_000)
    protocol: int = 1
    task_types: list[Name] | None = Field(None, max_length=10_000)
    queues: list[Name] | None = Field(None, max_length=10_000)
    labels: list[Name] = Field(default_factory=list, max_length=1_000)
    wait_seconds: float = Field(0, ge=0, le=LONGEST_WAIT_MS // 1000)
    orders: KnownOrders = Field(default_factory=KnownOrders)


class Claim(ClaimTerms):
    """A claim (docs/protocol.md)."""

    worker_id: Name
    instance_id: Key
    host: Any = Field(None, description="of one that waits, an object as in a heartbeat; anything else is ignored")


class ResultRef(Tolerant):
    """A result that was put before its report."""

    bytes: int = Field(ge=0, le=MAX_INT)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    media_type: str = Field(max_length=128)


class LogLines(Tolerant):
    """New lines of an attempt's log; `from` is the number of the first, counted from 0."""

    start: int = Field(ge=0, le=MAX_INT, alias="from")
    lines: list[Annotated[str, Field(max_length=65_536)]] = Field(max_length=1_000)


class Outcome(Tolerant):
    """What one lease ended in."""

    store_id: str = Field(max_length=64)
    lease_id: LeaseId
    task_id: TaskId | None = None
    status: Literal["completed", "failed", "released", "snoozed", "cancelled"]
    result: Any = Field(None, description="any JSON value")
    result_ref: ResultRef | None = None
    error: str | None = Field(None, max_length=2**20)
    run_seconds: float | None = Field(None, ge=0, le=TEN_YEARS)
    snooze_seconds: float = Field(0, ge=0, le=TEN_YEARS)
    log: LogLines | None = None
    retry: bool = True
    crashed: bool = False


class Report(Tolerant):
    """Outcomes; each is checked by itself, so that a bad one harms no other."""

    worker_id: Name
    instance_id: Key
    outcomes: list[Any] = Field(max_length=1_000, description="each an Outcome")
    claim: ClaimTerms | None = None


class ClassicReport(Tolerant):
    """A report in the classic form; the fields beyond these are the result."""

    model_config = ConfigDict(extra="allow", strict=True, defer_build=True)
    task_id: TaskId
    worker_id: Name
    status: Literal["completed", "failed"]
    lease_id: LeaseId | None = None
    error: str | None = Field(None, max_length=2**20)


class ProgressMade(Tolerant):
    """How far a task is."""

    done: float
    total: float | None = None


class ListedLease(Tolerant):
    """A lease that the worker still holds, and what is new about it."""

    lease_id: LeaseId
    progress: ProgressMade | None = None
    note: str | None = Field(None, max_length=4096)
    checkpoint: JsonValue = None
    partial: JsonValue = None
    log: LogLines | None = None


class Registration(Tolerant):
    """What a worker is: its task types with their payload schemas, and what `GET /workers` shows."""

    task_types: dict[Name, dict[str, Any] | None] = Field(default_factory=dict, max_length=10_000)
    concurrency: int | None = Field(None, ge=0, le=MAX_INT)
    queues: list[Name] | None = Field(None, max_length=10_000)
    labels: list[Name] = Field(default_factory=list, max_length=1_000)
    version: str | None = Field(None, max_length=128)
    python: str | None = Field(None, max_length=128)
    slots: dict[Name, int] = Field(default_factory=dict, max_length=10_000)
    defaults: dict[Name, Any] = Field(default_factory=dict, max_length=10_000, description="each a TypeDefaults")


class WorkerOrder(Strict):
    """What a worker shall do: run, be quiet (finish, take nothing new), sleep (also give back what it has not begun),
    or stop."""

    state: Literal["run", "quiet", "sleep", "stop"]
    when: Literal["after", "now"] | None = Field(
        None, description="of sleep and stop: after the running tasks (default), or now"
    )


class TypeDefaults(Tolerant):
    """What the tasks of a type want unless they say otherwise."""

    max_attempts: int | None = Field(None, ge=1, le=1000)
    timeout_seconds: float | None = Field(None, gt=0, le=TEN_YEARS)
    backoff: Backoff | None = None


class Forgive(Strict):
    """A worker that shall get a type again, without a type all of them."""

    worker_id: Name
    task_type: Name | None = None


class Heartbeat(Tolerant):
    """A heartbeat (docs/protocol.md)."""

    worker_id: Name
    instance_id: Key
    seq: int = Field(ge=1, le=MAX_INT)
    store_id: str | None = Field(None, max_length=64)
    leases: list[ListedLease] = Field(default_factory=list, max_length=100_000)
    claims_in_flight: list[RequestId] = Field(default_factory=list, max_length=1_000)
    host: dict[str, Any] | None = None
    register_: Registration | None = Field(None, alias="register")
    leaving: bool = Field(False, description="the last one of an instance that holds nothing: it counts as gone")


class ClassicHeartbeat(Tolerant):
    """A heartbeat in the classic form."""

    worker_id: Name
    status: str = Field("alive", max_length=128)
    metadata: dict[str, Any] | None = None


class Death(Tolerant):
    """The death of an instance, reported by the one who adopts its outbox."""

    store_id: str = Field(max_length=64)
    worker_id: Name
    instance_id: Key
    dead_worker_id: Name
    dead_instance_id: Key
    outbox_leases: list[LeaseId] = Field(default_factory=list, max_length=1_000_000)
    started_leases: list[LeaseId] = Field(default_factory=list, max_length=1_000_000)
