"""What workers say: claims, reports, heartbeats, deaths (docs/protocol.md)."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, JsonValue

from dispatcher.config import TEN_YEARS
from dispatcher.queue.terms import LONGEST_WAIT_MS
from dispatcher.routes.models import MAX_INT, Backoff, Key, LeaseId, Name, RequestId, TaskId, Tolerant


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
    brief: bool = Field(False, description="most tasks come as arrays, what they have in common once")


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
    outcomes: list[Any] = Field(
        max_length=1_000,
        description="each an Outcome, or a success as an array: store_id, task_id, lease_id, run_ms, result",
    )
    brief: bool = Field(False, description="when all are accepted, `verdicts` is that one word")
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


class TypeDefaults(Tolerant):
    """What the tasks of a type want unless they say otherwise."""

    max_attempts: int | None = Field(None, ge=1, le=1000)
    timeout_seconds: float | None = Field(None, gt=0, le=TEN_YEARS)
    backoff: Backoff | None = None


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
